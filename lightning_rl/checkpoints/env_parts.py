"""What an environment consists of: every place that may hold a part of its state.

That is not only the attributes of the environments in it: their objects, their classes, what their
functions hold and use, the generators of spaces, and the numbers of neural networks.
"""

from __future__ import annotations

from functools import cached_property, partial
from types import FunctionType, MemberDescriptorType
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from gymnasium.utils import RecordConstructorArgs
from torch import nn

from lightning_rl.checkpoints.function_parts import of_function
from lightning_rl.checkpoints.parts import (
    CONSTANTS,
    ENVS,
    FUNCTIONS,
    GENERATORS,
    TRUSTED,
    Found,
    Names,
    Part,
    has_protocol,
    is_open,
    is_place,
    keep,
)


def env_parts(env: Any) -> list[Part]:
    """List an environment and all that it holds: wrapped, vectorised or otherwise."""
    todo: list[tuple[str, Any]] = [("env", env)]
    found_at: dict[str, Part] = {}
    seen: dict[int, Any] = {}  # which keeps the objects, so that no other gets their ids
    for at, value in todo:  # it grows on the way
        if id(value) not in seen:
            seen[id(value)] = value
            found, held = _look(at, value)
            for part in found:
                found_at.setdefault(part.at, part)
            todo.extend(held)
    parts = list(found_at.values())
    first_at = {id(part.owner): part.at for part in parts if part.owner is not None}
    for part in [part for part in parts if part.owner is not None]:
        held_at = {n: first_at.get(id(v), "") for n, v in _attributes(part.owner).items()}
        elsewhere = {n: at for n, at in held_at.items() if at not in ("", f"{part.at}.{n}")}
        part.refers_to = elsewhere
    return parts


def _look(at: str, value: Any) -> Found:
    if isinstance(value, list | tuple):
        return [], [(f"{at}[{i}]", part) for i, part in enumerate(value)]
    if isinstance(value, Space):
        return _of_space(at, value)
    if isinstance(value, nn.Module):
        return [_of_network(at, value)], []
    if isinstance(value, FUNCTIONS):
        return of_function(at, value)
    if isinstance(value, type):
        return _of_class(at, value)
    if isinstance(value, ENVS) or is_open(value):
        return _of_object(at, value)
    return [], []


def _of_object(at: str, value: Any) -> Found:
    kind = type(value)
    attributes = _attributes(value)
    if has_protocol(value):
        held = {name: v for name, v in attributes.items() if isinstance(v, ENVS)}
        attributes = {}
    else:
        held = {name: v for name, v in attributes.items() if is_place(v) and name != "env_fns"}
    values = {name: v for name, v in attributes.items() if name not in held and _varies(value, v)}
    values.pop("env_fns", None)
    put = partial(_put_attribute, value)
    part = Part(at, kind.__qualname__, kind.__name__, values, put, value)
    classes = [c for c in kind.__mro__ if c.__module__.split(".")[0] not in TRUSTED]
    places = [(f"{at}.{name}", v) for name, v in held.items()]
    own = [] if has_protocol(value) else [(f"class {c.__qualname__}", c) for c in classes]
    return [part], places + own


def _varies(owner: Any, value: Any) -> bool:
    """Tell whether an attribute may be state."""
    if value is getattr(owner, "metadata", None) or isinstance(value, CONSTANTS):
        return False
    if isinstance(owner, RecordConstructorArgs) and isinstance(value, dict):
        # Gymnasium's wrappers keep their constructor's arguments: functions, spaces, text.
        kept = (str, bytes, Space, *CONSTANTS, *FUNCTIONS)
        return not any(isinstance(given, kept) or is_place(given) for given in value.values())
    return not (isinstance(value, list | tuple) and value and is_constant(value))


def is_constant(value: Any) -> bool:
    """Tell whether nothing in a value can change, whatever it is."""
    if isinstance(value, list | tuple) and value:
        return all(is_constant(part) for part in value)
    return isinstance(value, CONSTANTS)


def _attributes(value: Any) -> Names:
    return dict(vars(value)) | {
        name: getattr(value, name) for name in slots(type(value)) if hasattr(value, name)
    }


def slots(kind: type) -> list[str]:
    """Name a class's attributes that are not in `vars`."""
    classes = [c for c in kind.__mro__ if c.__module__ != "builtins"]
    named = [(name, v) for c in classes for name, v in vars(c).items() if "__slots__" in vars(c)]
    return [name for name, v in named if isinstance(v, MemberDescriptorType)]


def _put_attribute(owner: Any, name: str, value: Any) -> None:
    if name in slots(type(owner)):
        setattr(owner, name, value)
    else:
        vars(owner)[name] = value


def _of_class(at: str, kind: type) -> Found:
    """Look at the data of a class, and at what its methods draw from."""
    own = {name: v for name, v in vars(kind).items() if not name.startswith("__")}
    own.pop("metadata", None)
    functions = [f for v in vars(kind).values() for f in _functions(v)]
    held = {name: v for name, v in own.items() if isinstance(v, Space | nn.Module)}
    data = (bool, int, float, complex, str, bytes, list, tuple, dict, np.ndarray, np.generic)
    kinds = (*data, *GENERATORS, torch.Tensor)
    values = {n: v for n, v in own.items() if isinstance(v, kinds) and not is_place(v)}
    part = Part(at, at, f"class {kind.__name__}", values, partial(setattr, kind))
    places = [(f"{at}.{name}", v) for name, v in held.items()]
    return [part], places + [(f"{at}.{f.__name__}()", f) for f in functions]


def _functions(member: Any) -> list[FunctionType]:
    """Give the functions of a class's member: a method, of whatever kind, or a property."""
    if isinstance(member, property):
        found = [member.fget, member.fset, member.fdel]
    elif isinstance(member, cached_property):
        found = [member.func]
    else:
        found = [getattr(member, "__func__", member)]  # of a static or class method
    return [one for one in found if isinstance(one, FunctionType)]


def _of_space(at: str, space: Space) -> Found:
    part = Part(at, type(space).__name__, at, {"np_random": space.np_random}, keep)
    inner: Any = getattr(space, "spaces", [])  # of a Dict, Tuple or OneOf
    inner = list(inner.values()) if isinstance(inner, dict) else list(inner)
    inner += [getattr(space, "feature_space", None)]  # of a Sequence
    return [part], [(f"{at}[{i}]", one) for i, one in enumerate(inner) if one is not None]


def _of_network(at: str, network: nn.Module) -> Part:
    """Look at a network's parameters, buffers, and numbers that it keeps as attributes."""
    owners: dict[str, Any] = {}
    values: Names = dict(network.named_parameters()) | dict(network.named_buffers())
    for place, module in network.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, int | float | torch.Tensor) and not name.startswith("_"):
                owners[f"{place}.{name}"] = module
                values[f"{place}.{name}"] = value

    live = dict(values)

    @torch.no_grad()
    def put(name: str, value: Any) -> None:
        if isinstance(live[name], torch.Tensor):
            live[name].copy_(value)
        else:
            setattr(owners[name], name.rpartition(".")[2], value)

    return Part(at, type(network).__qualname__, at, values, put, is_network=True)
