"""Files of a trajectory dataset: `.npy` arrays that only grow, mapped to read them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
import mmap
import os
import re
import time
import weakref
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from gymnasium import Space
from numpy.typing import NDArray

from lightning_rl.errors import ConfigError, DatasetError, ShapeError
from lightning_rl.trajectory_manifest import (
    MANIFEST,
    Chunk,
    Field,
    Manifest,
    check_regular,
    check_same_spaces,
    damaged,
    read_manifest,
    replace_file,
    sync,
)

MAPPED_BYTES = 2**27  # of the arrays that are mapped: as much memory may count as in use
FLUSH_BYTES = 2**25  # episodes are written when so much of them has gathered,
FLUSH_SECONDS = 30.0  # or when the last time is so long ago

Arrays = dict[str, NDArray[Any]]


def header(field: Field, num_rows: int) -> bytes:
    """Write the header of a `.npy` file. Its size does not depend on the number of rows."""
    file = io.BytesIO()
    shape = (num_rows, *field.shape)
    described = {"descr": np.lib.format.dtype_to_descr(field.dtype), "fortran_order": False}
    np.lib.format.write_array_header_1_0(file, {**described, "shape": shape})
    return file.getvalue()


@cache
def header_size(field: Field) -> int:
    """Count the bytes before the first row."""
    return len(header(field, 0))


def row_bytes(field: Field) -> int:
    """Count the bytes of one row."""
    return math.prod(field.shape) * field.dtype.itemsize


class TrajectoryFiles:
    """A dataset's files, opened for reading, so that it may be larger than memory.

    Opening checks the manifest, and each file's kind, header and size: no time depends on the
    number of env steps. The data are checked by `verify`.

    The smaller arrays are mapped: the fastest way, but what was touched counts as memory in use,
    and Linux maps up to 2 MB at a touch. So those beyond `MAPPED_BYTES` are read where needed.

    Args:
        directory: where they are.

    Raises:
        DatasetError: if something is missing, damaged or of a newer version.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory).absolute()
        self.manifest = read_manifest(self.directory)
        self.fields = self.manifest.fields()
        self._mapped: Arrays = {}
        self._opened: dict[str, BinaryIO] = {}
        left = MAPPED_BYTES
        for name in sorted(self.fields, key=self._size):
            file = self._open(name)
            left -= self._size(name)
            if left >= 0 or not hasattr(os, "pread"):
                self._mapped[name] = self._map(name, file)
                file.close()  # a map goes on without it
            else:
                self._opened[name] = file
                weakref.finalize(self, file.close)

    def __reduce__(self) -> tuple[Any, ...]:  # another process is sent the directory alone
        return TrajectoryFiles, (self.directory,)

    def _size(self, name: str) -> int:
        return self.manifest.num_rows(name) * row_bytes(self.fields[name])

    def _open(self, name: str) -> BinaryIO:
        field, file = self.fields[name], self.directory / self.fields[name].file
        try:
            check_regular(file)
            with contextlib.ExitStack() as closing:
                opened = closing.enter_context(file.open("rb"))
                check_header(opened.read(header_size(field)), field, self.manifest.num_rows(name))
                size = header_size(field) + self._size(name)
                if file.stat().st_size < size:
                    raise ValueError(f"it has {file.stat().st_size} bytes; expected {size}")
                closing.pop_all()
        except (OSError, ValueError) as error:
            raise damaged(self.directory, f"{field.file}: {error}") from error
        return opened

    def _map(self, name: str, file: BinaryIO) -> NDArray[Any]:
        field, offset = self.fields[name], header_size(self.fields[name])
        mapped = mmap.mmap(file.fileno(), offset + self._size(name), access=mmap.ACCESS_READ)
        shape = (self.manifest.num_rows(name), *field.shape)
        return np.ndarray(shape, field.dtype, buffer=mapped, offset=offset)

    def read(self, name: str, starts: NDArray[np.int64], length: int) -> NDArray[Any]:
        """Copy B runs of consecutive rows of one array, (B, length, ...), from these starts (B,).

        Raises:
            DatasetError: if the file has become shorter.
        """
        if name in self._mapped:
            runs: NDArray[Any] = self._mapped[name][starts[:, None] + np.arange(length)]
            return runs
        field = self.fields[name]
        file, size = self._opened[name].fileno(), row_bytes(field)
        offsets = (header_size(field) + starts * size).tolist()
        content = b"".join([os.pread(file, length * size, offset) for offset in offsets])
        if len(content) != len(starts) * length * size:
            raise damaged(self.directory, f"{field.file} has become shorter")
        shape = (len(starts), length, *field.shape)
        return np.frombuffer(content, field.dtype).reshape(shape).copy()

    def read_episodes(self) -> NDArray[np.int32]:
        """Read what is known of all E episodes: (E, 4), see `EPISODE_COLUMNS`.

        Raises:
            DatasetError: if they can't be the episodes of these env steps.
        """
        rows = self.manifest.num_rows("episodes")
        marks: NDArray[np.int32] = self.read("episodes", np.zeros(1, dtype=np.int64), rows)[0]
        lengths, flags = marks[:, 0], marks[:, 1:]
        possible = lengths.min() >= 1 and flags.min() >= 0 and flags.max() <= 1
        if not possible or lengths.sum(dtype=np.int64) != self.manifest.num_steps:
            raise damaged(self.directory, "episodes.npy has impossible lengths or flags")
        return marks

    def verify(self) -> None:
        """Compare every byte with its checksum (about a second for each GB).

        Raises:
            DatasetError: naming the file that was altered.
        """
        for name in self.fields:
            file = self.directory / self.fields[name].file
            try:
                altered = not self._is_intact(name, file)
            except OSError as error:
                raise damaged(self.directory, f"{file.name}: {error}") from error
            if altered:
                raise damaged(self.directory, f"{file.name} was altered")

    def _is_intact(self, name: str, file: Path) -> bool:
        field = self.fields[name]
        with file.open("rb") as opened:
            opened.seek(header_size(field))
            return all(
                sha256(opened, chunk.num_rows(name) * row_bytes(field)) == chunk.sha256[field.file]
                for chunk in self.manifest.chunks
            )


def check_header(found: bytes, field: Field, num_rows: int) -> None:
    """Check the header of a `.npy` file, byte by byte, save for rows of an append that failed.

    Raises:
        ValueError: if it is another one, or has fewer rows.
    """
    rows = re.search(rb"'shape': \((\d{1,18}),", found)
    if rows is None or found != header(field, int(rows[1])):
        raise ValueError(f"it is no array of {field.dtype} with rows of shape {field.shape}")
    if int(rows[1]) < num_rows:
        raise ValueError(f"it has {int(rows[1])} rows; expected {num_rows}")


def sha256(file: Any, size: int) -> str:
    """Compute the checksum of the next `size` bytes of a file."""
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, 2**20))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()


class TrajectoryWriter:
    """Appends episodes to a directory, chunk by chunk.

    A chunk is written behind the rows that the manifest counts, and counted only once it is on the
    disk, by a manifest that replaces the old one in one step. So a full disk or a killed process
    costs the episodes since the last chunk, and nothing older.

    Args:
        directory: where to write; it is made if it does not exist.
        observation_space: of one environment.
        action_space: of one environment.
        env_id: the environment's name, where it has one.
        append: go on with the dataset in the directory, if there is one.

    Raises:
        ConfigError: if the directory holds a dataset and `append` is False, or other files.
        SpaceError: if it holds another environment's trajectories, or no array can hold these.
        DatasetError: if what it holds is damaged.
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
        self.fields = self.manifest.fields()
        self.manifest.to_json()  # raises before the first env step, not after the last
        if os.path.lexists(self.directory / MANIFEST):
            self._go_on(append)
        elif any(os.path.lexists(self.directory / field.file) for field in self.fields.values()):
            raise ConfigError(
                f"{str(self.directory)!r} has files of the names that trajectories have, but no "
                f"{MANIFEST}: they are something else, or their collection was killed before its "
                "first chunk. Give another directory, or delete them."
            )
        self.seeds: list[int] = []
        self._start_chunk()

    def _go_on(self, append: bool) -> None:
        if not append:
            raise ConfigError(
                f"{str(self.directory)!r} holds trajectories already. Give another directory, or "
                "append=True to add to them."
            )
        found = TrajectoryFiles(self.directory).manifest
        check_same_spaces(found, self.manifest.observation_space, self.manifest.action_space)
        self.manifest = found

    def _start_chunk(self) -> None:
        self._parts: dict[str, list[NDArray[Any]]] = {name: [] for name in self.fields}
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
        if not isinstance(observations, dict):
            parts = {"observations": observations}
        else:
            parts = {f"observations.{key}": part for key, part in observations.items()}
        marks = np.array([[length, starts, terminated, truncated]])
        arrays = {**parts, "actions": actions, "rewards": rewards, "episodes": marks}
        self._check_shapes(arrays, length)
        for name, field in self.fields.items():
            self._parts[name].append(np.asarray(arrays[name], dtype=field.dtype))
            self._num_bytes += self._parts[name][-1].nbytes
        self._num_steps += length
        if self._num_bytes > FLUSH_BYTES or time.monotonic() - self._started > FLUSH_SECONDS:
            self.flush()

    def _check_shapes(self, arrays: Arrays, length: int) -> None:
        if set(arrays) != set(self.fields):
            raise ShapeError(f"got an episode of {list(arrays)}; expected {list(self.fields)}.")
        for name, field in self.fields.items():
            rows = 1 if name == "episodes" else length + name.startswith("observations")
            if length < 1 or np.shape(arrays[name]) != (rows, *field.shape):
                raise ShapeError(
                    f"got {name} of shape {np.shape(arrays[name])} in an episode of {length} "
                    f"rewards; expected {(rows, *field.shape)}, and at least one reward."
                )

    def flush(self) -> None:
        """Write all episodes added so far to the disk.

        Raises:
            DatasetError: if that fails, as on a full disk. What was there before stays readable.
        """
        if not self._num_steps:
            return
        arrays = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        self._check_alone()
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._write(arrays)
        except OSError as error:
            self._forget_unfinished()
            raise DatasetError(
                f"{self._num_steps} env steps could not be written to {str(self.directory)!r}: "
                f"{error}. The {self.manifest.num_steps} env steps written before can be read. "
                "Make room, or give another directory."
            ) from error
        self._start_chunk()

    def _check_alone(self) -> None:
        exists = os.path.lexists(self.directory / MANIFEST)
        if self.manifest.chunks != (read_manifest(self.directory).chunks if exists else ()):
            raise DatasetError(
                f"somebody else has written to {str(self.directory)!r} meanwhile; "
                f"{self._num_steps} env steps were not. Let one at a time append."
            )

    def _write(self, arrays: Arrays) -> None:
        sums = {
            field.file: self._append(name, field, arrays[name])
            for name, field in self.fields.items()
        }
        chunk = Chunk(self._num_steps, len(arrays["episodes"]), list(self.seeds), sums)
        manifest = replace(self.manifest, chunks=(*self.manifest.chunks, chunk))
        replace_file(self.directory / MANIFEST, manifest.to_json())
        self.manifest = manifest

    def _append(self, name: str, field: Field, rows: NDArray[Any]) -> str:
        """Write rows behind those that are counted, then the header; give their checksum."""
        written, content = self.manifest.num_rows(name), rows.tobytes()
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(self.directory / field.file, flags, 0o666), "r+b") as file:
            file.seek(header_size(field) + written * row_bytes(field))
            file.truncate()  # what an append that failed has left
            file.write(content)
            sync(file)
            file.seek(0)
            file.write(header(field, written + len(rows)))
            sync(file)
        return hashlib.sha256(content).hexdigest()

    def _forget_unfinished(self) -> None:
        """Give the room of a chunk that failed back to the disk, as far as that can be done."""
        for name, field in self.fields.items():
            size = header_size(field) + self.manifest.num_rows(name) * row_bytes(field)
            file = self.directory / field.file
            with contextlib.suppress(OSError):
                if not self.manifest.chunks:
                    file.unlink(missing_ok=True)
                elif file.stat().st_size > size:
                    os.truncate(file, size)
