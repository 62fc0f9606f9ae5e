"""The files of a trajectory dataset, opened for reading: plain `.npy` arrays.

Nothing in a directory is believed: no file's name is taken from the manifest, nothing is unpickled,
and every size is checked before it is used.
"""

from __future__ import annotations

import hashlib
import os
import re
import weakref
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_rl.trajectories.manifest import (
    BEGINS_WITH_RESET,
    LENGTH,
    Field,
    check_regular,
    count_rows,
    damaged,
    read_manifest,
)

MAPPED_BYTES = 2**27  # of the arrays that are mapped: as much memory may count as in use


class TrajectoryFiles:
    """A dataset's files, opened for reading; a DatasetError says what is missing or damaged.

    Opening checks the manifest, and each file's kind, header and size: no time depends on the
    number of env steps. The data are checked by `verify`.

    The smaller arrays are mapped: the fastest way, but what was touched counts as memory in use,
    and Linux maps up to 2 MB at a touch. So those beyond `MAPPED_BYTES` are read where needed.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory).absolute()
        self.manifest = read_manifest(self.directory)
        self.fields = self.manifest.fields
        self._mapped: dict[str, NDArray[Any]] = {}
        self._opened: dict[str, FileIO] = {}
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
            check_regular(path)
            file = path.open("rb", buffering=0)
            weakref.finalize(self, file.close)
            _check_header(file.read(field.start), field, self.manifest.num_rows(name))
            size, expected = path.stat().st_size, self.manifest.num_bytes(name)
            if size < expected:
                raise ValueError(f"it has {size} bytes; expected {expected}")
        except (OSError, ValueError) as error:
            raise damaged(self.directory, f"{field.file}: {error}") from error
        return file

    def read(self, name: str, first_rows: NDArray[np.int64], length: int) -> NDArray[Any]:
        """Copy B runs of consecutive rows of an array, (B, length, ...), from (B,) rows on."""
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
        """Compare every byte with its checksum (about a second for each GB)."""
        for name, field in self.fields.items():
            rows = [count_rows(name, c.num_steps, c.num_episodes) for c in self.manifest.chunks]
            try:
                with self._open(name, field) as file:  # as it is by now
                    sums = [_sha256(file, count * field.row.itemsize) for count in rows]
            except OSError as error:
                raise damaged(self.directory, f"{field.file}: {error}") from error
            if sums != [chunk.sha256[field.file] for chunk in self.manifest.chunks]:
                raise damaged(self.directory, f"{field.file} was altered")


def _check_header(found: bytes, field: Field, num_rows: int) -> None:
    """Check a header byte by byte; an append that failed may have left one with more rows."""
    rows = re.search(rb"'shape': \((\d{1,18}),", found)
    if rows is None or found != field.header(int(rows[1])):
        raise ValueError(f"it is no array of {field.row.base} with rows of shape {field.row.shape}")
    if int(rows[1]) < num_rows:
        raise ValueError(f"it has {int(rows[1])} rows; expected {num_rows}")


def _sha256(file: FileIO, size: int) -> str:
    """Compute the checksum of the next `size` bytes of a file."""
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, 2**20))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()
