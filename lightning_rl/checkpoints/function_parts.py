"""What a function holds: variables it has closed over, defaults, attributes, data of its module."""

from __future__ import annotations

import dis
import sys
from collections import deque
from collections.abc import Iterator
from functools import cache, partial
from operator import setitem
from pathlib import Path
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from lightning_rl.checkpoints.parts import (
    CONSTANTS,
    GENERATORS,
    Found,
    Names,
    Part,
    is_open,
    is_place,
    is_trusted,
    keep,
)

NUMBERS = (bool, int, float, complex, np.generic)
FIXED = (*CONSTANTS, *NUMBERS, str, bytes, frozenset, type(None))  # nothing in them changes
MANY = (list, dict, deque, np.ndarray, torch.Tensor)
INSTALLED = {"site-packages", "dist-packages"}
MAX_DEPTH = 8  # of lists in lists: they may go in circles


def of_function(at: str, function: Any) -> Found:
    """Look at what a function, a method or a partial holds."""
    if isinstance(function, partial):
        return _of_partial(at, function)
    owner = getattr(function, "__self__", None)
    if isinstance(owner, GENERATORS):  # of `rng.normal`, for instance
        return [Part(at, "method", at, {"generator": owner}, keep)], []
    if isinstance(function, MethodType):
        return [], [(f"{at}.self", owner), (f"{at}()", function.__func__)]
    if not isinstance(function, FunctionType):
        return [], []
    found = [_of_closure(at, function)]
    if not is_trusted(str(function.__module__)):
        found += [_of_defaults(at, function), _of_attributes(at, function), _of_globals(function)]
    return _joined(found)


def _joined(found: list[Found]) -> Found:
    return [part for parts, _ in found for part in parts], [v for _, held in found for v in held]


def _of_partial(at: str, function: Any) -> Found:
    given = {str(i): v for i, v in enumerate(function.args)} | function.keywords
    held = {name: v for name, v in given.items() if is_place(v)}
    values = {n: v for n, v in given.items() if n not in held and not isinstance(v, FIXED)}

    def put(name: str, value: Any) -> None:
        given[name] = value
        args = tuple(given[str(i)] for i in range(len(function.args)))
        keywords = {name: given[name] for name in function.keywords}
        function.__setstate__((function.func, args, keywords, vars(function)))

    parts = [Part(at, "partial", at, values, put)] if values else []
    return parts, [(f"{at}()", function.func), *((f"{at}({n})", v) for n, v in held.items())]


def _of_closure(at: str, function: FunctionType) -> Found:
    cells = dict(zip(function.__code__.co_freevars, function.__closure__ or (), strict=True))
    contents = {name: cell.cell_contents for name, cell in cells.items() if _is_filled(cell)}
    held = {name: v for name, v in contents.items() if is_place(v) or isinstance(v, CONSTANTS)}
    values = {name: v for name, v in contents.items() if name not in held}

    def put(name: str, value: Any) -> None:
        cells[name].cell_contents = value

    late = cells.keys() - contents.keys()
    parts = [Part(at, "function", at, values, put, late=late)] if values or late else []
    return parts, [(f"{at}.{name}", v) for name, v in held.items() if not isinstance(v, CONSTANTS)]


def _is_filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:  # a variable that has no value as yet
        return False
    return True


def _of_defaults(at: str, function: FunctionType) -> Found:
    """Look at the defaults that a call may change, such as a list."""
    code, defaults = function.__code__, function.__defaults__ or ()
    places = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
    given = dict(zip(places, defaults, strict=True)) | (function.__kwdefaults__ or {})
    held = {name: v for name, v in given.items() if is_place(v)}
    values = {n: v for n, v in given.items() if n not in held and _may_be_state(v, False)}

    def put(name: str, value: Any) -> None:
        given[name] = value
        function.__defaults__ = tuple(given[place] for place in places) or None
        if name not in places:
            function.__kwdefaults__[name] = value  # type: ignore[index]

    parts = [Part(f"{at} defaults", "defaults", at, values, put)] if values else []
    return parts, [(f"{at}.{name}", value) for name, value in held.items()]


def _of_attributes(at: str, function: FunctionType) -> Found:
    own = vars(function)
    values = {n: v for n, v in own.items() if n != "__wrapped__" and _may_be_state(v, True)}
    parts = [Part(f"{at} attributes", "attributes", at, values, partial(setitem, own))]
    return (parts if values else []), []


# ---- the module's data -----------------------------------------------------------------------


class Used(NamedTuple):
    """The names that code reads and sets, among the globals and among attributes."""

    reads: frozenset[str]
    sets: frozenset[str]
    attributes: frozenset[str]
    set_attributes: frozenset[str]


def _of_globals(function: FunctionType) -> Found:
    """Look at what a function uses of its module's data, and of other modules of the user's.

    From an installed package's function nothing leads on: not its helpers, not other modules.
    """
    used, module = _used(function.__code__), str(function.__module__)
    found = [_of_names(module, function.__globals__, used.reads, used.sets)]
    if not _is_users_own(module):
        return found[0][0], []
    for name in sorted(used.reads):
        other = function.__globals__.get(name)
        if isinstance(other, ModuleType) and _is_users_own(other.__name__):
            names = other.__name__, vars(other)
            found.append(_of_names(*names, used.attributes, used.set_attributes))
    return _joined(found)


def _of_names(module: str, names: Names, reads: frozenset[str], sets: frozenset[str]) -> Found:
    """Look at what a module names: data, functions of the user's own, objects of its classes."""
    used = {name: names[name] for name in sorted(reads | sets) if name in names}
    parts = [
        Part(f"{module}.{name}", "global", module, {name: v}, partial(setitem, names))
        for name, v in used.items()
        if _may_be_state(v, name in sets)
    ]
    held = [
        (f"{module}.{name}", v)
        for name, v in used.items()
        if (isinstance(v, FunctionType) and _is_users_own(str(v.__module__)))
        or (is_open(v) and type(v).__module__ == module and not isinstance(v, nn.Module))
    ]
    return parts, held


def _may_be_state(value: Any, is_set: bool) -> bool:
    kinds = (*GENERATORS, *MANY, *NUMBERS) if is_set else (*GENERATORS, *MANY)
    return isinstance(value, kinds) and _is_data(value)


def _is_data(value: Any, depth: int = 0) -> bool:
    """Tell whether a value is data through and through: no table of functions, for instance."""
    if isinstance(value, list | tuple | dict | deque):
        parts = value.values() if isinstance(value, dict) else value
        return depth < MAX_DEPTH and all(_is_data(part, depth + 1) for part in parts)
    kinds = (*GENERATORS, *NUMBERS, np.ndarray, torch.Tensor, str, bytes, type(None))
    return isinstance(value, kinds)


def _is_users_own(module: str) -> bool:
    """Tell whether a module is the user's own: a notebook, or a file that is not installed."""
    root = module.partition(".")[0]
    if root == "__main__":
        return True
    file = getattr(sys.modules.get(root), "__file__", None)
    return not is_trusted(root) and file is not None and not INSTALLED & set(Path(file).parts)


@cache
def _used(code: CodeType) -> Used:
    found = list(_instructions(code))
    kinds = (
        ("LOAD_GLOBAL",), ("STORE_GLOBAL",), ("LOAD_ATTR", "LOAD_METHOD"), ("STORE_ATTR",),
    )  # fmt: skip
    return Used(*(frozenset(n for kind, n in found if kind in wanted) for wanted in kinds))


def _instructions(code: CodeType) -> Iterator[tuple[str, Any]]:
    yield from ((one.opname, one.argval) for one in dis.get_instructions(code))
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _instructions(constant)
