"""The files of a trajectory dataset, opened for reading: plain `.npy` arrays.

Nothing in a directory is believed: no file's name is taken from the manifest, nothing is unpickled,
and every size is checked before it is used.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import weakref
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_rl.regular_files import open_regular
from lightning_rl.trajectories.manifest import (
    BEGINS_WITH_RESET,
    LENGTH,
    Field,
    count_rows,
    damaged,
    read_manifest,
)

MAPPED_BYTES = 2**27  # of the arrays that are mapped: as much memory may count as in use


class TrajectoryFiles:
    """A dataset's files, opened for reading; a DatasetError says what is missing or damaged.

    Opening checks the manifest, and each file's kind, header and size. A chunk's bytes are compared
    with its checksum when a row of it is first read (about a second for each GB).

    The smaller arrays are mapped: the fastest way, but what was touched counts as memory in use,
    and Linux maps up to 2 MB at a touch. So those beyond `MAPPED_BYTES` are read where needed.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory).absolute()
        self.manifest = read_manifest(self.directory)
        self.fields = self.manifest.fields
        self._mapped: dict[str, NDArray[Any]] = {}
        self._opened: dict[str, FileIO] = {}
        chunks, self._ends = self.manifest.chunks, {}  # name -> the row after each chunk
        for name in self.fields:
            rows = [count_rows(name, chunk.num_steps, chunk.num_episodes) for chunk in chunks]
            self._ends[name] = np.cumsum(rows)
        self._is_checked = {name: _shared_flags(len(chunks)) for name in self.fields}
        left = MAPPED_BYTES
        for name in sorted(self.fields, key=self.manifest.num_bytes):
            field, num_rows = self.fields[name], self.manifest.num_rows(name)
            file = self._opened[name] = self._open(name, field)
            left -= self.manifest.num_bytes(name)
            if left >= 0 or not hasattr(os, "pread"):
                mapped = np.memmap(file, field.row, "r", field.start, num_rows)
                self._mapped[name] = mapped.view(np.ndarray)  # which is indexed faster
                file.close()  # a map goes on without it

    def __reduce__(self) -> tuple[Any, ...]:  # another process is sent the directory alone
        return TrajectoryFiles, (self.directory,)

    def _open(self, name: str, field: Field) -> FileIO:
        """Open a file, check its kind, header and size, and stay before its first row."""
        path = self.directory / field.file
        try:
            file: FileIO = open_regular(path)
            weakref.finalize(self, file.close)
            _check_header(file.read(field.start), field, self.manifest.num_rows(name))
            size, expected = os.fstat(file.fileno()).st_size, self.manifest.num_bytes(name)
            if size < expected:
                raise ValueError(f"it has {size} bytes; expected {expected}")
        except (OSError, ValueError) as error:
            raise damaged(self.directory, f"{field.file}: {error}") from error
        return file

    def read(self, name: str, first_rows: NDArray[np.int64], length: int) -> NDArray[Any]:
        """Copy B runs of consecutive rows of an array, (B, length, ...), from (B,) rows on.

        Raises:
            DatasetError: if a chunk they are in is not as it was written.
        """
        if not self._is_checked[name].all():
            last_rows = first_rows + length - 1
            touched = np.searchsorted(self._ends[name], [first_rows, last_rows], side="right")
            for first, last in set(zip(*touched.tolist(), strict=True)):
                self.check(name, range(first, last + 1))
        if name in self._mapped:
            runs: NDArray[Any] = self._mapped[name][first_rows[:, None] + np.arange(length)]
            return runs
        field, file = self.fields[name], self._opened[name].fileno()
        size, offsets = length * field.row.itemsize, field.start + first_rows * field.row.itemsize
        content = b"".join([os.pread(file, size, offset) for offset in offsets.tolist()])
        if len(content) != len(first_rows) * size:
            raise damaged(self.directory, f"{field.file} has become shorter")
        shape = (len(first_rows), length, *field.row.shape)
        return np.frombuffer(content, field.row.base).reshape(shape).copy()

    def read_episodes(self) -> NDArray[np.int32]:
        """Read what is known of all E episodes: (E, 4), columns LENGTH to TRUNCATED."""
        start = np.zeros(1, dtype=np.int64)
        table: NDArray[np.int32] = self.read("episodes", start, self.manifest.num_episodes)[0]
        lengths, flags = table[:, LENGTH], table[:, BEGINS_WITH_RESET:]
        possible = lengths.min() >= 1 and flags.min() >= 0 and flags.max() <= 1
        if not possible or lengths.sum(dtype=np.int64) != self.manifest.num_steps:
            raise damaged(self.directory, "episodes.npy has impossible lengths or flags")
        return table

    def verify(self) -> None:
        """Compare every byte with its checksum, as the files are by now."""
        files = TrajectoryFiles(self.directory)
        for name in self.fields:
            files.check(name, range(len(self.manifest.chunks)))

    def check(self, name: str, chunks: Iterable[int]) -> None:
        """Compare chunks of an array with their checksums, those that never were."""
        field, is_checked = self.fields[name], self._is_checked[name]
        for chunk in chunks:
            if is_checked[chunk]:
                continue
            if self._sha256(name, chunk) != self.manifest.chunks[chunk].sha256[field.file]:
                raise damaged(self.directory, f"{field.file} was altered")
            is_checked[chunk] = True

    def _sha256(self, name: str, chunk: int) -> str:
        """Compute the checksum of a chunk of an array."""
        field, ends, digest = self.fields[name], self._ends[name], hashlib.sha256()
        first, end = int(ends[chunk - 1]) if chunk else 0, int(ends[chunk])
        if name in self._mapped:
            return hashlib.sha256(self._mapped[name][first:end].tobytes()).hexdigest()
        at, end = (field.start + row * field.row.itemsize for row in (first, end))
        file = self._opened[name].fileno()
        while at < end and (block := os.pread(file, min(end - at, 2**20), at)):
            digest.update(block)
            at += len(block)
        return digest.hexdigest()


def _check_header(found: bytes, field: Field, num_rows: int) -> None:
    """Check a header byte by byte; an append that failed may have left one with more rows."""
    rows = re.search(rb"'shape': \((\d{1,18}),", found)
    if rows is None or found != field.header(int(rows[1])):
        raise ValueError(f"it is no array of {field.row.base} with rows of shape {field.row.shape}")
    if int(rows[1]) < num_rows:
        raise ValueError(f"it has {int(rows[1])} rows; expected {num_rows}")


def _shared_flags(count: int) -> NDArray[np.bool_]:
    """Make flags, all False, in memory that a DataLoader's forked workers have in common."""
    return np.frombuffer(mmap.mmap(-1, count), np.bool_)
