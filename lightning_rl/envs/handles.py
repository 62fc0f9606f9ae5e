"""What a deep copy of an environment would share with it: simulators, connections, generators."""

from __future__ import annotations

import datetime
import decimal
import enum
import fractions
import logging
import re
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import PurePath
from types import BuiltinFunctionType, ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import Space
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

NUMBERS_AND_TEXT = (bool, int, float, complex, str, bytes, type(None), np.generic)
# Copying gives the same object, and may do so: nothing can be changed in it, or it is a global.
UNCHANGING = (
    *NUMBERS_AND_TEXT, frozenset, range, enum.Enum, re.Pattern, PurePath, datetime.date,
    datetime.time, datetime.timedelta, datetime.tzinfo, decimal.Decimal, fractions.Fraction,
    np.dtype, torch.dtype, torch.device, logging.Logger,
)  # fmt: skip
ENVS = (gym.Env, VectorEnv)
OWN_COPYING = ("__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__")
MAX_ENTRIES = 1000  # of a container that are looked at


def is_plain(value: Any) -> bool:
    """Tell whether a value is made of numbers, text, arrays and random generators alone."""
    if isinstance(value, list | tuple | set | deque):
        return all(is_plain(part) for part in value)
    if isinstance(value, dict):
        return all(is_plain(part) for part in value.values())
    return isinstance(value, (*NUMBERS_AND_TEXT, np.ndarray, np.random.Generator))


def find_handle(parts: list[Any]) -> str | None:
    """Name an object that parts of an environment hold and that ends something outside of Python.

    A class with a `__del__` and no way of its own to be copied (such as PyBullet's client) holds
    what a deep copy would share, and would end when it is deleted.
    """
    return _find(parts, lambda value: not isinstance(value, ENVS) and _cleans_up(type(value)))


def _cleans_up(kind: type) -> bool:
    return hasattr(kind, "__del__") and all(
        getattr(kind, name, None) is getattr(object, name, None) for name in OWN_COPYING
    )


def find_shared(parts: list[Any], copies: list[Any]) -> str | None:
    """Name an object that can change and that parts of an environment and of its copy both hold."""
    held = {id(value) for twin in copies for value, _ in _walk(twin)} | set(map(id, copies))
    same = [type(part).__name__ for part in parts if id(part) in held]
    return same[0] if same else _find(parts, lambda value: id(value) in held and _changes(value))


def _changes(value: Any) -> bool:
    """Tell whether what a copy has in common with its original may change."""
    if isinstance(value, BuiltinFunctionType):  # such as `rng.normal`, which holds its generator
        return not isinstance(value.__self__, ModuleType | type | None)
    if isinstance(value, tuple):  # its parts are looked at
        return False
    return not (callable(value) or isinstance(value, (*UNCHANGING, ModuleType)))


def _find(parts: list[Any], is_sought: Callable[[Any], bool]) -> str | None:
    values = (found for part in parts for found in _walk(part))
    return next((place for value, place in values if is_sought(value)), None)


def _walk(part: Any) -> Iterator[tuple[Any, str]]:
    """Give all that an environment holds, within objects and containers, with where it is."""
    places = [(value, f"{type(part).__name__}.{name}") for name, value in vars(part).items()]
    seen = {id(value) for value, _ in places}
    for value, place in places:  # it grows on the way
        yield value, place
        if isinstance(value, (*UNCHANGING, *ENVS, Space, EnvSpec)) or callable(value):
            continue
        for held in _held(value):
            if id(held) not in seen:
                seen.add(id(held))
                places.append((held, place))


def _held(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple | set | deque):
        value = getattr(value, "__dict__", {}).values()
    return list(islice(value, MAX_ENTRIES))
