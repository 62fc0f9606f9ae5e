"""What an environment consists of: every place that may hold a part of its state.

That is not only the attributes of the environments in it: their objects, their classes, what
functions they hold have closed over, the generators that spaces, bound methods and modules of
Python hold, and the numbers of neural networks.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import Space
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv
from torch import nn

ENVS = (gym.Env, VectorEnv)
FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType, partial)
GENERATORS = (np.random.Generator, np.random.RandomState, random.Random, torch.Generator)
# Nothing in them changes, or they are the whole process's.
CONSTANTS = (
    EnvSpec, ModuleType, type, np.ufunc, np.dtype, torch.dtype, torch.device, logging.Logger,
    PurePath, re.Pattern,
)  # fmt: skip
TRUSTED = ("gymnasium", "lightning_rl", "lightning", "torch", "numpy", "builtins", "typing")
PROTOCOL = ("state_dict", "load_state_dict")
Names = dict[str, Any]


@dataclass
class Part:
    """One of the places: names with live values.

    Args:
        at: how the environment leads there, such as "env.envs[0].world".
        kind: what a part of another environment must be to be its counterpart.
        label: what a message calls it.
        values: what may change there, by name.
        put: sets a name to a value; generators are set in place, without it.
        owner: whose attributes they are, or None: then no name may be added.
        refers_to: the names whose values are found elsewhere first, and where.
        is_network: whether it is one: then its tensors keep their shapes.
        late: names that have no value as yet, and may get one.
    """

    at: str
    kind: str
    label: str
    values: Names
    put: Callable[[str, Any], None]
    owner: Any = None
    refers_to: dict[str, str] = field(default_factory=dict)
    is_network: bool = False
    late: Set[str] = frozenset()

    @property
    def is_env(self) -> bool:
        """Whether it is an environment itself."""
        return isinstance(self.owner, ENVS)

    @property
    def has_protocol(self) -> bool:
        """Whether its author says what the state is, by `state_dict` and `load_state_dict`."""
        return self.owner is not None and has_protocol(self.owner)


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


def has_protocol(value: Any) -> bool:
    """Tell whether an environment or object says by itself what its state is."""
    named = all(callable(getattr(type(value), name, None)) for name in PROTOCOL)
    return named and not isinstance(value, nn.Module)


def is_place(value: Any) -> bool:
    """Tell whether a value is looked into, instead of being saved as a whole."""
    if isinstance(value, list | tuple) and value:
        return all(is_place(part) or isinstance(part, CONSTANTS) for part in value)
    return isinstance(value, (*ENVS, *FUNCTIONS, Space, nn.Module)) or is_open(value)


def is_open(value: Any) -> bool:
    """Tell whether an object is all in its attributes: its class is written in Python, plainly."""
    kind = type(value)
    plain = ("__new__", "__reduce__", "__reduce_ex__", "__getstate__")
    return (
        not isinstance(value, (*ENVS, *CONSTANTS, BaseException))
        and hasattr(value, "__dict__")
        and not hasattr(kind, "__del__")
        and all(getattr(kind, name, None) is getattr(object, name, None) for name in plain)
    )


Found = tuple[list[Part], list[tuple[str, Any]]]  # parts, and what is to be looked at


def _look(at: str, value: Any) -> Found:
    if isinstance(value, list | tuple):
        return [], [(f"{at}[{i}]", part) for i, part in enumerate(value)]
    if isinstance(value, Space):
        return _of_space(at, value)
    if isinstance(value, nn.Module):
        return [_of_network(at, value)], []
    if isinstance(value, FUNCTIONS):
        return _of_function(at, value)
    if isinstance(value, type):
        return _of_class(at, value)
    if isinstance(value, ENVS) or is_open(value):
        return _of_object(at, value)
    return [], []


def _keep(name: str, value: Any) -> None:
    """Set nothing: generators are set in place."""


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
    functions = [v for v in vars(kind).values() if isinstance(v, FunctionType)]
    held = {name: v for name, v in own.items() if isinstance(v, Space | nn.Module)}
    data = (bool, int, float, complex, str, bytes, list, tuple, dict, np.ndarray, np.generic)
    kinds = (*data, *GENERATORS, torch.Tensor)
    values = {n: v for n, v in own.items() if isinstance(v, kinds) and not is_place(v)}
    part = Part(at, at, f"class {kind.__name__}", values, partial(setattr, kind))
    places = [(f"{at}.{name}", v) for name, v in held.items()]
    return [part], places + [(f"{at}.{f.__name__}()", f) for f in functions]


def _of_space(at: str, space: Space) -> Found:
    part = Part(at, type(space).__name__, at, {"np_random": space.np_random}, _keep)
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


def _of_function(at: str, function: Any) -> Found:
    if isinstance(function, partial):
        return _of_partial(at, function)
    owner = getattr(function, "__self__", None)
    if isinstance(owner, GENERATORS):  # of `rng.normal`, for instance
        return [Part(at, "method", at, {"generator": owner}, _keep)], []
    if isinstance(function, MethodType):
        return [], [(f"{at}.self", owner), (f"{at}()", function.__func__)]
    if not isinstance(function, FunctionType):
        return [], []
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    contents = {name: cell.cell_contents for name, cell in cells.items() if _is_filled(cell)}
    held = {name: v for name, v in contents.items() if is_place(v) or isinstance(v, CONSTANTS)}
    values = {name: v for name, v in contents.items() if name not in held}

    def put(name: str, value: Any) -> None:
        cells[name].cell_contents = value

    late = cells.keys() - contents.keys()
    parts = [Part(at, "function", at, values, put, late=late)] if values or late else []
    walked = [(f"{at}.{name}", v) for name, v in held.items() if not isinstance(v, CONSTANTS)]
    return [*parts, *_globals(function)], walked


def _of_partial(at: str, function: Any) -> Found:
    """Look at what a partial calls and at what it was given, but numbers and texts."""
    given = {str(i): v for i, v in enumerate(function.args)} | function.keywords
    held = {name: v for name, v in given.items() if is_place(v)}
    fixed = (*CONSTANTS, bool, int, float, complex, str, bytes, type(None))
    values = {n: v for n, v in given.items() if n not in held and not isinstance(v, fixed)}

    def put(name: str, value: Any) -> None:
        given[name] = value
        args = tuple(given[str(i)] for i in range(len(function.args)))
        keywords = {name: given[name] for name in function.keywords}
        function.__setstate__((function.func, args, keywords, vars(function)))

    parts = [Part(at, "partial", at, values, put)] if values else []
    return parts, [(f"{at}()", function.func), *((f"{at}({n})", v) for n, v in held.items())]


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:  # a variable that has no value as yet
        return False
    return True


def _globals(function: FunctionType) -> list[Part]:
    """Look at the generators of a module that a function names."""
    if str(function.__module__).split(".")[0] in TRUSTED:
        return []
    named = {name: function.__globals__.get(name) for name in _names(function.__code__)}
    drawn = {name: v for name, v in named.items() if isinstance(v, GENERATORS)}
    module = str(function.__module__)
    return [Part(f"{module}.{n}", "global", module, {n: v}, _keep) for n, v in drawn.items()]


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
