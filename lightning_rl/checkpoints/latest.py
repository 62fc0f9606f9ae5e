"""The latest checkpoint of earlier runs that can be loaded."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning_rl.checkpoints.safe_file import is_local, open_checkpoint, read_checkpoint
from lightning_rl.errors import CheckpointError


def latest_checkpoint(files: Iterable[Path]) -> Path | None:
    """Find the newest undamaged one of some checkpoints; warn of newer ones that are damaged.

    Returns:
        None if there are no checkpoints.

    Raises:
        CheckpointError: if all there are, are damaged.
    """
    damaged: list[str] = []
    for file in sorted(set(files), key=lambda file: file.stat().st_mtime_ns, reverse=True):
        try:
            with open_checkpoint(file) as opened:
                read_checkpoint(opened, file, "meta")
        except CheckpointError as error:
            damaged.append(str(error))
            continue
        if damaged:
            warnings.warn(f"{' '.join(damaged)} The run goes on from {file}.", stacklevel=3)
        return file
    if damaged:
        raise CheckpointError(f"no checkpoint is undamaged: {' '.join(damaged)}")
    return None


def last_run(trainer: Any) -> Path | None:
    """Find where the last run of a trainer like this can go on; warn if there was none.

    It is looked for in its checkpoint callbacks' folders. One that was given none writes into
    `checkpoints` in `default_root_dir`, or in a version's folder of the logger there.
    """
    named = [callback.dirpath for callback in trainer.checkpoint_callbacks]
    folders = [Path(folder) for folder in named if folder is not None and is_local(folder)]
    root = Path(trainer.default_root_dir)
    if None in named:
        folders += [root / "checkpoints", *root.glob("*/version_*/checkpoints")]
    found = latest_checkpoint(file for folder in folders for file in folder.glob("*.ckpt"))
    if found is None:
        warnings.warn(
            f'ckpt_path="last", but there is no checkpoint in {[*map(str, folders)] or str(root)}, '
            "so the run starts from the beginning.",
            stacklevel=3,
        )
    return found
