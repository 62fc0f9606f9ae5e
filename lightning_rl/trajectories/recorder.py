"""Recording trajectories: env steps are sorted by episode, for a writer."""

from __future__ import annotations

import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from lightning_rl.buffers.arrays import allocate, named_arrays, select, write
from lightning_rl.buffers.rollout import RolloutBuffer
from lightning_rl.envs.runner import EnvRunner
from lightning_rl.envs.separate import separate_env
from lightning_rl.envs.vectorize import EnvLike
from lightning_rl.settings import count, seed_number
from lightning_rl.trajectories.writer import TrajectoryWriter

BLOCK_ROWS = 8192  # rows recorded before they are sorted by episode,
BLOCK_BYTES = 2**26  # or so much of observations,
BLOCK_SECONDS = 1.0  # or for so long, so that the progress bar moves
HELD_BYTES = 2**28  # of running episodes: beyond it, they are stored in parts


class Recorder:
    """Steps a vector environment and sorts what it returns by episode, for a writer."""

    def __init__(self, env: VectorEnv, writer: TrajectoryWriter, seed: int) -> None:
        self.runner, self.writer, self.seed = EnvRunner(env), writer, seed
        writer.seeds = [seed]
        # What each sub-environment has recorded of its episode: observations, actions, rewards.
        self._running: list[list[tuple[Any, ...]]] = [[] for _ in range(env.num_envs)]
        self._begins_with_reset = [True] * env.num_envs
        parts = named_arrays(allocate(env.single_observation_space, 1)).values()
        self._row_bytes = max(1, sum(part.nbytes for part in parts))

    def record(self, act: Callable[[Any], NDArray[Any]], num_steps: int, progress: bool) -> None:
        """Record exactly `num_steps` env steps, acting by `act(observations)`."""
        num_steps, runner, env = count("num_steps", num_steps), self.runner, self.runner.env
        length = max(1, min(BLOCK_ROWS, BLOCK_BYTES // self._row_bytes) // env.num_envs)
        spaces = env.single_observation_space, env.single_action_space
        buffer = RolloutBuffer(length, env.num_envs, *spaces)
        buffer.actions = allocate(spaces[1], length, env.num_envs)  # as the environment takes them
        runner.reset(seed=self.seed)
        with tqdm(total=num_steps, unit="step", disable=not progress) as bar:
            while runner.env_steps < num_steps:
                self._record_block(buffer, act, num_steps)
                bar.update(min(runner.env_steps, num_steps) - bar.n)

    def _record_block(
        self, buffer: RolloutBuffer, act: Callable[[Any], NDArray[Any]], num_steps: int
    ) -> None:
        """Fill a block, or as much of it as a second allows, or `num_steps` in all."""
        runner, deadline = self.runner, time.monotonic() + BLOCK_SECONDS
        buffer.start(runner.observations)
        try:
            while buffer.size < buffer.num_steps and runner.env_steps < num_steps:
                actions = act(runner.observations)
                step = runner.step(actions)
                if (surplus := runner.env_steps - num_steps) > 0:  # the last ones are left out
                    kept = np.cumsum(step.valid) <= step.valid.sum() - surplus
                    step = step._replace(valid=step.valid & kept)
                buffer.add(actions, {}, step)
                if time.monotonic() > deadline:
                    break
        finally:  # also what came before an error is kept
            buffer.check_finite()
            for env_index in range(buffer.num_envs):
                self._sort(buffer, env_index)
        held = sum(len(piece[-1]) for pieces in self._running for piece in pieces)
        if held * self._row_bytes > HELD_BYTES:
            self.cut()

    def _sort(self, buffer: RolloutBuffer, env_index: int) -> None:
        """Cut a sub-environment's rows where episodes end; write those that did."""
        rows = np.flatnonzero(buffer.valid[: buffer.size, env_index])
        at = (rows, env_index)
        terminated, truncated = buffer.terminated[at], buffer.truncated[at]
        first = 0
        for last in np.flatnonzero(terminated | truncated).tolist():
            self._keep(buffer, env_index, rows[first : last + 1])
            self._write(env_index, bool(terminated[last]), bool(truncated[last]))
            first = last + 1
        if first < len(rows):
            self._keep(buffer, env_index, rows[first:])

    def _keep(self, buffer: RolloutBuffer, env_index: int, rows: NDArray[np.int64]) -> None:
        """Copy consecutive rows of one episode, with the observation after the last."""
        first, last = int(rows[0]), int(rows[-1])
        observations = select(buffer.observations, (slice(first, last + 2), env_index))
        steps = (slice(first, last + 1), env_index)
        piece = copy.deepcopy((observations, buffer.actions[steps], buffer.rewards[steps]))
        if (last, env_index) in buffer.final_observations:
            write(piece[0], -1, buffer.final_observations[last, env_index])
        self._running[env_index].append(piece)

    def _write(self, env_index: int, terminated: bool, truncated: bool) -> None:
        observations, actions, rewards = zip(*self._running[env_index], strict=True)
        self._running[env_index] = []
        self.writer.add(
            _join(observations),
            np.concatenate(actions),
            np.concatenate(rewards),
            terminated,
            truncated,
            self._begins_with_reset[env_index],
        )
        self._begins_with_reset[env_index] = terminated or truncated

    def cut(self) -> None:
        """Write the episodes that run, as far as they are recorded."""
        for env_index, pieces in enumerate(self._running):
            if pieces:
                self._write(env_index, terminated=False, truncated=False)


def _join(pieces: Any) -> Any:
    """Join an episode's observations: each piece begins with the last one of the piece before."""
    if isinstance(pieces[0], dict):
        return {key: _join([piece[key] for piece in pieces]) for key in pieces[0]}
    return np.concatenate([*(piece[:-1] for piece in pieces[:-1]), pieces[-1]])


@contextlib.contextmanager
def open_recorder(
    env: EnvLike, directory: str | Path, num_steps: int, seed: int, num_envs: int, append: bool
) -> Iterator[Recorder]:
    """Open a directory and a copy of the environment; close both, whatever happens."""
    num_steps, num_envs = count("num_steps", num_steps), count("num_envs", num_envs)
    seed = seed_number(seed)
    with separate_env(env, min(num_envs, num_steps)) as vector_env:
        spaces = vector_env.single_observation_space, vector_env.single_action_space
        writer = TrajectoryWriter(directory, *spaces, _env_id(vector_env), append)
        with contextlib.closing(writer):
            recorder = Recorder(vector_env, writer, seed + writer.num_steps)
            try:
                yield recorder
            finally:
                recorder.cut()
                writer.flush()


def _env_id(env: VectorEnv) -> str | None:
    """Give the name an environment is registered by, if it is."""
    sub_envs = getattr(env.unwrapped, "envs", None)
    spec = env.spec or (sub_envs[0].spec if sub_envs else None)
    return None if spec is None else spec.id
