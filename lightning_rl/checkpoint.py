"""Checkpoints: environments, spaces and generators as tensors and plain Python, and back.

Nothing here is ever unpickled and nothing is built from a file but spaces: loading sets attributes
of the live environment to numbers, text, arrays and lists of them.
"""

from __future__ import annotations

import warnings
from collections import deque
from dataclasses import fields
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, TypeVar, cast

import gymnasium as gym
import numpy as np
import torch
from gymnasium import Space, spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv

from lightning_rl.errors import ConfigError, SpaceError, StateError

Settings = TypeVar("Settings")
STATE_KEY = "lightning_rl"  # of an agent's own entry in a checkpoint
SCALARS = (type(None), bool, int, float, str)
FUNCTIONS = (FunctionType, BuiltinFunctionType, MethodType, partial, np.ufunc, torch.nn.Module)
# What an environment holds besides its state: fixed when it was made, so it is not saved.
CONSTANTS = (Space, EnvSpec, ModuleType, type, gym.Env, VectorEnv, *FUNCTIONS)


def to_plain(value: Any) -> Any:
    """Turn a value into `(kind, payload)` of tensors and plain Python.

    Generators and enum members can be saved by themselves, but not within a list, tuple, deque or
    dict, because they are restored into the live value's place.

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
        return ("generator", _copied(value.bit_generator.state))
    if isinstance(value, torch.Generator):
        return ("torch_generator", value.get_state())
    return _copied(value)


def _copied(value: Any) -> Any:
    # Exact types: a namedtuple or a numpy.float64, which is a float, would not load again as such.
    if type(value) in SCALARS:
        return ("scalar", value)
    if isinstance(value, torch.Tensor):
        return ("tensor", value.detach().clone())
    if isinstance(value, np.ndarray | np.generic) and _fits_torch(value.dtype):
        kind = "array" if isinstance(value, np.ndarray) else "numpy_scalar"
        return (kind, torch.from_numpy(np.array(value)))
    if isinstance(value, dict):
        return ("dict", [(_copied(key), _copied(part)) for key, part in value.items()])
    if isinstance(value, deque):
        return ("deque", (value.maxlen, [_copied(part) for part in value]))
    if type(value) in (list, tuple):
        return (type(value).__name__, [_copied(part) for part in value])
    raise StateError(f"got a {type(value).__name__}; expected plain values that can be saved.")


def _fits_torch(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "biuf" and dtype.itemsize <= 8 and dtype.isnative


def from_plain(plain: Any, current: Any = None) -> Any:
    """Undo `to_plain`. Generators are set in place: `current` must be the live one.

    Raises:
        StateError: if the kind is unknown, or there is no live counterpart where one is needed.
    """
    kind, payload = plain
    if kind in ("scalar", "tensor"):
        return payload
    if kind in ("array", "numpy_scalar"):
        return payload.numpy().copy() if kind == "array" else payload.numpy()[()]
    if kind == "dict":
        return {from_plain(key): from_plain(part) for key, part in payload}
    if kind == "deque":
        return deque((from_plain(part) for part in payload[1]), maxlen=payload[0])
    if kind in ("list", "tuple"):
        parts = [from_plain(part) for part in payload]
        return parts if kind == "list" else tuple(parts)
    _check_live(kind, payload, current)
    if kind == "enum":
        return type(current)[payload]
    if kind == "torch_generator":
        current.set_state(payload)
        return current
    current = np.random.default_rng() if current is None else current
    current.bit_generator.state = from_plain(payload)
    return current


def _check_live(kind: str, payload: Any, current: Any) -> None:
    """Check that a saved value that is restored into a live one fits it."""
    if kind == "enum":
        fits = isinstance(current, Enum) and payload in type(current).__members__
    elif kind == "generator":  # an environment makes its generator when it first needs it
        live = np.random.default_rng() if current is None else current
        name = from_plain(payload)["bit_generator"]
        fits = isinstance(live, np.random.Generator)
        fits = fits and live.bit_generator.state["bit_generator"] == name
    else:
        fits = kind == "torch_generator" and isinstance(current, torch.Generator)
    if not fits:
        raise StateError(f"can't restore a {kind!r} into a {type(current).__name__}.")


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
        _check_live(kind, payload, current)
    elif name == "num_envs" and from_plain(plain) != current:
        raise _another_env(f"it had {from_plain(plain)} sub-environments; this one has {current}")


def _another_env(reason: str) -> StateError:
    return StateError(
        f"the checkpoint was written with another environment: {reason}. Pass the environment the "
        "run was started with."
    )


def space_state(space: Space) -> dict[str, Any]:
    """Describe a space as tensors and plain Python.

    Raises:
        SpaceError: if the space is of a kind no agent takes.
    """
    if isinstance(space, spaces.Dict):
        return {"kind": "Dict", "parts": {key: space_state(part) for key, part in space.items()}}
    if isinstance(space, spaces.Box):
        low, high = torch.from_numpy(space.low), torch.from_numpy(space.high)
        return {"kind": "Box", "low": low, "high": high, "dtype": str(space.dtype)}
    if isinstance(space, spaces.Discrete):
        dtype = str(space.dtype)
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start), "dtype": dtype}
    if isinstance(space, spaces.MultiDiscrete):
        nvec, start = torch.from_numpy(space.nvec), torch.from_numpy(space.start)
        return {"kind": "MultiDiscrete", "nvec": nvec, "start": start}
    if isinstance(space, spaces.MultiBinary):
        return {
            "kind": "MultiBinary",
            "n": space.n if isinstance(space.n, int) else list(space.shape),
        }
    raise SpaceError(f"the space {space} can't be saved; expected Box, Discrete, Multi* or Dict.")


def space_from_state(state: dict[str, Any]) -> Space:
    """Undo `space_state`.

    Raises:
        SpaceError: if the kind is unknown.

    Example:
        >>> space_from_state(space_state(spaces.Discrete(2)))
        Discrete(2)
    """
    kind = state["kind"]
    if kind == "Dict":
        parts = [(key, space_from_state(part)) for key, part in state["parts"].items()]
        return spaces.Dict(parts)  # given pairs, it keeps their order
    if kind == "Box":
        return spaces.Box(
            state["low"].numpy(), state["high"].numpy(), dtype=np.dtype(state["dtype"]).type
        )
    if kind == "Discrete":
        options = {} if state["dtype"] == "int64" else {"dtype": state["dtype"]}  # Gymnasium 1.1
        return spaces.Discrete(state["n"], start=state["start"], **options)
    if kind == "MultiDiscrete":
        nvec, start = state["nvec"].numpy(), state["start"].numpy()
        return spaces.MultiDiscrete(nvec, dtype=nvec.dtype, start=start)
    if kind == "MultiBinary":
        return spaces.MultiBinary(state["n"])
    raise SpaceError(f"the checkpoint holds a space of unknown kind {kind!r}.")


def settings_from(kind: type[Settings], given: Settings | dict[str, Any]) -> Settings:
    """Give settings as they are, or make them from a dict, as `load_from_checkpoint` gets it.

    Args:
        kind: the dataclass of the settings.
        given: settings, or its fields by name; those left out have their defaults.

    Raises:
        ConfigError: if there are other names among them, such as those of another agent.
    """
    if not isinstance(given, dict):
        return given
    known = {field.name for field in fields(cast(Any, kind))}
    if not set(given) <= known:
        raise ConfigError(
            f"{kind.__name__} has no settings {sorted(set(given) - known)}. If they are a "
            "checkpoint's, load it with the class that was trained."
        )
    return kind(**given)


def agent_state(agent: Any) -> dict[str, Any]:
    """Give everything an agent needs to go on, beside its weights and the optimizer's state.

    Counters, history, statistics, random numbers, and the running environment where its state
    can be saved (`env` is None where it can't).
    """
    state = {
        "env_steps": agent.env_steps,
        "fit_start": agent.fit_start,
        "seed": agent.seed,
        "episodes": agent.episodes.state_dict(),
        "generator": agent.generator.get_state(),
        "torch_rng": torch.get_rng_state(),
        "extra": to_plain(agent.extra_state()),
    }
    if agent.observation_space is not None:
        state["observation_space"] = space_state(agent.observation_space)
        state["action_space"] = space_state(agent.action_space)
    if hasattr(agent, "runner"):
        state["runner"] = to_plain(agent.runner.state_dict())
        state["env"], state["env_error"] = _env_state_or_reason(agent.runner.env)
    return state


def _env_state_or_reason(env: Any) -> tuple[Any, str]:
    try:
        return env_state(env), ""
    except StateError as error:
        return None, str(error)


def load_agent_state(agent: Any, checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Take over counters, history and statistics, and build an unbuilt network for its spaces.

    Returns:
        The agent's own entry in the checkpoint, for `restore_run`.

    Raises:
        StateError: if the checkpoint is not an agent's.
    """
    if STATE_KEY not in checkpoint:
        raise StateError(
            "the checkpoint holds no agent's state; expected one that was saved while an agent was "
            "trained. Load its weights alone with agent.load_state_dict(checkpoint['state_dict'])."
        )
    state: dict[str, Any] = checkpoint[STATE_KEY]
    if agent.observation_space is None and "observation_space" in state:
        agent.bind_spaces(
            space_from_state(state["observation_space"]), space_from_state(state["action_space"])
        )
    agent.env_steps, agent.fit_start = state["env_steps"], state["fit_start"]
    agent.episodes.load_state_dict(state["episodes"])
    agent.load_extra_state(from_plain(state["extra"]))
    return state


def restore_run(agent: Any, state: dict[str, Any]) -> None:
    """Put random numbers and the running environment back as they were saved.

    Where the environment's state could not be saved, new episodes start, seeded by the run's
    seed and its env steps: two resumed runs are alike, though not like the one that went on.
    So it is in all processes but the first, as the first alone writes checkpoints.
    """
    seed = state["seed"] + state["env_steps"] + agent.global_rank * agent.runner.num_envs
    agent.start_run(seed)
    if agent.global_rank > 0:
        return
    agent.generator.set_state(state["generator"])
    torch.set_rng_state(state["torch_rng"])
    if state.get("env") is None:
        warnings.warn(
            f"{state.get('env_error', 'no environment was saved')} The run goes on with new "
            "episodes, so it will differ from one that was never stopped.",
            stacklevel=2,
        )
        return
    load_env_state(agent.runner.env, state["env"])
    agent.runner.load_state_dict(from_plain(state["runner"]))
