"""Writing trajectories: episodes are appended to the files, chunk by chunk."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from gymnasium import Space
from numpy.typing import NDArray

from lightning_rl.buffers.arrays import named_arrays
from lightning_rl.errors import ConfigError, DatasetError, ShapeError
from lightning_rl.locks import LOCK, lock_folder
from lightning_rl.regular_files import open_regular, replace_file
from lightning_rl.trajectories.files import TrajectoryFiles
from lightning_rl.trajectories.manifest import (
    MANIFEST,
    MAX_EPISODES,
    MAX_MANIFEST_BYTES,
    Chunk,
    Field,
    Manifest,
    count_rows,
    read_manifest,
)

FLUSH_BYTES = 2**25  # episodes are written when so much of them has gathered,
FLUSH_SECONDS = 30.0  # or when the last time is so long ago


class TrajectoryWriter:
    """Appends episodes to a directory, chunk by chunk.

    A chunk is written behind the rows that the manifest counts, and counted only once it is on the
    disk, by a manifest that replaces the old one in one step. So a full disk or a killed process
    costs the episodes since the last chunk, and nothing older. One writer at a time may have a
    directory, until it is closed, collected as garbage, or its process has ended.

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
        self.seeds: list[int] = []
        self._lock = self._take_lock()
        try:
            self._begin(append)
        except BaseException:
            self.close()
            raise

    def _take_lock(self) -> FileLock:
        self._is_new = not self.directory.exists()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            return lock_folder(self.directory, "append to these trajectories")
        except OSError as error:
            raise DatasetError(
                f"{str(self.directory)!r} could not be written: {error}. Give another directory."
            ) from error

    def close(self) -> None:
        """Let others append. What was not flushed is lost; an empty new directory is removed."""
        if self._is_new and not self.manifest.chunks:
            with contextlib.suppress(OSError):  # it holds something of somebody else's
                (self.directory / LOCK).unlink(missing_ok=True)
                self.directory.rmdir()
        self._lock.release()

    def _begin(self, append: bool) -> None:
        """Check what is in the directory, and go on behind it."""
        if os.path.lexists(self.directory / MANIFEST):
            if not append:
                raise ConfigError(
                    f"{str(self.directory)!r} holds trajectories already. Give another directory, "
                    "or append=True to add to them."
                )
            own, self.manifest = self.manifest, TrajectoryFiles(self.directory).manifest
            self.manifest.check_spaces(own.observation_space, own.action_space)
            self.fields = self.manifest.fields  # a Dict that is equal may have another order
        elif any(os.path.lexists(self.directory / field.file) for field in self.fields.values()):
            raise ConfigError(
                f"{str(self.directory)!r} has files of the names that trajectories have, but no "
                f"{MANIFEST}: they are something else, or their collection was killed before its "
                "first chunk. Give another directory, or delete them."
            )
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
        begins_with_reset: bool = True,
    ) -> None:
        """Add an episode of L env steps; it may be written later.

        Args:
            observations: (L + 1, ...), or a dict of them: the last is what the last step led to.
            actions: (L, ...), as the environment took them.
            rewards: (L,).
            terminated: the last state was final.
            truncated: a limit ended the episode. If it is neither, the recording was cut.
            begins_with_reset: it does not begin in the middle of an episode.

        Raises:
            ShapeError: if an array has another shape. Nothing of the episode is kept.
            DatasetError: if it could not be written.
        """
        length = len(rewards)
        row = np.array([[length, begins_with_reset, terminated, truncated]])
        arrays = {
            **named_arrays(observations),
            "actions": actions,
            "rewards": rewards,
            "episodes": row,
        }
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
            self._write_chunk()
        except (OSError, ValueError) as error:  # of what is no regular file
            self._forget_unfinished()
            raise DatasetError(
                f"{self._num_steps} env steps could not be written to {str(self.directory)!r}: "
                f"{error}. The {self.manifest.num_steps} env steps written before can be read. "
                "Make room, or give another directory."
            ) from error
        self._start_chunk()

    def _write_chunk(self) -> None:
        num_episodes = len(self._waiting["episodes"])
        if self.manifest.num_episodes + num_episodes > MAX_EPISODES:
            raise ValueError(f"a directory holds at most {MAX_EPISODES} episodes")
        sums = {field.file: self._append(name, field) for name, field in self.fields.items()}
        chunk = Chunk(self._num_steps, num_episodes, list(self.seeds), sums)
        manifest = replace(self.manifest, chunks=(*self.manifest.chunks, chunk))
        text = manifest.to_json().encode()
        if len(text) > MAX_MANIFEST_BYTES:
            raise ValueError(f"{MANIFEST} would have {len(text)} bytes, too many to be read")
        replace_file(self.directory / MANIFEST, text)
        self.manifest = manifest

    def _append(self, name: str, field: Field) -> str:
        """Write rows behind those that are counted, then the header; give their checksum."""
        rows = np.concatenate(self._waiting[name])
        content, total = rows.tobytes(), self.manifest.num_rows(name) + len(rows)
        path = self.directory / field.file
        exists = os.path.lexists(path)
        with io.BufferedRandom(open_regular(path, True)) if exists else path.open("xb") as file:
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
