"""Recording trajectories: env steps are sorted by episode, and episodes appended to the files."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Space
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from lightning_rl.buffers import RolloutBuffer, allocate, select, write
from lightning_rl.envs import EnvLike, EnvRunner, make_evaluation_env
from lightning_rl.errors import ConfigError, DatasetError, ShapeError
from lightning_rl.storage import named
from lightning_rl.trajectory_files import (
    MANIFEST,
    Chunk,
    Field,
    Manifest,
    TrajectoryFiles,
    count_rows,
    read_manifest,
)

FLUSH_BYTES = 2**25  # episodes are written when so much of them has gathered,
FLUSH_SECONDS = 30.0  # or when the last time is so long ago
BLOCK_ROWS = 8192  # rows recorded before they are sorted by episode,
BLOCK_BYTES = 2**26  # or so much of observations,
BLOCK_SECONDS = 1.0  # or for so long, so that the progress bar moves
HELD_BYTES = 2**28  # of running episodes: beyond it, they are stored in parts


class TrajectoryWriter:
    """Appends episodes to a directory, chunk by chunk.

    A chunk is written behind the rows that the manifest counts, and counted only once it is on the
    disk, by a manifest that replaces the old one in one step. So a full disk or a killed process
    costs the episodes since the last chunk, and nothing older.

    Its arguments and errors are those of `make_random_trajectory`; the spaces are of one
    environment.
    """

    def __init__(
        self,
        directory: str | Path,
        observation_space: Space,
        action_space: Space,
        env_id: str | None = None,
        append: bool = False,
    ) -> None:
        self.directory = Path(directory).absolute()
        self.manifest = Manifest(observation_space, action_space, env_id)
        self.fields = self.manifest.fields  # raises before the first env step, not after the last
        if os.path.lexists(self.directory / MANIFEST):
            if not append:
                raise ConfigError(
                    f"{str(self.directory)!r} holds trajectories already. Give another directory, "
                    "or append=True to add to them."
                )
            self.manifest = TrajectoryFiles(self.directory).manifest
            self.manifest.check_spaces(observation_space, action_space)
        elif any(os.path.lexists(self.directory / field.file) for field in self.fields.values()):
            raise ConfigError(
                f"{str(self.directory)!r} has files of the names that trajectories have, but no "
                f"{MANIFEST}: they are something else, or their collection was killed before its "
                "first chunk. Give another directory, or delete them."
            )
        self.seeds: list[int] = []
        self._start_chunk()

    def _start_chunk(self) -> None:
        self._waiting: dict[str, list[NDArray[Any]]] = {name: [] for name in self.fields}
        self._num_bytes, self._num_steps, self._started = 0, 0, time.monotonic()

    @property
    def num_steps(self) -> int:
        """Env steps written and waiting to be."""
        return self.manifest.num_steps + self._num_steps

    def add(
        self,
        observations: Any,
        actions: NDArray[Any],
        rewards: NDArray[Any],
        terminated: bool,
        truncated: bool,
        starts: bool = True,
    ) -> None:
        """Add an episode of L env steps; it may be written later.

        Args:
            observations: (L + 1, ...), or a dict of them: the last is what the last step led to.
            actions: (L, ...), as the environment took them.
            rewards: (L,).
            terminated: the last state was final.
            truncated: a limit ended the episode. If it is neither, the recording was cut.
            starts: it begins with a reset, not in the middle of an episode.

        Raises:
            ShapeError: if an array has another shape. Nothing of the episode is kept.
            DatasetError: if it could not be written.
        """
        length = len(rewards)
        marks = np.array([[length, starts, terminated, truncated]])
        arrays = {**named(observations), "actions": actions, "rewards": rewards, "episodes": marks}
        got = {name: np.shape(array) for name, array in arrays.items()}
        expected = {
            n: (count_rows(n, length, 1), *field.row.shape) for n, field in self.fields.items()
        }
        if got != expected or length < 1:
            raise ShapeError(
                f"got an episode of {length} rewards with arrays of the shapes {got}; expected "
                f"{expected}, and at least one reward."
            )
        for name, field in self.fields.items():
            rows = np.asarray(arrays[name], dtype=field.row.base)
            self._waiting[name].append(rows)
            self._num_bytes += rows.nbytes
        self._num_steps += length
        if self._num_bytes > FLUSH_BYTES or time.monotonic() - self._started > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was added so far to the disk. If that fails, what was there stays readable."""
        if not self._num_steps:
            return
        exists = os.path.lexists(self.directory / MANIFEST)
        if self.manifest.chunks != (read_manifest(self.directory).chunks if exists else ()):
            raise DatasetError(
                f"somebody else has written to {str(self.directory)!r} meanwhile; "
                f"{self._num_steps} env steps were not. Let one at a time append."
            )
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._write_chunk()
        except OSError as error:
            self._forget_unfinished()
            raise DatasetError(
                f"{self._num_steps} env steps could not be written to {str(self.directory)!r}: "
                f"{error}. The {self.manifest.num_steps} env steps written before can be read. "
                "Make room, or give another directory."
            ) from error
        self._start_chunk()

    def _write_chunk(self) -> None:
        num_episodes = len(self._waiting["episodes"])
        sums = {field.file: self._append(name, field) for name, field in self.fields.items()}
        chunk = Chunk(self._num_steps, num_episodes, list(self.seeds), sums)
        manifest = replace(self.manifest, chunks=(*self.manifest.chunks, chunk))
        new = self.directory / f"{MANIFEST}.new"
        new.unlink(missing_ok=True)  # of a process that was killed
        with new.open("xb") as file:
            _write(file, manifest.to_json().encode())
        new.replace(self.directory / MANIFEST)
        self.manifest = manifest

    def _append(self, name: str, field: Field) -> str:
        """Write rows behind those that are counted, then the header; give their checksum."""
        rows = np.concatenate(self._waiting[name])
        content, total = rows.tobytes(), self.manifest.num_rows(name) + len(rows)
        path = self.directory / field.file
        with path.open("r+b" if os.path.lexists(path) else "xb") as file:
            file.seek(self.manifest.num_bytes(name))
            file.truncate()  # what an append that failed has left
            _write(file, content)
            file.seek(0)
            _write(file, field.header(total))
        return hashlib.sha256(content).hexdigest()

    def _forget_unfinished(self) -> None:
        """Give the room of a chunk that failed back to the disk, as far as that can be done."""
        with contextlib.suppress(OSError):
            (self.directory / f"{MANIFEST}.new").unlink()
        for name, field in self.fields.items():
            file = self.directory / field.file
            with contextlib.suppress(OSError):
                if self.manifest.chunks:
                    os.truncate(file, self.manifest.num_bytes(name))
                else:
                    file.unlink()


def _write(file: Any, content: bytes) -> None:
    """Write, and wait until it is on the disk."""
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


class Recorder:
    """Steps a vector environment and sorts what it returns by episode, for a writer."""

    def __init__(self, env: VectorEnv, writer: TrajectoryWriter, seed: int) -> None:
        self.runner, self.writer, self.seed = EnvRunner(env), writer, seed
        writer.seeds = [seed]
        # What each sub-environment has recorded of its episode: observations, actions, rewards.
        self._running: list[list[tuple[Any, ...]]] = [[] for _ in range(env.num_envs)]
        self._starts = [True] * env.num_envs
        parts = named(allocate(env.single_observation_space, 1)).values()
        self._row_bytes = max(1, sum(part.nbytes for part in parts))

    def record(self, act: Callable[[Any], NDArray[Any]], num_steps: int, progress: bool) -> None:
        """Record exactly `num_steps` env steps, acting by `act(observations)`."""
        runner, env = self.runner, self.runner.env
        length = max(1, min(BLOCK_ROWS, BLOCK_BYTES // self._row_bytes) // env.num_envs)
        spaces = env.single_observation_space, env.single_action_space
        buffer = RolloutBuffer(length, env.num_envs, *spaces)
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
            self._starts[env_index],
        )
        self._starts[env_index] = terminated or truncated

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
    for name, number in (("num_steps", num_steps), ("num_envs", num_envs)):
        if number < 1:
            raise ConfigError(f"{name}={number}; expected at least 1.")
    with contextlib.closing(make_evaluation_env(env, min(num_envs, num_steps))) as vector_env:
        spaces = vector_env.single_observation_space, vector_env.single_action_space
        writer = TrajectoryWriter(directory, *spaces, _env_id(vector_env), append)
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
