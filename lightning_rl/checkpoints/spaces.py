"""Spaces as plain values, for checkpoints as for the manifests of stored data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from lightning_rl.errors import SpaceError

MAX_ELEMENTS = 2**26  # of one observation or action: 256 MiB of float32
ATTRIBUTES = {
    "Box": ("shape", "low", "high"),
    "Discrete": ("n", "start"),
    "MultiDiscrete": ("nvec", "start"),
    "MultiBinary": ("n",),
}


def space_state(space: Space) -> dict[str, Any]:
    """Describe a space of arrays, or a Dict of them, by values that JSON can hold.

    Raises:
        SpaceError: if the space is of a kind no agent takes.

    Example:
        >>> space_state(spaces.Box(0, 1, (3,)))["low"]
        0.0
        >>> space_from_state(space_state(spaces.Discrete(2)))
        Discrete(2)
    """
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "spaces": {key: space_state(part) for key, part in space.items()}}
    kind = next((kind for kind in ATTRIBUTES if isinstance(space, getattr(spaces, kind))), None)
    if kind is None:
        raise SpaceError(
            f"the space {space} can't be saved; expected Box, Discrete, Multi* or Dict."
        )
    values = {name: np.asarray(getattr(space, name)) for name in ATTRIBUTES[kind]}
    plain = {
        name: _plain_bound(value) if name in ("low", "high") else value.tolist()
        for name, value in values.items()
    }
    return {"type": kind, "dtype": str(space.dtype), **plain}


def _plain_bound(bound: NDArray[Any]) -> Any:
    """Give a bound as nested lists, or as one number if all are equal; infinity as a string."""
    if bound.size and (bound == bound.flat[0]).all():
        bound = bound.flat[0]
    if np.isfinite(bound).all():
        return bound.tolist()
    return bound.astype(np.float64).astype(str).tolist()


def space_from_state(state: dict[str, Any]) -> Space:
    """Undo `space_state`. Each size is checked before it is used, as the file may say anything.

    Raises:
        SpaceError: if the kind is unknown, or the space too large.
        ValueError, TypeError, KeyError, AttributeError, AssertionError, OverflowError: if the
            values describe no space of that kind.
    """
    kind = state["type"]
    if kind == "Dict":  # from pairs, which keep their order: a Dict of a dict would sort its keys
        return spaces.Dict([(k, space_from_state(part)) for k, part in state["spaces"].items()])
    if kind not in ATTRIBUTES:
        raise SpaceError(
            f"got a space of the unknown kind {kind!r}; expected one of {['Dict', *ATTRIBUTES]}."
        )
    dtype = np.dtype(state["dtype"])
    if dtype.kind not in "fiub":
        raise SpaceError(f"got a space of dtype {dtype}; expected numbers.")
    values = {name: state[name] for name in ATTRIBUTES[kind]}
    if kind == "Box":
        sizes = [checked_count(size, 0, MAX_ELEMENTS) for size in values["shape"]]
        if math.prod(sizes) > MAX_ELEMENTS:
            raise SpaceError(
                f"got a Box of shape {sizes}; expected at most {MAX_ELEMENTS} numbers."
            )
        for name in ("low", "high"):
            bound = np.asarray(values[name], dtype if dtype.kind == "f" else None)
            values[name] = np.broadcast_to(bound, sizes).copy()
    if (kind, dtype.name) not in (("MultiBinary", "int8"), ("Discrete", "int64")):
        values["dtype"] = dtype.type  # MultiBinary takes none, nor Discrete in older Gymnasiums
    return getattr(spaces, kind)(**values)  # type: ignore[no-any-return]  # one of the four


def checked_count(number: Any, smallest: int, largest: int) -> int:
    """Give an integer that a file says, if it is one in its range.

    Raises:
        ValueError: otherwise; it is for whoever reads the file to say which one it was.
    """
    if type(number) is not int or not smallest <= number <= largest:
        raise ValueError(f"it says {number!r} where a number from {smallest} to {largest} belongs")
    return number
