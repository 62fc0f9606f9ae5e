"""The state of a live environment, as plain values.

What is as it was when the environment was made is its configuration: of it, only a fingerprint is
saved, to tell whether a resumed run has been given the same. All else is its state. Nothing is
built from a file: loading sets known names to numbers, arrays, and lists or dicts of them, never to
text (a path, a name), and never a configuration.

An environment, or an object in one, may say itself what its state is, by two methods:

    def state_dict(self) -> dict: ...            # numbers, arrays, lists and dicts of them
    def load_state_dict(self, state: dict) -> None: ...

Its attributes are left alone then, but for the environments among them.
"""

from __future__ import annotations

import warnings
from collections import deque
from functools import cached_property
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from lightning_rl.checkpoints.env_parts import env_parts, slots
from lightning_rl.checkpoints.fingerprints import TEXT, Marks, mark_of
from lightning_rl.checkpoints.parts import GENERATORS, Part, is_open
from lightning_rl.checkpoints.plain_values import check_live, from_plain, to_plain
from lightning_rl.checkpoints.sharing import copy_of_view, shared_memory
from lightning_rl.errors import StateError

FAMILIES = {
    "scalar": "number",
    "numpy_scalar": "number",
    "array": "numbers",
    "view": "numbers",
    "tensor": "numbers",
    "list": "numbers",
    "tuple": "numbers",
    "deque": "numbers",
    "dict": "dict",
}
LIVE = ("enum", "generator", "torch_generator", "random_state", "python_random")
OWN_STATE = "state_dict()"  # the name of what a part says itself


def env_state(env: Any, made: Marks | None = None) -> list[dict[str, Any]]:
    """Save the state of a live environment: all data in its parts, and their generators.

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
    parts, known = env_parts(env), dict[int, str | None]()
    marks = {(p.at, name): mark_of(v, known) for p in parts for name, v in p.values.items()}
    before = {(at, name): mark for at, of in (made or {}).items() for name, mark in of.items()}
    constants = {place for place, mark in marks.items() if mark and before.get(place) == mark}
    views = shared_memory(parts, constants)
    states = []
    for part in parts:
        fixed: dict[str, Any] = {}
        values: dict[str, Any] = {}
        for name, value in part.values.items():
            place = (part.at, name)
            # Text that the first reset has set, or a step: the next run's must be the same.
            is_text = isinstance(value, TEXT) and place not in before
            if place in views:
                values[name] = tuple(views[place])
            elif place in constants or is_text:
                fixed[name] = marks[place]
            else:
                values[name] = _saved(part, name, value)
        if part.has_protocol:
            values[OWN_STATE] = _saved(part, OWN_STATE, part.owner.state_dict())
        states.append(
            {
                "at": part.at, "class": part.kind, "is_env": part.is_env, "values": values,
                "constants": fixed, "refers_to": part.refers_to,
            }
        )  # fmt: skip
    return states


def _saved(part: Part, name: str, value: Any) -> Any:
    try:
        plain = to_plain(value)
        if _has_text(plain):
            raise StateError("got text that changes; expected numbers, which a file may set.")
    except StateError as error:
        raise StateError(
            f"the environment's {part.label}.{name} can't be saved: {error}"
        ) from error
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


def load_env_state(env: Any, states: list[dict[str, Any]], made: Marks | None = None) -> None:
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
    parts = {part.at: part for part in env_parts(env)}
    saved = [state["class"] for state in states if state["is_env"]]
    have = [part.kind for part in parts.values() if part.is_env]
    if saved != have:
        raise _another_env(f"it consisted of {', '.join(saved)}; this one of {', '.join(have)}")
    pairs = [(parts.get(state["at"]), state["values"], state["class"]) for state in states]
    known = [(p, values) for p, values, kind in pairs if p is not None and p.kind == kind]
    loaded = {(part.at, name) for part, values in known for name in values}
    todo: list[tuple[Part, str, Any]] = []
    lost: list[str] = []
    for part, values in known:  # check all before the first is changed
        for name, plain in values.items():
            if _is_object(part, name) and plain[1] is None:
                lost.append(f"{part.label}.{name}")
            else:
                _check_value(part, name, plain, loaded)
                todo.append((part, name, plain))
    _warn_of_lost(lost, parts, states)
    if made is not None:
        _compare(parts, states, made)
    copies: dict[int, Any] = {}
    for part, name, plain in todo:
        _load_value(part, name, plain, copies)
    for part, name, (kind, payload) in todo:
        if kind == "same":
            part.put(name, parts[payload[0]].values[payload[1]])


def _load_value(part: Part, name: str, plain: Any, copies: dict[int, Any]) -> None:
    kind, payload = plain
    if name == OWN_STATE:
        part.owner.load_state_dict(from_plain(plain))
    elif kind != "same":  # that comes last
        value = copy_of_view(payload, copies) if kind == "view" else payload
        if kind != "view":
            value = from_plain(plain, part.values.get(name))
        part.values[name] = value.clone() if isinstance(value, torch.Tensor) else value
        part.put(name, part.values[name])


def _is_object(part: Part, name: str) -> bool:
    """Tell whether a name leads to an object here, which is a part of its own."""
    return part.owner is not None and name not in part.values and is_open(_live(part, name))


def _live(part: Part, name: str) -> Any:
    return vars(part.owner).get(name) if hasattr(part.owner, "__dict__") else None


def _warn_of_lost(lost: list[str], parts: dict[str, Part], states: list[dict[str, Any]]) -> None:
    """Warn of objects that only one of the two environments has, or has elsewhere."""
    lost = list(lost)
    for state in states:
        part = parts.get(state["at"])
        if part is None or part.kind != state["class"]:
            lost.append(state["at"])
        else:
            there, here = state["refers_to"], part.refers_to
            differ = [n for n in there.keys() | here.keys() if there.get(n) != here.get(n)]
            lost += [f"{part.label}.{name}" for name in sorted(differ)]
    if lost:
        warnings.warn(
            f"the environment's {', '.join(lost)} can't be put back as it was, for it holds other "
            "objects than when the checkpoint was written. The run will differ from one that was "
            "never stopped. Give the environment `state_dict` and `load_state_dict`.",
            stacklevel=4,
        )


def _compare(parts: dict[str, Part], states: list[dict[str, Any]], made: Marks) -> None:
    """Warn of attributes that were configured otherwise when the state was saved."""
    differ: dict[str, Any] = {}
    for state in states:
        part, marks = parts.get(state["at"]), made.get(state["at"], {})
        if part is None:
            continue
        for name, mark in state["constants"].items():
            now = part.values.get(name)
            if (marks.get(name) or mark_of(now, {})) != mark:
                differ[f"{part.label}.{name}"] = now
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


def _check_value(part: Part, name: str, plain: Any, loaded: set[tuple[str, str]]) -> None:
    """Check that a name may be set: state by state of its kind, and nothing else."""
    where, (kind, payload) = f"{part.label}.{name}", plain
    if _has_text(plain):
        raise _another_env(f"{where} was text")
    if name == OWN_STATE:
        if not part.has_protocol:
            raise _another_env(f"{part.label} has no state_dict and load_state_dict")
        return
    current = part.values.get(name)
    if name not in part.values:
        _check_new(part, name, where)
    if isinstance(current, TEXT):
        raise _another_env(f"{where} is no state")
    if kind == "same" and tuple(payload) not in loaded:
        raise _another_env(f"{where} was what {payload} is")
    if kind in LIVE:
        check_live(kind, payload, current)
    elif kind != "same":
        _check_kind(where, kind, payload, current)
        _check_shape(part, where, payload, current)
    if name == "num_envs" and from_plain(plain) != current:
        raise _another_env(f"it had {from_plain(plain)} sub-environments; this one has {current}")


def _check_kind(where: str, kind: str, payload: Any, current: Any) -> None:
    """Check that a number stays a number, and an array an array."""
    is_known = current is not None and payload is not None
    if isinstance(current, GENERATORS) or (is_known and _family(current) != FAMILIES.get(kind)):
        raise _another_env(f"{where} was a {kind}; this one's is a {type(current).__name__}")


def _check_shape(part: Part, where: str, payload: Any, current: Any) -> None:
    """Check that a network's tensor keeps its shape: it is set in place."""
    if not part.is_network or not isinstance(current, torch.Tensor):
        return
    if not isinstance(payload, torch.Tensor) or payload.shape != current.shape:
        raise _another_env(f"{where} was not of shape {tuple(current.shape)}")


def _check_new(part: Part, name: str, where: str) -> None:
    """Check that a name may be added: some attributes are first set in `step`."""
    if name in part.late:
        return
    if part.owner is None or part.has_protocol or name.startswith("__"):
        raise _another_env(f"{where} can't be set")
    if _live(part, name) is not None:
        raise _another_env(f"{where} is no state")
    member = getattr(type(part.owner), name, None)  # a cached property's value is an attribute
    is_free = member is None or isinstance(member, cached_property)
    if not is_free and name not in slots(type(part.owner)):
        raise _another_env(f"{where} can't be set")


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
