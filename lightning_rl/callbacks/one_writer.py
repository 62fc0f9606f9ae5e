"""One run at a time saves its checkpoints in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock
from lightning.pytorch import Callback, Trainer

from lightning_rl.checkpoints.safe_file import is_local
from lightning_rl.errors import CheckpointError
from lightning_rl.locks import lock_folder


class OneWriter(Callback):
    """Locks the folders of a trainer's checkpoints, from the start of `fit` until `release`.

    Raises:
        LockedError: when training starts, if another run saves its checkpoints there.
        CheckpointError: when training starts, if the folder can't be written.
    """

    def __init__(self) -> None:
        self._locks: list[FileLock] = []

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Take the locks, now that the folders are known."""
        if getattr(trainer, "fast_dev_run", False):  # which writes nothing
            return
        named = {getattr(callback, "dirpath", None) for callback in trainer.checkpoint_callbacks}
        for folder in sorted(str(name) for name in named if name is not None):
            if trainer.is_global_zero and is_local(folder):
                self._locks.append(_lock(Path(folder)))

    def release(self) -> None:
        """Let others write."""
        for lock in self._locks:
            lock.release()
        self._locks = []


def _lock(folder: Path) -> FileLock:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return lock_folder(folder, "save checkpoints there")
    except OSError as error:
        raise CheckpointError(
            f"no checkpoint can be saved in {str(folder)!r} ({error}); expected a folder that can "
            "be written. Give AgentTrainer another default_root_dir, or enable_checkpointing=False."
        ) from error


def take_version(trainer: Any) -> None:
    """Make the folder of the logs at once, so that a run that begins meanwhile takes the next.

    Lightning chooses `version_N` by the folders that are there, and makes its own a second later.
    """
    for logger in trainer.loggers if trainer.is_global_zero else ():
        folder = logger.log_dir
        if folder and is_local(folder):
            with suppress(OSError):  # whoever writes there says so
                Path(folder).mkdir(parents=True, exist_ok=True)


@contextmanager
def one_writer(callbacks: list[Any], trainer: Any) -> Iterator[None]:
    """Let a trainer with these callbacks be the only one to write into its folders."""
    take_version(trainer)
    writer = OneWriter()
    callbacks.append(writer)
    try:
        yield
    finally:
        callbacks.remove(writer)
        writer.release()
