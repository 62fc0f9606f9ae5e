"""A folder that a replay buffer's arrays are mapped from."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import warnings
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from gymnasium import Space
from numpy.typing import NDArray

from lightning_rl.buffers.arrays import Arrays, Fields
from lightning_rl.errors import ConfigError, LightningRLError, LockedError, SpaceError, StateError
from lightning_rl.locks import LOCK, lock_folder
from lightning_rl.regular_files import open_regular, read_small, replace_file

FORMAT = 2
MANIFEST = "replay.json"
MANIFEST_BYTES = 2**22  # a text of the spaces, and BLOCKS checksums
BLOCKS = 1024  # of rows, each with a checksum: what a kill or damage may cost is one of them


class Ring(NamedTuple):
    """What a folder holds: the arrays, and where the ring goes on."""

    arrays: Arrays
    head: int
    is_full: bool
    num_added: int  # rows, since the folder was made


class ReplayFolder:
    """A folder with one .npy file for each array of a replay buffer, and a manifest in JSON.

    Nothing in it is ever unpickled, links are not followed, and the files are named by number, so
    that no name from an environment or a file reaches the file system. The rows have checksums,
    block by block, as of the last flush. One at a time may open it, until it is closed, collected
    as garbage, or its process has ended.

    Args:
        path: the folder; it is made where it does not exist.
        fields: name -> (dtype, shape) of each array; the first axis of all is the ring's.
        observation_space: of one sub-environment.
        action_space: of one sub-environment.
    """

    def __init__(
        self, path: str | Path, fields: Fields, observation_space: Space, action_space: Space
    ) -> None:
        self.path = Path(path).absolute()
        self.fields = fields
        self.num_rows = fields["flags"][1][0]
        self.block_rows = -(-self.num_rows // BLOCKS)
        self.sums = [0] * -(-self.num_rows // self.block_rows)  # of blocks that were ever filled
        self.description = {
            "format": FORMAT,
            "observation_space": str(observation_space),
            "action_space": str(action_space),
            "fields": {name: [dtype, list(shape)] for name, (dtype, shape) in fields.items()},
        }
        self._lock: FileLock | None = None
        self._num_summed: int | None = 0  # rows added when the checksums were right; None: never

    @property
    def is_open(self) -> bool:
        """Tell whether it may be written."""
        return self._lock is not None

    def files(self) -> dict[str, Path]:
        """Name the file of each array."""
        return {name: self.path / f"{i}.npy" for i, name in enumerate(self.fields)}

    def open(self) -> Ring:
        """Map the arrays; make them if the folder is empty. Every filled row is checked.

        Rows that are not as they were last flushed lose their flags, with a warning.

        Raises:
            ConfigError: if the folder can't be written, the disk has too little room, or it holds
                something else. What lay in the folder stays as it was.
            SpaceError: if it holds the transitions of another environment.
            LockedError: if another buffer has it open.
        """
        try:
            return self._open()
        except OSError as error:
            self.close()
            raise ConfigError(
                f"directory={str(self.path)!r} can't hold the replay buffer: {error}. Give a "
                "folder that can be written, on a disk with enough room."
            ) from error
        except LightningRLError:
            self.close()
            raise
        except (ValueError, RecursionError) as error:  # of numpy, json, or a file that is none
            self.close()
            raise self._damaged(str(error)) from error

    def _open(self) -> Ring:
        self.path.mkdir(parents=True, exist_ok=True)
        found = {entry.name for entry in self.path.iterdir()} - {LOCK}
        if found and MANIFEST not in found:
            raise ConfigError(
                f"directory={str(self.path)!r} holds other files than a replay buffer's; expected "
                "a new or empty folder."
            )
        self._take_lock()
        if not found:
            self._create()
        head, is_full, num_added = self._read_manifest()
        arrays = {name: self._map(name, file) for name, file in self.files().items()}
        self._num_summed = num_added
        if self._drop_changed(arrays, head, is_full):
            self.forget_sums()
        return Ring(arrays, head, is_full, num_added)

    def _take_lock(self) -> None:
        try:
            self._lock = lock_folder(self.path, "fill this replay buffer")
        except LockedError:
            gc.collect()  # an agent that nobody has any more may hold it still
            self._lock = lock_folder(self.path, "fill this replay buffer")

    def close(self) -> None:
        """Let others open it. What was not flushed is lost."""
        if self._lock is not None:
            self._lock.release()
        self._lock = None

    def save_and_close(self, ring: Ring) -> None:
        """Flush, and let others open it, also if that fails."""
        try:
            self.flush(ring)
        finally:
            self.close()

    def _create(self) -> None:
        """Reserve the room of all files: writing to a map on a full disk kills the process."""
        sizes = {n: int(np.prod(s)) * np.dtype(d).itemsize for n, (d, s) in self.fields.items()}
        free = shutil.disk_usage(self.path).free
        if sum(sizes.values()) > free:
            raise OSError(f"it needs {sum(sizes.values())} bytes, and {free} are free")
        try:
            for name, file in self.files().items():
                with file.open("xb") as opened:
                    start = opened.write(self._header(name))
                    opened.truncate(start + sizes[name])
                reserve(file)
            self._write_manifest(0, False, 0)
        except OSError:
            for file in self.files().values():
                file.unlink(missing_ok=True)
            raise

    def _header(self, name: str) -> bytes:
        dtype, shape = self.fields[name]
        file, descr = BytesIO(), np.lib.format.dtype_to_descr(np.dtype(dtype))
        described = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, described)
        return file.getvalue()

    def _map(self, name: str, file: Path) -> NDArray[Any]:
        (dtype, shape), header = self.fields[name], self._header(name)
        with open_regular(file, write=True) as opened:
            size = len(header) + int(np.prod(shape)) * np.dtype(dtype).itemsize
            if os.fstat(opened.fileno()).st_size != size or opened.read(len(header)) != header:
                raise ValueError(f"{file.name} is no array of {dtype} of the shape {shape}")
            return np.memmap(opened, np.dtype(dtype), "r+", len(header), shape)

    # ---- checksums ---------------------------------------------------------------------------

    def _sum(self, arrays: Arrays, block: int) -> int:
        """Compute the checksum (CRC-32) of a block of rows of all arrays."""
        rows, total = slice(block * self.block_rows, (block + 1) * self.block_rows), 0
        for array in arrays.values():
            part = np.ascontiguousarray(array[rows]).reshape(-1).view(np.uint8)
            total = zlib.crc32(part.data, total)
        return total

    def _filled(self, head: int, is_full: bool) -> range:
        """Number the blocks that hold anything."""
        return range(len(self.sums) if is_full else head // self.block_rows + 1)

    def _drop_changed(self, arrays: Arrays, head: int, is_full: bool) -> int:
        """Take the flags of rows that are not as they were flushed; count the transitions lost."""
        if not is_full and head == 0:
            return 0
        flags = arrays["flags"]
        before = int(np.count_nonzero(flags))
        for block in self._filled(head, is_full):
            if self._sum(arrays, block) != self.sums[block]:
                first = block * self.block_rows
                flags[first : first + self.block_rows] = 0
                flags[first - 1] = 0  # its next observation is in the block
        if lost := before - int(np.count_nonzero(flags)):
            warnings.warn(
                f"{lost} of {before} transitions in directory={str(self.path)!r} were added after "
                "the folder was last saved, or are damaged; they are left out.",
                stacklevel=5,
            )
        return lost

    def forget_sums(self) -> None:
        """Let the next flush compute all checksums: rows were changed anywhere."""
        self._num_summed = None

    def _update_sums(self, ring: Ring) -> None:
        changed = self._filled(ring.head, ring.is_full)
        if self._num_summed is not None and ring.num_added - self._num_summed < self.num_rows - 1:
            rows = np.arange(ring.head - (ring.num_added - self._num_summed), ring.head + 1)
            changed = np.unique(rows % self.num_rows // self.block_rows).tolist()
        for block in changed:
            self.sums[block] = self._sum(ring.arrays, block)
        self._num_summed = ring.num_added

    # ---- the manifest ------------------------------------------------------------------------

    def _read_manifest(self) -> tuple[int, bool, int]:
        found = json.loads(read_small(self.path / MANIFEST, MANIFEST_BYTES))
        if not isinstance(found, dict):
            raise self._damaged("the manifest is no JSON object")
        if found.get("format") != FORMAT:
            raise ConfigError(
                f"directory={str(self.path)!r} has format {found.get('format')!r}; expected "
                f"{FORMAT}. Give a new directory, or the version that wrote it."
            )
        if found.pop("sha256", None) != _digest(found):
            raise self._damaged("the manifest is not as it was written (its checksum differs)")
        at = [found.pop(name, None) for name in ("head", "is_full", "num_added")]
        self._check_manifest(found, *at)
        return at[0], at[1], at[2]

    def _check_manifest(self, found: Any, head: Any, is_full: Any, num_added: Any) -> None:
        sums = found.pop("sums", None)
        if found != self.description:
            differs = [n for n in self.description if found.get(n) != self.description[n]]
            raise SpaceError(
                f"directory={str(self.path)!r} holds transitions of another environment, number "
                f"of sub-environments or capacity: {[(n, found.get(n)) for n in differs]}; "
                f"expected {[(n, self.description[n]) for n in differs]}. Give another directory."
            )
        are_numbers = type(head) is int and type(num_added) is int and type(is_full) is bool
        if not are_numbers or not 0 <= head < self.num_rows or num_added < 0:
            raise self._damaged(f"it says head={head}, is_full={is_full}, num_added={num_added}")
        if not isinstance(sums, list) or len(sums) != len(self.sums):
            raise self._damaged("the manifest has other checksums than its size asks for")
        self.sums = sums

    def _write_manifest(self, head: int, is_full: bool, num_added: int) -> None:
        at = {"head": head, "is_full": is_full, "num_added": num_added, "sums": self.sums}
        content = self.description | at
        text = json.dumps(content | {"sha256": _digest(content)})
        replace_file(self.path / MANIFEST, text.encode())

    def flush(self, ring: Ring) -> None:
        """Write everything to the disk; nothing, if it is closed.

        Raises:
            ConfigError: if that fails.
        """
        if not self.is_open:
            return
        try:
            for array in ring.arrays.values():
                if isinstance(array, np.memmap):
                    array.flush()
            self._update_sums(ring)
            self._write_manifest(*ring[1:])
        except OSError as error:
            raise ConfigError(
                f"the replay buffer in directory={str(self.path)!r} could not be written: {error}."
            ) from error

    def check_open(self) -> None:
        """Check that it may be written.

        Raises:
            StateError: if it was closed.
        """
        if not self.is_open:
            raise StateError(
                f"the replay buffer in directory={str(self.path)!r} was closed; call reopen() "
                "before it is written."
            )

    def warn_of_changes(self) -> None:
        """Say that it has other rows than when a checkpoint was written."""
        warnings.warn(
            f"the replay buffer in directory={str(self.path)!r} has changed since the checkpoint "
            "was written. The run goes on with it as it is, so it will differ from one that was "
            "never stopped.",
            stacklevel=5,
        )

    def _damaged(self, reason: str) -> ConfigError:
        return ConfigError(
            f"the replay buffer in directory={str(self.path)!r} is damaged: {reason}. Give a new "
            "directory."
        )


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def reserve(file: Path) -> None:
    """Let a file's bytes have their place on the disk, where the system can do that."""
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
