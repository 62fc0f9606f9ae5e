"""Recording trajectories: a vector environment is stepped, its rows are sorted by episode."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from lightning_rl.buffers import RolloutBuffer, allocate, select
from lightning_rl.envs import EnvLike, EnvRunner, Step, make_evaluation_env
from lightning_rl.errors import ConfigError
from lightning_rl.trajectory_files import TrajectoryWriter

BLOCK_ROWS = 8192  # rows recorded before they are sorted by episode,
BLOCK_BYTES = 2**26  # or so much of observations,
BLOCK_SECONDS = 1.0  # or for so long, so that the progress bar moves
HELD_BYTES = 2**28  # of running episodes: beyond it, they are stored in parts


class _Piece(NamedTuple):
    """A part of an episode, recorded in one block."""

    observations: Any  # (L, ...) what the actions answered, or a dict of them
    actions: NDArray[Any]
    rewards: NDArray[np.float32]
    last: Any  # (...) the observation after the last step


class Recorder:
    """Steps a vector environment and sorts what it returns by episode.

    Args:
        env: the vector environment; it is reset first.
        writer: where whole episodes go.
        seed: of the first sub-environment.
    """

    def __init__(self, env: VectorEnv, writer: TrajectoryWriter, seed: int) -> None:
        self.runner, self.writer, self.seed = EnvRunner(env), writer, seed
        writer.seeds = [seed]
        self._running: list[list[_Piece]] = [[] for _ in range(env.num_envs)]
        self._starts = [True] * env.num_envs
        self._held = 0

    def record(self, act: Callable[[Any], NDArray[Any]], num_steps: int, progress: bool) -> None:
        """Record exactly `num_steps` env steps, acting by `act(observations)`."""
        env = self.runner.env
        spaces = env.single_observation_space, env.single_action_space
        buffer = RolloutBuffer(_block_length(env), env.num_envs, *spaces)
        self.runner.reset(seed=self.seed)
        left = num_steps
        with tqdm(total=num_steps, unit="step", disable=not progress) as bar:
            while left > 0:
                recorded = self._record_block(buffer, act, left)
                left -= recorded
                bar.update(recorded)

    def _record_block(
        self, buffer: RolloutBuffer, act: Callable[[Any], NDArray[Any]], left: int
    ) -> int:
        """Fill a block, or as much of it as has `left` env steps or a second; count them."""
        buffer.start(self.runner.observations)
        recorded, deadline = 0, time.monotonic() + BLOCK_SECONDS
        try:
            while recorded < left and buffer.size < buffer.num_steps:
                actions = act(self.runner.observations)
                step = self._leave_out(left - recorded, self.runner.step(actions))
                buffer.add(actions, {}, step)
                recorded += int(step.valid.sum())
                if time.monotonic() > deadline:
                    break
        finally:  # also what came before an error is kept
            self._sort_all(buffer)
        return recorded

    def _leave_out(self, left: int, step: Step) -> Step:
        """Leave out the last sub-environments of the last step, if `left` are less than all."""
        rows = np.flatnonzero(step.valid)[left:]
        if not len(rows):
            return step
        valid = step.valid.copy()
        valid[rows] = False
        return step._replace(valid=valid)

    def _sort_all(self, buffer: RolloutBuffer) -> None:
        buffer.check_finite()
        for env_index in range(buffer.num_envs):
            self._sort(buffer, env_index)
        if self._held > HELD_BYTES:
            self.cut()

    def _sort(self, buffer: RolloutBuffer, env_index: int) -> None:
        """Cut a sub-environment's rows where episodes end; write those that did."""
        t = slice(buffer.size)
        valid = buffer.valid[t, env_index]
        terminated, truncated = (
            flags[t, env_index] & valid for flags in (buffer.terminated, buffer.truncated)
        )
        ended = terminated | truncated
        follows = valid[1:] & valid[:-1] & ~ended[:-1]  # row t + 1 goes on where row t was
        firsts = np.flatnonzero(valid & ~np.insert(follows, 0, False))
        lasts = np.flatnonzero(valid & ~np.append(follows, False))
        for first, last in zip(firsts, lasts, strict=True):
            self._keep(buffer, env_index, int(first), int(last))
            if ended[last]:
                self._write(env_index, bool(terminated[last]), bool(truncated[last]))

    def _keep(self, buffer: RolloutBuffer, env_index: int, first: int, last: int) -> None:
        rows = (slice(first, last + 1), env_index)
        after = buffer.final_observations.get(
            (last, env_index), select(buffer.observations, (last + 1, env_index))
        )
        piece = _Piece(
            copy.deepcopy(select(buffer.observations, rows)),
            buffer.actions[rows].copy(),
            buffer.rewards[rows].copy(),
            copy.deepcopy(after),
        )
        self._running[env_index].append(piece)
        self._held += sum(part.nbytes for part in _leaves(piece.observations))

    def _write(self, env_index: int, terminated: bool, truncated: bool) -> None:
        pieces, self._running[env_index] = self._running[env_index], []
        observations = _join([*(piece.observations for piece in pieces)], pieces[-1].last)
        self._held -= sum(part.nbytes for piece in pieces for part in _leaves(piece.observations))
        self.writer.add(
            observations,
            np.concatenate([piece.actions for piece in pieces]),
            np.concatenate([piece.rewards for piece in pieces]),
            terminated,
            truncated,
            self._starts[env_index],
        )
        self._starts[env_index] = terminated or truncated

    def cut(self) -> None:
        """Write the episodes that run, as far as they are recorded."""
        for env_index, pieces in enumerate(self._running):
            if pieces:
                self._write(env_index, terminated=False, truncated=False)

    def close(self) -> None:
        """Write everything recorded.

        Raises:
            DatasetError: if that fails.
        """
        self.cut()
        self.writer.flush()


def _leaves(observations: Any) -> list[NDArray[Any]]:
    return list(observations.values()) if isinstance(observations, dict) else [observations]


def _join(parts: list[Any], last: Any) -> Any:
    """Join parts of an episode's observations and the last one, (L + 1, ...)."""
    if isinstance(parts[0], dict):
        return {key: _join([part[key] for part in parts], last[key]) for key in parts[0]}
    return np.concatenate([*parts, np.asarray(last)[None]])


def _block_length(env: VectorEnv) -> int:
    """Choose the steps of a block, so that neither its rows nor its bytes are too many."""
    sizes = [part.nbytes for part in _leaves(allocate(env.single_observation_space, env.num_envs))]
    return max(1, min(BLOCK_ROWS // env.num_envs, BLOCK_BYTES // max(1, sum(sizes))))


@contextmanager
def open_recorder(
    env: EnvLike, directory: str | Path, num_steps: int, seed: int, num_envs: int, append: bool
) -> Iterator[Recorder]:
    """Open a directory and a copy of the environment; close both, whatever happens."""
    for name, number in (("num_steps", num_steps), ("num_envs", num_envs)):
        if number < 1:
            raise ConfigError(f"{name}={number}; expected at least 1.")
    vector_env = make_evaluation_env(env, min(num_envs, num_steps))
    try:
        writer = TrajectoryWriter(
            directory,
            vector_env.single_observation_space,
            vector_env.single_action_space,
            _env_id(vector_env),
            append,
        )
        recorder = Recorder(vector_env, writer, seed + writer.num_steps)
        try:
            yield recorder
        finally:
            recorder.close()
    finally:
        vector_env.close()


def _env_id(env: VectorEnv) -> str | None:
    """Give the name an environment is registered by, if it is."""
    sub_envs = getattr(env.unwrapped, "envs", None)
    spec = env.spec or (sub_envs[0].spec if sub_envs else None)
    return None if spec is None else spec.id
