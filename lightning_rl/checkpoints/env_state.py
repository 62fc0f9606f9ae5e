"""The state of a live environment, as plain values.

An attribute that is as it was when the environment was made is its configuration: of it, only a
fingerprint is saved, to tell whether a resumed run has been given the same. All others are its
state. Nothing is built from a file: loading sets known attributes to numbers, arrays, and lists or
dicts of them, never to text (a path, a name), and never a configuration.
"""

from __future__ import annotations

import hashlib
import warnings
from collections import deque
from enum import Enum
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
TEXT = (str, bytes)
DATA = (type(None), bool, int, float, complex, np.generic, Enum, *TEXT)
FAMILIES = {
    "scalar": "number",
    "numpy_scalar": "number",
    "array": "numbers",
    "tensor": "numbers",
    "list": "numbers",
    "tuple": "numbers",
    "deque": "numbers",
    "dict": "dict",
}
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
        # Gymnasium's wrappers keep their constructor's arguments: functions, spaces, text.
        return any(_is_constant(given) or isinstance(given, TEXT) for given in value.values())
    return _is_constant(value)


def _is_constant(value: Any) -> bool:
    if isinstance(value, list | tuple) and value:
        return all(_is_constant(part) for part in value)
    return isinstance(value, CONSTANTS)


def fingerprints(env: Any) -> list[dict[str, str]]:
    """Tell what an environment is like: name -> fingerprint, for each of its parts.

    Attributes of other kinds than data have none.
    """
    known: dict[int, str | None] = {}  # a table that all sub-environments share is read once
    return [
        {name: found for name, value in vars(part).items() if (found := _mark(value, known))}
        for part in _parts(env)
    ]


def kept(made: list[dict[str, str]], env: Any) -> list[dict[str, str]]:
    """Leave out what the first reset has changed: that is no configuration."""
    now = fingerprints(env)
    return [
        {name: mark for name, mark in before.items() if after.get(name) == mark}
        for before, after in zip(made, now, strict=False)
    ]


def _mark(value: Any, known: dict[int, str | None]) -> str | None:
    if id(value) not in known:
        digest = hashlib.blake2b(digest_size=8)
        known[id(value)] = digest.hexdigest() if _feed(digest, value) else None
    return known[id(value)]


def _feed(digest: Any, value: Any) -> bool:
    """Add a value to a digest; tell whether it is data through and through."""
    digest.update(type(value).__name__.encode())
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).view(np.uint8).data if value.size else b"")
        return True
    if type(value) in (dict, list, tuple, deque):
        parts = [part for item in value.items() for part in item] if type(value) is dict else value
        digest.update(str(len(value)).encode())
        return all(_feed(digest, part) for part in parts)
    if isinstance(value, torch.Tensor):
        return _feed(digest, value.detach().cpu().numpy())
    digest.update(repr(value).encode())
    return isinstance(value, DATA)


def env_state(env: Any, made: list[dict[str, str]] | None = None) -> list[dict[str, Any]]:
    """Save the state of a live environment: every attribute of its parts that is plain data.

    Args:
        env: the environment.
        made: its `fingerprints` as it was made. Default: all data count as state.

    Raises:
        StateError: naming the first attribute that can't be saved (a simulator, a socket, a text
            that changes), in which case a resumed run must start new episodes.

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
    parts, states = _parts(env), []
    before = made if made is not None and len(made) == len(parts) else [{} for _ in parts]
    known: dict[int, str | None] = {}
    for part, marks in zip(parts, before, strict=True):
        constants, values = {}, {}
        for name, value in vars(part).items():
            if name == "env_fns" or _is_configuration(part, value):
                continue
            mark = _mark(value, known)
            if mark is not None and marks.get(name) == mark:
                constants[name] = mark
            elif not (isinstance(value, TEXT) and name not in marks):
                values[name] = _saved(part, name, value)
        states.append({"class": type(part).__qualname__, "values": values, "constants": constants})
    return states


def _saved(part: Any, name: str, value: Any) -> Any:
    try:
        plain = to_plain(value)
        if _has_text(plain):
            raise StateError("got text that changes; expected numbers, which a file may set.")
    except StateError as error:
        where = f"{type(part).__name__}.{name}"
        raise StateError(f"the environment's {where} can't be saved: {error}") from error
    return plain


def _has_text(plain: Any) -> bool:
    """Tell whether there is text among plain values, but for an enum's name and a dict's keys."""
    kind, payload = plain
    if kind == "dict":
        return any(_has_text(part) for _, part in payload)
    if kind in ("list", "tuple"):
        return any(_has_text(part) for part in payload)
    if kind == "deque":
        return any(_has_text(part) for part in payload[1])
    return kind == "scalar" and isinstance(payload, str)


def load_env_state(
    env: Any, states: list[dict[str, Any]], made: list[dict[str, str]] | None = None
) -> None:
    """Put a live environment, made the same way and reset once, into a saved state.

    Where it was configured in another way than the saved one, its own configuration holds, and a
    warning names the attributes.

    Args:
        env: the environment.
        states: what `env_state` gave.
        made: the `fingerprints` of `env` as it was made.

    Raises:
        StateError: if the environment has other parts than the saved one, or an attribute can't be
            set to what was saved; it is left as it was.
    """
    parts = _parts(env)
    saved = [state["class"] for state in states]
    have = [type(part).__qualname__ for part in parts]
    if saved != have:
        raise _another_env(f"it consisted of {', '.join(saved)}; this one of {', '.join(have)}")
    for part, state in zip(parts, states, strict=True):  # check all before the first is changed
        for name, plain in state["values"].items():
            _check_attribute(part, name, plain)
    _compare(parts, states, made)
    for part, state in zip(parts, states, strict=True):
        for name, plain in state["values"].items():
            vars(part)[name] = from_plain(plain, vars(part).get(name))


def _compare(parts: list[Any], states: list[Any], made: list[dict[str, str]] | None) -> None:
    """Warn of attributes that were configured otherwise when the state was saved."""
    differ: dict[str, Any] = {}
    for part, state, marks in zip(parts, states, made or [{} for _ in parts], strict=True):
        for name, mark in state.get("constants", {}).items():
            if marks.get(name, mark) != mark:
                differ[f"{type(part).__name__}.{name}"] = vars(part).get(name)
    if differ:
        named = ", ".join(f"{name} (now {_short(value)})" for name, value in differ.items())
        warnings.warn(
            f"the environment is not configured as when the checkpoint was written: {named}. The "
            "run goes on with the environment it was given.",
            stacklevel=4,
        )


def _short(value: Any) -> str:
    text = repr(value) if not isinstance(value, np.ndarray) else f"an array {value.shape}"
    return text if len(text) <= 40 else f"{text[:37]}..."


def _check_attribute(part: Any, name: str, plain: Any) -> None:
    """Check that an attribute may be set: state by state of its kind, and nothing else."""
    current, of_class = vars(part).get(name), getattr(type(part), name, None)
    where = f"{type(part).__name__}.{name}"
    is_new = name not in vars(part)  # as yet: some attributes are first set in `step`
    if is_new and (of_class is not None or name.startswith("__")):
        raise _another_env(f"{where} can't be set")
    if not is_new and (isinstance(current, TEXT) or _is_configuration(part, current)):
        raise _another_env(f"{where} is no state")
    kind, payload = plain
    if _has_text(plain):
        raise _another_env(f"{where} was text")
    if kind in ("enum", "generator", "torch_generator"):
        check_live(kind, payload, current)
    elif current is not None and payload is not None and _family(current) != FAMILIES.get(kind):
        raise _another_env(f"{where} was a {kind}; this one's is a {type(current).__name__}")
    elif name == "num_envs" and from_plain(plain) != current:
        raise _another_env(f"it had {from_plain(plain)} sub-environments; this one has {current}")


def _family(value: Any) -> str | None:
    """Tell of what kind a live value is: a number, several, a dict, or None for anything else."""
    if isinstance(value, bool | int | float | np.generic):
        return "number"
    if isinstance(value, np.ndarray | torch.Tensor | list | tuple | deque):
        return "numbers"
    return "dict" if isinstance(value, dict) else None


def _another_env(reason: str) -> StateError:
    return StateError(
        f"the checkpoint was written with another environment: {reason}. Pass the environment the "
        "run was started with."
    )
