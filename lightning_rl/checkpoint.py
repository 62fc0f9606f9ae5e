"""Checkpoints: environments, spaces and generators as tensors and plain Python, and back.

Nothing here is ever unpickled and nothing is built from a file but spaces: loading sets attributes
that the live environment already has, to values of the same kind.
"""

from __future__ import annotations

import warnings
from collections import deque
from enum import Enum
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import Space, spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv

from lightning_rl.errors import SpaceError, StateError

SCALARS = (type(None), bool, int, float, str)
# What an environment holds besides its state: fixed when it was made, so it is not saved.
CONSTANTS = (Space, EnvSpec, Enum, ModuleType, type, gym.Env, VectorEnv)


def to_plain(value: Any) -> Any:
    """Turn a value into `(kind, payload)` of tensors and plain Python.

    Raises:
        StateError: if some part is of another kind than numbers, text, arrays, numpy generators,
            tensors, and lists, tuples, deques and dicts of them.

    Example:
        >>> from_plain(to_plain([1, (2.0, "three")]))
        [1, (2.0, 'three')]
    """
    if isinstance(value, SCALARS):
        return ("scalar", value)
    if isinstance(value, np.random.Generator):
        return ("generator", value.bit_generator.state)
    if isinstance(value, torch.Generator):
        return ("torch_generator", value.get_state())
    if isinstance(value, torch.Tensor):
        return ("tensor", value.detach().clone())
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biuf":
        kind = "array" if isinstance(value, np.ndarray) else "numpy_scalar"
        return (kind, torch.from_numpy(np.array(value)))
    if isinstance(value, dict):
        return ("dict", [(to_plain(key), to_plain(part)) for key, part in value.items()])
    if isinstance(value, deque):
        return ("deque", (value.maxlen, [to_plain(part) for part in value]))
    if isinstance(value, list | tuple):
        return (type(value).__name__, [to_plain(part) for part in value])
    raise StateError(f"got a {type(value).__name__}; expected plain values that can be saved.")


def from_plain(plain: Any, current: Any = None) -> Any:
    """Undo `to_plain`. Generators are set in place: `current` must be the live one.

    Raises:
        StateError: if the kind is unknown, or a generator has no live counterpart.
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
    if kind == "generator" and isinstance(current, np.random.Generator):
        current.bit_generator.state = payload
    elif kind == "torch_generator" and isinstance(current, torch.Generator):
        current.set_state(payload)
    else:
        raise StateError(f"can't restore a {kind!r} into a {type(current).__name__}.")
    return current


def _parts(env: Any) -> list[Any]:
    """List an environment, its wrappers and sub-environments, outermost first."""
    parts = [env]
    if isinstance(env, gym.Wrapper | gym.vector.VectorWrapper):
        parts += _parts(env.env)
    for sub_env in getattr(env, "envs", []) if env.unwrapped is env else []:
        parts += _parts(sub_env)
    return parts


def _is_constant(value: Any) -> bool:
    if isinstance(value, list | tuple) and value:
        return all(_is_constant(part) for part in value)
    return isinstance(value, CONSTANTS) or callable(value)


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
        state = {}
        for name, value in vars(part).items():
            if name == "metadata" or _is_constant(value):
                continue
            try:
                state[name] = to_plain(value)
            except StateError as error:
                where = f"{type(part).__name__}.{name}"
                raise StateError(f"the environment's {where} can't be saved: {error}") from error
        states.append(state)
    return states


def load_env_state(env: Any, states: list[dict[str, Any]]) -> None:
    """Put a live environment, made the same way and reset once, into a saved state.

    Raises:
        StateError: if the environment has other parts or attributes than the saved one; it is
            left as it was.
    """
    parts = _parts(env)
    saved = [set(state) for state in states]
    have = [set(vars(part)) for part in parts]
    if len(parts) != len(states) or any(not s <= h for s, h in zip(saved, have, strict=True)):
        raise StateError(
            "the checkpoint was written with another environment (other wrappers, sub-environments "
            "or attributes). Pass the environment the run was started with."
        )
    for part, state in zip(parts, states, strict=True):
        for name, plain in state.items():
            vars(part)[name] = from_plain(plain, vars(part)[name])


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
        return {"kind": "Discrete", "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        nvec, start = torch.from_numpy(space.nvec), torch.from_numpy(space.start)
        return {"kind": "MultiDiscrete", "nvec": nvec, "start": start}
    if isinstance(space, spaces.MultiBinary):
        return {"kind": "MultiBinary", "shape": list(space.shape)}
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
        return spaces.Dict({key: space_from_state(part) for key, part in state["parts"].items()})
    if kind == "Box":
        return spaces.Box(
            state["low"].numpy(), state["high"].numpy(), dtype=np.dtype(state["dtype"]).type
        )
    if kind == "Discrete":
        return spaces.Discrete(state["n"], start=state["start"])
    if kind == "MultiDiscrete":
        return spaces.MultiDiscrete(state["nvec"].numpy(), start=state["start"].numpy())
    if kind == "MultiBinary":
        return spaces.MultiBinary(state["shape"])
    raise SpaceError(f"the checkpoint holds a space of unknown kind {kind!r}.")


def agent_state(agent: Any) -> dict[str, Any]:
    """Give everything an agent needs to go on, beside its weights and the optimizer's state.

    Counters, history, statistics, random numbers, and the running environment where its state
    can be saved (`env` is None where it can't).
    """
    state = {
        "env_steps": agent.env_steps,
        "fit_start": agent.fit_start,
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


def load_agent_state(agent: Any, state: dict[str, Any]) -> None:
    """Take over counters, history and statistics, and build an unbuilt network for its spaces."""
    if agent.observation_space is None and "observation_space" in state:
        agent.bind_spaces(
            space_from_state(state["observation_space"]), space_from_state(state["action_space"])
        )
    agent.env_steps, agent.fit_start = state["env_steps"], state["fit_start"]
    agent.episodes.load_state_dict(state["episodes"])
    agent.load_extra_state(from_plain(state["extra"]))


def restore_run(agent: Any, state: dict[str, Any]) -> None:
    """Put random numbers and the running environment back as they were saved.

    Where the environment's state could not be saved, new episodes start, seeded by the agent's
    seed and its env steps: two resumed runs are alike, though not like the one that went on.
    """
    seed = agent.seed + agent.global_rank * agent.runner.num_envs
    agent.start_run(seed)
    agent.generator.set_state(state["generator"])
    torch.set_rng_state(state["torch_rng"])
    if state.get("env") is None:
        warnings.warn(
            f"{state.get('env_error', 'no environment was saved')} The run goes on with new "
            "episodes, so it will differ from one that was never stopped.",
            stacklevel=2,
        )
        agent.runner.reset(seed=seed + state["env_steps"])
        return
    load_env_state(agent.runner.env, state["env"])
    agent.runner.load_state_dict(from_plain(state["runner"]))
