"""What two names of an environment hold in common: an array's memory, a list, a dict."""

from __future__ import annotations

from collections import deque
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_rl.checkpoints.parts import Part
from lightning_rl.errors import StateError

Place = tuple[str, str]  # where a part is, and a name there


class View(NamedTuple):
    """What one of several names that share memory is saved as."""

    kind: str  # "view" of an array, or "same" as the value at another place
    payload: Any


def shared_memory(parts: list[Part], constants: set[Place]) -> dict[Place, View]:
    """Say how to save the values that several names share, so that they share them again.

    Args:
        parts: of an environment.
        constants: what has not changed, and need not be saved if its likes have not, either.

    Raises:
        StateError: if two overlap in a way that can't be saved.
    """
    groups: dict[int, list[tuple[Place, Any]]] = {}
    for part in parts:
        for name, value in part.values.items():
            if isinstance(value, np.ndarray | list | dict | deque):
                groups.setdefault(id(_root(value)), []).append(((part.at, name), value))
    views: dict[Place, View] = {}
    for group in groups.values():
        if len(group) > 1 and not {place for place, _ in group} <= constants:
            views |= _of_arrays(group) if isinstance(group[0][1], np.ndarray) else _same(group)
    return views


def _root(value: Any) -> Any:
    """Give the array whose memory an array is in."""
    while isinstance(value, np.ndarray) and isinstance(value.base, np.ndarray):
        value = value.base
    return value


def _same(group: list[tuple[Place, Any]]) -> dict[Place, View]:
    first, *others = (place for place, _ in group)
    return {place: View("same", first) for place in others}


def _of_arrays(group: list[tuple[Place, Any]]) -> dict[Place, View]:
    root = _root(group[0][1])
    fits = root.flags.forc and all(
        value.dtype == root.dtype and all(stride >= 0 for stride in value.strides)
        for _, value in group
    )
    if not fits or root.dtype.kind not in "biuf":
        (at, name), (at_other, other) = (place for place, _ in group[:2])
        raise StateError(f"{at}.{name} and {at_other}.{other} share memory.")
    whole = torch.from_numpy(root.ravel(order="K").copy())
    return {place: View("view", _strided(whole, root, value)) for place, value in group}


def _strided(whole: torch.Tensor, root: NDArray[Any], value: NDArray[Any]) -> torch.Tensor:
    start, own = (array.__array_interface__["data"][0] for array in (root, value))
    strides = [stride // root.itemsize for stride in value.strides]
    return whole.as_strided(value.shape, strides, (own - start) // root.itemsize)


def copy_of_view(payload: torch.Tensor, copies: dict[int, Any]) -> NDArray[Any]:
    """Make an array of a saved view, in a copy of its memory that its likes share.

    Args:
        payload: what was saved.
        copies: those made so far; one dict for all that are loaded together.
    """
    memory = payload.untyped_storage().data_ptr()
    if memory not in copies:  # all of it, as one row
        whole = torch.empty(0, dtype=payload.dtype).set_(payload.untyped_storage())
        copies[memory] = whole.clone()
    parts = (payload.shape, payload.stride(), payload.storage_offset())
    array: NDArray[Any] = copies[memory].as_strided(*parts).numpy()
    return array
