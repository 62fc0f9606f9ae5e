"""Checkpoint files: written whole or not at all; read only if undamaged, harmless ones."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from fsspec.core import url_to_fs  # type: ignore[import-untyped]
from fsspec.implementations.local import LocalFileSystem  # type: ignore[import-untyped]
from lightning.pytorch.plugins import TorchCheckpointIO
from torch import Tensor

from lightning_rl.checkpoints.callback_paths import with_folder, without_folders
from lightning_rl.errors import CheckpointError

PART = ".part"  # ends the name of a file that is being written
LEAVES = (type(None), bool, int, float, str, bytes, Tensor)
CONTAINERS = (dict, OrderedDict, list, tuple, set)


class SafeCheckpointIO(TorchCheckpointIO):
    """Saves and loads checkpoints so that neither a fault nor a stranger's file does harm.

    A file is written beside its target, brought to the disk, read back, and then renamed: a crash,
    a full disk or a kill at any moment leaves the file before or the new one. What could not be
    loaded again without unpickling is refused when it is saved. A file is loaded only if every
    byte has its checksum (CRC-32), and only tensors and plain values are made from it, whatever
    `TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD` says. Of folders that a file names nothing is believed.

    Agents and world models use it under any Lightning trainer; it can be given to one for other
    modules, too. Remote paths (fsspec) are written as Lightning writes them, and read as safely.

    Raises:
        CheckpointError: whatever is wrong with the file, or with writing it.

    Example:
        >>> from lightning import Trainer
        >>> trainer = Trainer(plugins=[SafeCheckpointIO()], logger=False)
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Save a checkpoint. A file that has this name already is kept until the new one is whole.

        Raises:
            CheckpointError: if it can't be written, or could not be loaded again.
        """
        checkpoint = plain_numbers(without_folders(checkpoint))
        if not is_local(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = local_path(path)
        part = target.with_name(f".{target.name}{PART}")  # one at most is left by kills
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(checkpoint, part)
            if _culprit(checkpoint):  # not plain, but torch may know it
                _read_back(part, checkpoint)
            part.replace(target)
        except OSError as error:
            raise CheckpointError(
                f"the checkpoint {str(target)!r} could not be written ({error}); expected a folder "
                "that can be written, on a disk with room. The file before, if any, is as it was."
            ) from error
        finally:
            if part.exists():
                part.unlink()

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load a checkpoint, after every byte of it was compared with its checksum.

        Args:
            path: local, or of any file system that fsspec knows.
            map_location: as in `torch.load`. Default: the CPU.
            weights_only: False unpickles the file, which runs what code it holds. Default: True.

        Raises:
            CheckpointError: if there is no such file, or it is damaged, or no checkpoint, or holds
                other things than tensors and plain values.
        """
        with open_checkpoint(path) as file:
            checkpoint = read_checkpoint(file, path, map_location, weights_only is not False)
        return with_folder(checkpoint, local_path(path).parent if is_local(path) else None)


@contextlib.contextmanager
def open_checkpoint(path: str | Path) -> Iterator[IO[bytes]]:
    """Open a checkpoint whose every byte has its checksum.

    Raises:
        CheckpointError: if there is no such file, or it is damaged or no checkpoint.
    """
    try:
        file = _open(path)
    except OSError as error:
        raise _unreadable(path, error) from error
    with file:
        try:
            _check_archive(file)
        except Exception as error:  # damage may make the reader of archives raise anything
            raise _unreadable(path, error) from error
        file.seek(0)
        yield file


def read_checkpoint(
    file: IO[bytes], path: str | Path, map_location: Any = None, weights_only: bool = True
) -> dict[str, Any]:
    """Read an opened checkpoint: tensors and plain values.

    Raises:
        CheckpointError: if it holds anything else, or claims more numbers than it has.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        checkpoint = torch.load(file, map_location or "cpu", weights_only=weights_only)
        if not isinstance(checkpoint, dict):
            raise TypeError(f"it holds a {type(checkpoint).__name__}, not a dict")
        _check_sizes(checkpoint, size)
    except Exception as error:  # a file may make the unpickler raise anything
        raise _unreadable(path, error) from error
    return checkpoint


def _open(path: str | Path) -> Any:
    if not is_local(path):
        files, name = url_to_fs(str(path))
        return io.BytesIO(files.cat_file(name))
    file = local_path(path)
    if not stat.S_ISREG(os.stat(file).st_mode):  # a pipe would be waited for
        raise OSError("it is no regular file")
    return file.open("rb")


def _check_archive(file: IO[bytes]) -> None:
    """Check the archive that a checkpoint is: nothing packed, nothing damaged."""
    with zipfile.ZipFile(file) as archive:
        for part in archive.infolist():
            if part.compress_type != zipfile.ZIP_STORED:
                raise zipfile.BadZipFile(f"{part.filename} is compressed, as torch never does")
        if (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"{damaged} is damaged")


def _check_sizes(value: Any, limit: int) -> None:
    """Refuse a tensor that claims more bytes than the file has, by strides of 0."""
    if isinstance(value, Tensor) and value.numel() * value.element_size() > limit:
        raise ValueError(f"a tensor of shape {tuple(value.shape)} is larger than the file")
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list | tuple | set):
        for part in value:
            _check_sizes(part, limit)


def _unreadable(path: Any, error: Exception) -> CheckpointError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    return CheckpointError(
        f"the checkpoint {str(path)!r} can't be loaded ({reason}); expected an undamaged file of "
        "tensors and plain values, as Lightning saves it. Take an earlier one."
    )


def _write(checkpoint: dict[str, Any], part: Path) -> None:
    """Write a checkpoint to the disk, piece by piece: a large one is not held twice."""
    part.unlink(missing_ok=True)
    with part.open("xb") as file:  # which follows no link
        try:
            torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:  # torch's own word for a full disk
            raise OSError(str(error).partition("\n")[0]) from error
        except Exception as error:  # a part that can't be saved at all
            raise _refused(checkpoint, error) from error
        file.flush()
        os.fsync(file.fileno())


def _read_back(part: Path, checkpoint: dict[str, Any]) -> None:
    """Check that what was written can be loaded; its tensors are only mapped, not read."""
    try:
        torch.load(part, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # of the unpickler: it names a class, not where it is
        raise _refused(checkpoint, error) from error


def _refused(checkpoint: dict[str, Any], error: Exception) -> CheckpointError:
    return CheckpointError(
        f"the checkpoint could not be loaded again, because of {_culprit(checkpoint) or error}; "
        "expected tensors and plain values only. Leave it out of the hyperparameters "
        '(save_hyperparameters(ignore=["..."])), or make it numbers, text, lists or dicts.'
    )


def _culprit(value: Any, name: str = "checkpoint") -> str:
    """Name the first part that is neither a tensor nor plain, or give ""."""
    if isinstance(value, LEAVES):
        return ""
    if type(value) not in CONTAINERS:
        return f"{name}, a {type(value).__qualname__}"
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = (_culprit(part, f"{name}[{key!r}]") for key, part in items)
    return next(filter(None, found), "")


def plain_numbers(value: Any) -> Any:
    """Turn numpy's scalars and paths, within dicts, lists and tuples, into plain Python.

    Example:
        >>> plain_numbers({"lr": np.float64(0.5), "sizes": [np.int64(64)], "file": Path("a")})
        {'lr': 0.5, 'sizes': [64], 'file': 'a'}
    """
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Path):
        return str(value)
    if type(value) is dict:
        return {plain_numbers(key): plain_numbers(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain_numbers(part) for part in value)
    return value


def is_local(path: str | Path) -> bool:
    """Tell whether a path is on this machine's file systems."""
    return isinstance(path, Path) or isinstance(url_to_fs(str(path))[0], LocalFileSystem)


def local_path(path: str | Path) -> Path:
    """Give the path on this machine, without the protocol that it may begin with."""
    return path if isinstance(path, Path) else Path(url_to_fs(str(path))[1])
