"""The history of training episodes: when each ended, what it returned, how long it was."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

COLUMNS = ("env_step", "episode_return", "episode_length", "seconds")


class EpisodeHistory:
    """Every finished training episode of all processes, in the order of their ends.

    Columns (one entry an episode): `env_step`, total env steps when it ended; `episode_return`,
    its undiscounted sum of raw rewards; `episode_length`, its env steps; `seconds`, wall time
    since training began.

    Example:
        >>> history = EpisodeHistory()
        >>> history.append(env_step=20, episode_return=20.0, episode_length=20)
        >>> len(history), history.mean_return()
        (1, 20.0)
    """

    def __init__(self) -> None:
        self._rows = {name: array("d") for name in COLUMNS}  # which grow as lists do
        self._start = time.perf_counter()
        self._num_joined = 0  # episodes that all processes have

    def __len__(self) -> int:
        """Count the episodes."""
        return len(self._rows["env_step"])

    def __repr__(self) -> str:
        """Say how many there are, and how good the last were."""
        if not len(self):
            return "<EpisodeHistory: no episode has ended yet>"
        mean = f"mean return {self.mean_return():.2f} of the last 100"
        return f"<EpisodeHistory: {len(self):,} episodes, {mean}>"

    def __getitem__(self, column: str) -> NDArray[np.float64]:
        """Give one column as an array, (episodes,)."""
        return np.array(self._rows[column])  # a copy: an array that is viewed can't grow

    def append(self, env_step: int, episode_return: float, episode_length: int) -> None:
        """Record an episode that has just ended."""
        self.extend(env_step, np.array([episode_return]), np.array([episode_length]))

    def extend(self, env_step: int, returns: NDArray[Any], lengths: NDArray[Any]) -> None:
        """Record the episodes, (E,), that have just ended in one step."""
        seconds = time.perf_counter() - self._start
        self._rows["env_step"].extend([float(env_step)] * len(returns))
        self._rows["episode_return"].extend(returns.tolist())
        self._rows["episode_length"].extend(lengths.tolist())
        self._rows["seconds"].extend([seconds] * len(returns))

    def join(self, gather_rows: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        """Exchange what was recorded since the last time with the other processes.

        Args:
            gather_rows: joins rows, (E, 4), of all processes; all must call it.
        """
        rows = gather_rows(self.rows(self._num_joined))
        rows = rows[rows[:, 0].argsort(kind="stable")]  # by env step
        for name, column in zip(COLUMNS, rows.T, strict=True):
            self._rows[name][self._num_joined :] = array("d", column.tolist())
        self._num_joined = len(self)

    def rows(self, start: int = 0) -> NDArray[np.float64]:
        """Give all columns of the episodes from number `start` on, (E, 4)."""
        return np.array([self._rows[name][start:] for name in COLUMNS]).T

    def add_rows(self, rows: NDArray[np.float64]) -> None:
        """Append what another history's `rows` gave."""
        for name, column in zip(COLUMNS, rows.reshape(-1, len(COLUMNS)).T, strict=True):
            self._rows[name].extend(column.tolist())

    def start_clock(self) -> None:
        """Let `seconds` go on from the last recorded episode, which all processes have."""
        self._num_joined = len(self)
        last = self._rows["seconds"][-1] if len(self) else 0.0
        self._start = time.perf_counter() - last

    def mean_return(self, episodes: int = 100) -> float:
        """Average the returns of the last episodes; NaN before the first one has ended."""
        recent = self._rows["episode_return"][-episodes:]
        return float(np.mean(recent)) if recent else float("nan")

    def mean_length(self, episodes: int = 100) -> float:
        """Average the lengths of the last episodes, in env steps; NaN before the first."""
        recent = self._rows["episode_length"][-episodes:]
        return float(np.mean(recent)) if recent else float("nan")

    def to_pandas(self) -> Any:
        """Give the history as a `pandas.DataFrame` (pandas must be installed)."""
        import pandas  # an optional dependency, needed here only

        return pandas.DataFrame({name: self[name] for name in COLUMNS})

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Give all columns as float64 tensors."""
        return {name: torch.from_numpy(self[name]) for name in COLUMNS}

    def load_state_dict(self, state: dict[str, torch.Tensor]) -> None:
        """Replace the history by a saved one."""
        self._rows = {name: array("d", state[name].tolist()) for name in COLUMNS}
        self.start_clock()
