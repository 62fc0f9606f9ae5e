"""The state of a live environment, as plain values.

Nothing is built from a file: loading sets attributes of the live environment to numbers, text,
arrays and lists of them.
"""

from __future__ import annotations

from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import Space
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv

from lightning_rl.checkpoints.plain_values import check_live, from_plain, to_plain
from lightning_rl.errors import StateError

FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType, partial, np.ufunc, torch.nn.Module)
# What an environment holds besides its state: fixed when it was made, so it is not saved.
CONSTANTS = (Space, EnvSpec, ModuleType, type, gym.Env, VectorEnv, *FUNCTIONS)


def _parts(env: Any) -> list[Any]:
    """List an environment and every environment it holds: wrapped, vectorised or otherwise."""
    parts, seen = [env], {id(env)}
    for part in parts:  # it grows on the way
        for held in _held(part):
            if id(held) not in seen:
                parts.append(held)
                seen.add(id(held))
    return parts


def _held(env: Any) -> list[Any]:
    """List the environments among an environment's attributes."""
    values = vars(env).values()
    groups = [value if isinstance(value, list | tuple) else [value] for value in values]
    return [held for group in groups for held in group if isinstance(held, gym.Env | VectorEnv)]


def _is_configuration(part: Any, value: Any) -> bool:
    """Tell whether an attribute's value was fixed when the environment was made."""
    if value is part.metadata:
        return True
    if isinstance(part, RecordConstructorArgs) and isinstance(value, dict):
        # Gymnasium's wrappers keep their constructor's arguments, functions and spaces among them.
        return any(_is_constant(argument) for argument in value.values())
    return _is_constant(value)


def _is_constant(value: Any) -> bool:
    if isinstance(value, list | tuple) and value:
        return all(_is_constant(part) for part in value)
    return isinstance(value, CONSTANTS)


def env_state(env: Any) -> list[dict[str, Any]]:
    """Save the state of a live environment: every attribute of its parts that is plain data.

    Raises:
        StateError: naming the first attribute that can't be saved (a simulator, a socket), in
            which case a resumed run must start new episodes.

    Example:
        >>> env = gym.make_vec("CartPole-v1", num_envs=2)
        >>> _ = env.reset(seed=0)
        >>> state = env_state(env)
        >>> first = env.step(np.array([0, 1]))[0]
        >>> load_env_state(env, state)
        >>> bool((env.step(np.array([0, 1]))[0] == first).all())
        True
    """
    if isinstance(env.unwrapped, gym.vector.AsyncVectorEnv):
        raise StateError("an AsyncVectorEnv keeps its state in other processes.")
    states = []
    for part in _parts(env):
        values = {}
        for name, value in vars(part).items():
            if name == "env_fns" or _is_configuration(part, value):
                continue
            try:
                values[name] = to_plain(value)
            except StateError as error:
                where = f"{type(part).__name__}.{name}"
                raise StateError(f"the environment's {where} can't be saved: {error}") from error
        states.append({"class": type(part).__qualname__, "values": values})
    return states


def load_env_state(env: Any, states: list[dict[str, Any]]) -> None:
    """Put a live environment, made the same way and reset once, into a saved state.

    Raises:
        StateError: if the environment has other parts than the saved one; it is left as it was.
    """
    parts = _parts(env)
    saved = [state["class"] for state in states]
    have = [type(part).__qualname__ for part in parts]
    if saved != have:
        raise _another_env(f"it consisted of {', '.join(saved)}; this one of {', '.join(have)}")
    for part, state in zip(parts, states, strict=True):  # check all before the first is changed
        for name, plain in state["values"].items():
            _check_attribute(part, name, plain)
    for part, state in zip(parts, states, strict=True):
        for name, plain in state["values"].items():
            vars(part)[name] = from_plain(plain, vars(part).get(name))


def _check_attribute(part: Any, name: str, plain: Any) -> None:
    current, of_class = vars(part).get(name), getattr(type(part), name, None)
    is_new = name not in vars(part)  # as yet: some attributes are first set in `step`
    if is_new and (callable(of_class) or isinstance(of_class, property)):
        raise _another_env(f"{type(part).__name__}.{name} can't be set")
    kind, payload = plain
    if kind in ("enum", "generator", "torch_generator"):
        check_live(kind, payload, current)
    elif name == "num_envs" and from_plain(plain) != current:
        raise _another_env(f"it had {from_plain(plain)} sub-environments; this one has {current}")


def _another_env(reason: str) -> StateError:
    return StateError(
        f"the checkpoint was written with another environment: {reason}. Pass the environment the "
        "run was started with."
    )
