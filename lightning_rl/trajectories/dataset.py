"""Stored trajectories, read by a DataLoader."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray
from torch.utils.data import Dataset

from lightning_rl.buffers.arrays import observations_in, select, to_tensor
from lightning_rl.errors import ConfigError, StateError
from lightning_rl.trajectories.files import TrajectoryFiles
from lightning_rl.trajectories.manifest import BEGINS_WITH_RESET, LENGTH, TERMINATED, TRUNCATED
from lightning_rl.trajectories.writer import TrajectoryWriter


class TrajectoryDataset(Dataset[dict[str, Any]]):
    """Stored trajectories: windows of consecutive env steps, none across an episode's end.

    Item i is a dict of tensors: `observations`, `actions`, `rewards`, `next_observations`,
    `terminated`, `truncated`. With `window=1` it is one transition; else every tensor has a first
    axis of `window` consecutive env steps. `dataset[[3, 1, 4]]` is a batch, (B, ...) or
    (B, window, ...), fetched at once; so are the batches of a `DataLoader(dataset, batch_size=256,
    shuffle=True)`. A `collate_fn` of your own is given that batch, uncollated: let it call
    `torch.utils.data.default_collate` first.

    The files are mapped, not loaded, so they may be larger than memory. What is written at once, up
    to 32 MB, is compared with its checksum when something of it is first read. For many millions of
    windows, avoid `shuffle=True`, which lists them all: `RandomSampler(dataset, replacement=True,
    num_samples=1_000_000)` as the `sampler` does not.

    Args:
        directory: where `make_random_trajectory` or `make_trajectory` put them.
        window: consecutive env steps of an item.

    Attributes:
        directory: absolute.
        observation_space: of one environment.
        action_space: of one environment; actions are stored as it took them.
        env_id: the environment's name, or None where it had none.
        seeds: those the trajectories were collected with, in order.
        window: as given.
        episodes: (E,) int64, which of the stored episodes these are.
        episode_lengths: (E,) int64, in env steps.
        num_episodes: E, with those that were cut.
        num_steps: env steps of these episodes.

    Raises:
        DatasetError: if the directory holds no dataset, or a damaged one; on reading, if what is
            read was altered.
        ConfigError: if `window` is below 1, or longer than every episode.

    Example:
        >>> import tempfile
        >>> from lightning_rl import make_random_trajectory
        >>> from torch.utils.data import DataLoader
        >>> directory = tempfile.mkdtemp()
        >>> dataset = make_random_trajectory("CartPole-v1", directory, 500, progress=False)
        >>> len(dataset), dataset[0]["observations"].shape
        (500, torch.Size([4]))
        >>> pairs = TrajectoryDataset(directory, window=2)
        >>> next(iter(DataLoader(pairs, batch_size=32)))["rewards"].shape
        torch.Size([32, 2])
    """

    def __init__(self, directory: str | Path, window: int = 1) -> None:
        self._files = TrajectoryFiles(directory)
        self._episode_table = self._files.read_episodes()
        # (all episodes,) the row of the first env step
        self._first = (
            np.cumsum(self._episode_table[:, LENGTH], dtype=np.int64)
            - self._episode_table[:, LENGTH]
        )
        manifest = self._files.manifest
        self.directory, self.env_id = self._files.directory, manifest.env_id
        self.observation_space = manifest.observation_space
        self.action_space = manifest.action_space
        self.seeds = list(dict.fromkeys(seed for chunk in manifest.chunks for seed in chunk.seeds))
        self._choose(np.arange(len(self._episode_table)), window)

    def _choose(self, episodes: NDArray[np.int64], window: int) -> None:
        """Let this be the windows of some episodes."""
        self.window, self.episodes, self.num_episodes = window, episodes, len(episodes)
        self.episode_lengths = self._episode_table[episodes, LENGTH].astype(np.int64)
        self.num_steps = int(self.episode_lengths.sum())
        if not 1 <= window <= self.episode_lengths.max():
            raise ConfigError(
                f"window={window}; expected 1 to {self.episode_lengths.max()}, the env steps of "
                f"the longest of {len(episodes)} episodes."
            )
        windows = np.maximum(self.episode_lengths - window + 1, 0)
        self._ends = np.cumsum(windows)  # (E,) windows up to the end of each episode
        self._begins = self._ends - windows

    @property
    def start_observations(self) -> Any:
        """(S, ...) the observations after each reset, or a dict of them."""
        starting = self.episodes[self._episode_table[self.episodes, BEGINS_WITH_RESET] == 1]
        observations = self._observations(self._first[starting] + starting, 1)
        return to_tensor(select(observations, (slice(None), 0)))

    def _observations(self, first_rows: NDArray[np.int64], length: int) -> Any:
        """Read B runs of observations, (B, length, ...), or a dict of them."""
        names = [name for name in self._files.fields if name.startswith("observations")]
        return observations_in({n: self._files.read(n, first_rows, length) for n in names})

    def __len__(self) -> int:
        """Count the windows."""
        return int(self._ends[-1])

    def __getitem__(self, index: Any) -> dict[str, Any]:
        """Fetch a window, or a batch of windows for a list of indices."""
        indices = np.asarray(index)
        if indices.dtype.kind not in "iu" or indices.ndim > 1:
            raise TypeError(f"got the index {index!r}; expected an integer or a list of them")
        runs = self._fetch(np.atleast_1d(indices))
        wanted = (slice(None) if indices.ndim else 0, 0 if self.window == 1 else slice(None))
        return dict(to_tensor(select(runs, wanted)))  # (B or none, k or none, ...)

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """Fetch a batch for a DataLoader, which then collates it."""
        return [_FetchedBatch(self[indices])]

    def _fetch(self, indices: NDArray[Any]) -> dict[str, Any]:
        size = len(self)
        if len(indices) and not -size <= indices.min() <= indices.max() < size:
            raise IndexError(f"indices from {indices.min()} to {indices.max()} of {size} windows")
        indices = np.where(indices < 0, indices + size, indices)
        chosen = np.searchsorted(self._ends, indices, side="right")
        episodes = self.episodes[chosen]
        first_rows = self._first[episodes] + indices - self._begins[chosen]
        return self._read(episodes, first_rows, self.window)

    def _read(
        self, episodes: NDArray[np.int64], first_rows: NDArray[np.int64], length: int
    ) -> dict[str, Any]:
        """Read B runs of `length` env steps: arrays (B, length, ...)."""
        observations = self._observations(
            first_rows + episodes, length + 1
        )  # an episode has one more
        table = self._episode_table[episodes]
        last = self._first[episodes] + table[:, LENGTH] - 1
        ends = np.arange(length) == (last - first_rows)[:, None]
        return {
            "observations": copy.deepcopy(select(observations, (slice(None), slice(-1)))),
            "actions": self._files.read("actions", first_rows, length),
            "rewards": self._files.read("rewards", first_rows, length),
            "next_observations": copy.deepcopy(select(observations, (slice(None), slice(1, None)))),
            "terminated": ends & (table[:, TERMINATED, None] == 1),
            "truncated": ends & (table[:, TRUNCATED, None] == 1),
        }

    def with_window(self, window: int) -> TrajectoryDataset:
        """View the same episodes in windows of another size.

        Raises:
            ConfigError: if `window` is below 1, or longer than every episode.
        """
        return self._view(self.episodes, window)

    def _view(self, episodes: NDArray[np.int64], window: int) -> TrajectoryDataset:
        view = copy.copy(self)
        view._choose(episodes, window)
        return view

    def split(
        self, fraction: float = 0.9, seed: int = 0
    ) -> tuple[TrajectoryDataset, TrajectoryDataset]:
        """Split by episode, so that no part knows the other's states. Nothing is copied.

        Args:
            fraction: of the episodes that go to the first part; each part gets at least one.
            seed: which ones they are.

        Raises:
            ConfigError: if `fraction` is not between 0 and 1, or there is one episode only, or a
                part has none as long as the window.
        """
        if not 0 < fraction < 1 or self.num_episodes < 2:
            raise ConfigError(
                f"fraction={fraction} of {self.num_episodes} episodes; expected a number between 0 "
                "and 1, and at least 2 episodes. Collect more env steps."
            )
        first = min(max(round(fraction * self.num_episodes), 1), self.num_episodes - 1)
        shuffled = np.random.default_rng(seed).permutation(self.episodes)
        parts = np.sort(shuffled[:first]), np.sort(shuffled[first:])
        return self._view(parts[0], self.window), self._view(parts[1], self.window)

    def episode(self, number: int) -> dict[str, Any]:
        """Fetch one whole episode as an item of its L env steps, (L, ...).

        Raises:
            IndexError: if there is no such episode.
        """
        chosen = self.episodes[[number]]
        runs = self._read(chosen, self._first[chosen], int(self.episode_lengths[number]))
        return dict(to_tensor(select(runs, 0)))

    def copy_to(self, directory: str | Path, append: bool = False) -> TrajectoryDataset:
        """Copy these episodes to a directory; datasets are joined by appending one by one.

        Raises:
            ConfigError, SpaceError, DatasetError: see `make_random_trajectory`.
        """
        writer = TrajectoryWriter(
            directory, self.observation_space, self.action_space, self.env_id, append
        )
        with contextlib.closing(writer):
            writer.seeds = self.seeds
            for chosen in self.episodes:
                self._add_to(writer, chosen)
            writer.flush()
        return TrajectoryDataset(directory, self.window)

    def _add_to(self, writer: TrajectoryWriter, chosen: int) -> None:
        """Add a stored episode to another directory."""
        length, begins, terminated, truncated = self._episode_table[chosen].tolist()
        first = self._first[[chosen]]
        observations = select(self._observations(first + chosen, length + 1), 0)
        actions = self._files.read("actions", first, length)[0]
        rewards = self._files.read("rewards", first, length)[0]
        writer.add(observations, actions, rewards, terminated, truncated, begins)

    def check_spaces(self, observation_space: Space, action_space: Space) -> None:
        """Check that an environment has the spaces of these trajectories.

        Raises:
            SpaceError: naming those that differ.
        """
        self._files.manifest.check_spaces(observation_space, action_space)

    def verify(self) -> None:
        """Compare every byte of the files with its checksum now, not when it is first read.

        Raises:
            DatasetError: naming the file that was altered.
        """
        self._files.verify()


class _FetchedBatch(dict[str, Any]):
    """A batch on its way through `default_collate`, which would stack a list of items.

    Collating a list of one dict copies that dict and updates it, key by key. This one has no keys,
    and its copy is the batch.
    """

    def __init__(self, batch: dict[str, Any]) -> None:
        super().__init__()
        self.batch = batch

    def __copy__(self) -> dict[str, Any]:
        return self.batch

    def __missing__(self, key: str) -> None:
        raise StateError(
            f"a collate_fn asked for {key!r} of a single item, but a batch is fetched at once. Let "
            "it call torch.utils.data.default_collate(items) first: that gives the batch."
        )
