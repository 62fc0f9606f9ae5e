"""Spaces as plain values, for checkpoints as for the manifests of stored data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from lightning_rl.errors import SpaceError

MAX_ELEMENTS = 2**25  # of one observation or action: its bounds take up to 256 MiB, and seconds
PART_ELEMENTS = 2**13  # making a small part of a Dict costs as much as one of so many
ATTRIBUTES = {
    "Box": ("shape", "low", "high"),
    "Discrete": ("n", "start"),
    "MultiDiscrete": ("nvec", "start"),
    "MultiBinary": ("n",),
}


def space_state(space: Space) -> dict[str, Any]:
    """Describe a space of arrays, or a Dict of them, by values that JSON can hold.

    Raises:
        SpaceError: if the space is of a kind no agent takes, or too large.

    Example:
        >>> space_state(spaces.Box(0, 1, (3,)))["low"]
        0.0
        >>> space_from_state(space_state(spaces.Discrete(2)))
        Discrete(2)
    """
    state = _state_of(space)
    _check_size(state)
    return state


def _state_of(space: Space) -> dict[str, Any]:
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "spaces": {key: _state_of(part) for key, part in space.items()}}
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
    _check_size(state)
    return _made(state)


def _check_size(state: dict[str, Any]) -> None:
    if (size := _count_elements(state)) > MAX_ELEMENTS:
        raise SpaceError(
            f"got a space of {size} numbers (a part of a Dict counts as {PART_ELEMENTS} at least); "
            f"expected at most {MAX_ELEMENTS}."
        )


def _count_elements(state: dict[str, Any]) -> int:
    """Count the numbers of one observation, as far as they are not in the state itself."""
    if state["type"] == "Dict":
        parts = [_count_elements(part) for part in state["spaces"].values()]
        return sum(max(PART_ELEMENTS, size) for size in parts)
    shape = state.get({"Box": "shape", "MultiBinary": "n"}.get(state["type"], ""), 1)
    sizes = shape if isinstance(shape, list | tuple) else [shape]
    return math.prod(checked_count(size, 0, 2**62) for size in sizes)


def _made(state: dict[str, Any]) -> Space:
    kind = state["type"]
    if kind == "Dict":  # from pairs, which keep their order: a Dict of a dict would sort its keys
        return spaces.Dict([(key, _made(part)) for key, part in state["spaces"].items()])
    if kind not in ATTRIBUTES:
        raise SpaceError(
            f"got a space of the unknown kind {kind!r}; expected one of {['Dict', *ATTRIBUTES]}."
        )
    dtype = np.dtype(state["dtype"])
    if dtype.kind not in "fiub":
        raise SpaceError(f"got a space of dtype {dtype}; expected numbers.")
    values = {name: state[name] for name in ATTRIBUTES[kind]}
    if kind == "Box":
        for name in ("low", "high"):
            bound = np.asarray(values[name], dtype if dtype.kind == "f" else None)
            values[name] = np.broadcast_to(bound, values["shape"]).copy()
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
