"""A place that may hold a part of an environment's state; which values are looked into."""

from __future__ import annotations

import logging
import random
import re
import sys
from collections.abc import Callable, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import Space
from gymnasium.envs.registration import EnvSpec
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


def keep(name: str, value: Any) -> None:
    """Set nothing: generators are set in place."""


def is_trusted(module: str) -> bool:
    """Tell whether a module is known to keep no state of an environment."""
    root = module.partition(".")[0]
    return root in TRUSTED or root in sys.stdlib_module_names
