"""A folder that a replay buffer's arrays are mapped from."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
from gymnasium import Space

from lightning_rl.buffers.arrays import Arrays
from lightning_rl.errors import ConfigError, LightningRLError, SpaceError

Fields = dict[str, tuple[str, tuple[int, ...]]]  # name -> (dtype, shape)
FORMAT = 1
MANIFEST = "replay.json"


class ReplayFolder:
    """A folder with one .npy file for each array of a replay buffer, and a manifest in JSON.

    Nothing in it is ever unpickled, and the files are named by number, so that no name from an
    environment or a file reaches the file system.

    Args:
        path: the folder; it is made where it does not exist.
        fields: name -> (dtype, shape) of each array.
        observation_space: of one sub-environment.
        action_space: of one sub-environment.
    """

    def __init__(
        self, path: str | Path, fields: Fields, observation_space: Space, action_space: Space
    ) -> None:
        self.path = Path(path).absolute()
        self.fields = fields
        self.description = {
            "format": FORMAT,
            "observation_space": str(observation_space),
            "action_space": str(action_space),
            "fields": {name: [dtype, list(shape)] for name, (dtype, shape) in fields.items()},
        }

    def files(self) -> dict[str, Path]:
        """Name the file of each array."""
        return {name: self.path / f"{i}.npy" for i, name in enumerate(self.fields)}

    def open(self) -> tuple[Arrays, int, bool]:
        """Map the arrays; make them if the folder is empty.

        Returns:
            The arrays, and the ring's `head` and `is_full` as they were last written.

        Raises:
            ConfigError: if the folder can't be written, the disk has too little room, or it holds
                something else. What lay in the folder stays as it was.
            SpaceError: if it holds the transitions of another environment.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not any(self.path.iterdir()):
                self._create()
            head, is_full = self._read_manifest()
            arrays = {n: np.lib.format.open_memmap(f, mode="r+") for n, f in self.files().items()}
        except OSError as error:
            raise ConfigError(
                f"directory={str(self.path)!r} can't hold the replay buffer: {error}. Give a "
                "folder that can be written, on a disk with enough room."
            ) from error
        except LightningRLError:
            raise
        except ValueError as error:  # of numpy or json
            raise self._damaged(str(error)) from error
        got = {name: (str(array.dtype), array.shape) for name, array in arrays.items()}
        if got != self.fields:
            raise self._damaged(f"its arrays are {got}")
        return dict(arrays), head, is_full

    def _create(self) -> None:
        """Reserve the room of all files: writing to a map on a full disk kills the process."""
        sizes = {n: int(np.prod(s)) * np.dtype(d).itemsize for n, (d, s) in self.fields.items()}
        free = shutil.disk_usage(self.path).free
        if sum(sizes.values()) > free:
            raise OSError(f"it needs {sum(sizes.values())} bytes, and {free} are free")
        try:
            for name, file in self.files().items():
                dtype, shape = self.fields[name]
                np.lib.format.open_memmap(file, mode="w+", dtype=np.dtype(dtype), shape=shape)
                reserve(file)
            self._write_manifest(0, False)
        except OSError:
            for file in self.files().values():
                file.unlink(missing_ok=True)
            raise

    def _read_manifest(self) -> tuple[int, bool]:
        file = self.path / MANIFEST
        if not file.exists():
            raise ConfigError(
                f"directory={str(self.path)!r} holds other files than a replay buffer's; expected "
                "a new or empty folder."
            )
        found = json.loads(file.read_text())
        if not isinstance(found, dict):
            raise self._damaged("the manifest is no JSON object")
        head, is_full = found.pop("head", None), found.pop("is_full", None)
        if found != self.description:
            differs = [
                name for name in self.description if found.get(name) != self.description[name]
            ]
            raise SpaceError(
                f"directory={str(self.path)!r} holds transitions of another environment, number "
                f"of sub-environments or capacity: {[(n, found.get(n)) for n in differs]}; "
                f"expected {[(n, self.description[n]) for n in differs]}. Give another directory."
            )
        rows = self.fields["flags"][1][0]
        if type(head) is not int or not 0 <= head < rows or type(is_full) is not bool:
            raise self._damaged(f"the manifest says head={head}, is_full={is_full}")
        return head, is_full

    def _write_manifest(self, head: int, is_full: bool) -> None:
        text = json.dumps(self.description | {"head": head, "is_full": is_full}, indent=1)
        written = self.path / f"{MANIFEST}.new"
        written.write_text(text)
        written.replace(self.path / MANIFEST)

    def flush(self, arrays: Arrays, head: int, is_full: bool) -> None:
        """Write everything to the disk.

        Raises:
            ConfigError: if that fails.
        """
        try:
            for array in arrays.values():
                if isinstance(array, np.memmap):
                    array.flush()
            self._write_manifest(head, is_full)
        except OSError as error:
            raise ConfigError(
                f"the replay buffer in directory={str(self.path)!r} could not be written: {error}."
            ) from error

    def _damaged(self, reason: str) -> ConfigError:
        return ConfigError(
            f"the replay buffer in directory={str(self.path)!r} is damaged: {reason}. Give a new "
            "directory."
        )


def reserve(file: Path) -> None:
    """Let a file's bytes have their place on the disk, where the system can do that."""
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as opened:
            os.posix_fallocate(opened.fileno(), 0, file.stat().st_size)
