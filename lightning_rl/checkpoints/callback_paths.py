"""What a checkpoint says of other checkpoints: just names of files beside it.

Lightning's `ModelCheckpoint` keeps the paths of the files it has written, and removes what they
name when there is a better one. In a file from elsewhere they could name anything. So paths are
saved as names, and a loaded name is looked for in the checkpoint's own folder only. That keeps the
folders of the one who saved it to themselves, and lets a run's folder be moved.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

PATHS = ("best_model_path", "last_model_path", "kth_best_model_path")
SUFFIX = ".ckpt"


def without_folders(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Replace the paths in callbacks' states by names. The checkpoint given is left alone.

    Example:
        >>> state = {"best_model_path": "/home/me/run/a.ckpt", "best_k_models": {}, "dirpath": "/x"}
        >>> without_folders({"callbacks": {"ModelCheckpoint": state}})["callbacks"]
        {'ModelCheckpoint': {'best_model_path': 'a.ckpt', 'best_k_models': {}, 'dirpath': ''}}
    """
    return _changed(checkpoint, lambda path: Path(str(path)).name, "")


def with_folder(checkpoint: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    """Make the names in callbacks' states paths in a folder; None forgets them.

    Example:
        >>> state = {"best_model_path": "local:///home/me/thesis", "dirpath": "/home/me"}
        >>> with_folder({"callbacks": {"ModelCheckpoint": state}}, Path("/run"))["callbacks"]
        {'ModelCheckpoint': {'best_model_path': '', 'dirpath': '/run'}}
    """

    def found(path: Any) -> str:
        name = Path(str(path)).name
        known = folder is not None and name.endswith(SUFFIX) and (folder / name).is_file()
        return str(folder / name) if folder is not None and known else ""

    return _changed(checkpoint, found, "" if folder is None else str(folder))


def _changed(
    checkpoint: dict[str, Any], change: Callable[[Any], str], folder: str
) -> dict[str, Any]:
    callbacks = checkpoint.get("callbacks")
    if not isinstance(callbacks, dict):
        return checkpoint
    states = {name: _changed_state(state, change, folder) for name, state in callbacks.items()}
    return {**checkpoint, "callbacks": states}


def _changed_state(state: Any, change: Callable[[Any], str], folder: str) -> Any:
    if not isinstance(state, dict):
        return state
    changed = dict(state)
    for name in PATHS:
        if name in state:
            changed[name] = change(state[name])
    if isinstance(state.get("best_k_models"), dict):
        best = {change(path): score for path, score in state["best_k_models"].items()}
        changed["best_k_models"] = {path: score for path, score in best.items() if path}
    if "dirpath" in state:
        changed["dirpath"] = folder
    return changed
