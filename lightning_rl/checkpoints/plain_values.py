"""Values as tensors or plain Python: what a file may hold without unpickling."""

from __future__ import annotations

import random
from collections import deque
from enum import Enum
from typing import Any

import numpy as np
import torch

from lightning_rl.errors import StateError

SCALARS = (type(None), bool, int, float, str)


def to_plain(value: Any, copy: bool = True) -> Any:
    """Turn a value into `(kind, payload)` of tensors and plain Python.

    Generators and enum members can be saved by themselves, but not within a list, tuple, deque or
    dict, because they are restored into the live value's place.

    Args:
        value: what to save.
        copy: False gives arrays and tensors as they are, where they can be: for what is written
            at once, and may be large.

    Raises:
        StateError: if some part is of another kind than numbers, text, arrays, numpy generators,
            enum members, tensors, and lists, tuples, deques and dicts of them.

    Example:
        >>> from_plain(to_plain([1, (2.0, "three")]))
        [1, (2.0, 'three')]
    """
    if isinstance(value, Enum):
        return ("enum", value.name)
    if isinstance(value, np.random.Generator):
        return ("generator", _plain(value.bit_generator.state, copy))
    if isinstance(value, torch.Generator):
        return ("torch_generator", value.get_state())
    if isinstance(value, np.random.RandomState):
        return ("random_state", _plain(value.get_state(legacy=False), copy))
    if isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
        return ("python_random", _plain(value.getstate(), copy))
    return _plain(value, copy)


def _plain(value: Any, copy: bool) -> Any:
    # Exact types: a namedtuple or a numpy.float64, which is a float, would not load again as such.
    if type(value) in SCALARS:
        return ("scalar", value)
    if isinstance(value, torch.Tensor):
        is_whole = value.untyped_storage().nbytes() == value.nbytes  # else all of it is written
        return ("tensor", value.detach() if is_whole and not copy else value.detach().clone())
    if isinstance(value, np.ndarray | np.generic) and _fits_torch(value.dtype):
        kind = "array" if isinstance(value, np.ndarray) else "numpy_scalar"
        flags = value.flags
        as_it_is = not copy and kind == "array" and flags.c_contiguous and flags.writeable
        return (kind, torch.from_numpy(value if as_it_is else np.array(value)))
    if isinstance(value, dict):
        return ("dict", [(_plain(key, copy), _plain(part, copy)) for key, part in value.items()])
    if isinstance(value, deque):
        return ("deque", (value.maxlen, [_plain(part, copy) for part in value]))
    if type(value) in (list, tuple):
        return (type(value).__name__, [_plain(part, copy) for part in value])
    raise StateError(f"got a {type(value).__name__}; expected plain values that can be saved.")


def _fits_torch(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biuf" and dtype.itemsize <= 8 and dtype.isnative


def from_plain(plain: Any, current: Any = None, copy: bool = True) -> Any:
    """Undo `to_plain`. Generators are set in place: `current` must be the live one.

    With `copy=False`, arrays are views of what was saved.

    Raises:
        StateError: if the kind is unknown, or there is no live counterpart where one is needed.
    """
    kind, payload = plain
    if kind in ("scalar", "tensor"):
        return payload
    if kind in ("array", "numpy_scalar"):
        array = payload.numpy()
        return array[()] if kind == "numpy_scalar" else array.copy() if copy else array
    if kind == "dict":
        return {from_plain(k, copy=copy): from_plain(part, copy=copy) for k, part in payload}
    if kind == "deque":
        return deque((from_plain(part, copy=copy) for part in payload[1]), maxlen=payload[0])
    if kind in ("list", "tuple"):
        parts = [from_plain(part, copy=copy) for part in payload]
        return parts if kind == "list" else tuple(parts)
    check_live(kind, payload, current)
    if kind == "enum":
        return type(current)[payload]
    if kind == "torch_generator":
        current.set_state(payload)
        return current
    if kind == "random_state":
        current.set_state(from_plain(payload))
        return current
    if kind == "python_random":
        current.setstate(from_plain(payload))
        return current
    current = np.random.default_rng() if current is None else current
    current.bit_generator.state = from_plain(payload)
    return current


def check_live(kind: str, payload: Any, current: Any) -> None:
    """Check that a saved value that is restored into a live one fits it."""
    if kind == "enum":
        fits = isinstance(current, Enum) and payload in type(current).__members__
    elif kind == "generator":  # an environment makes its generator when it first needs it
        live = np.random.default_rng() if current is None else current
        name = from_plain(payload)["bit_generator"]
        fits = isinstance(live, np.random.Generator)
        fits = fits and live.bit_generator.state["bit_generator"] == name
    else:
        kinds = {
            "torch_generator": torch.Generator,
            "random_state": np.random.RandomState,
            "python_random": random.Random,
        }
        fits = kind in kinds and isinstance(current, kinds[kind])
    if not fits:
        raise StateError(f"can't restore a {kind!r} into a {type(current).__name__}.")
