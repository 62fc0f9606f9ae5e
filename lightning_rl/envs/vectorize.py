"""Vectorising: what the user gave becomes a vector environment."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

from lightning_rl.errors import ConfigError, EnvError
from lightning_rl.settings import count

EnvLike = str | EnvSpec | gym.Env | VectorEnv | Callable[[], "gym.Env | VectorEnv"]
MAX_NATIVE_ENVS = 100  # sub-environments of a native vector env cost next to nothing each
MAX_COPIES = 16  # copies of a Python environment are stepped one after the other


def is_env(candidate: object) -> bool:
    """Tell whether something can be trained on: an env, its name, its spec, or a maker of one."""
    from_gymnasium = isinstance(candidate, str | EnvSpec | gym.Env | VectorEnv)
    return from_gymnasium or (callable(candidate) and not hasattr(candidate, "__iter__"))


def make_vector_env(env: EnvLike, num_envs: int) -> VectorEnv:
    """Turn what the user gave into a vector environment.

    A name or a spec is vectorised with `gymnasium.make_vec` (a native vector env where there is
    one). A single environment is used as it is, as one sub-environment; a vector environment is
    used as it is; a function is called: `num_envs` times if it makes single environments.

    Args:
        env: `"CartPole-v1"`, an `EnvSpec`, a `gymnasium.Env`, a `VectorEnv`, or a function.
        num_envs: sub-environments to make, where the number is open.

    Raises:
        EnvError: if no environment has this name, or the function returns something else, or
            several times the same environment.
        ConfigError: if `num_envs` is below 1, or the autoreset mode is DISABLED.

    Example:
        >>> make_vector_env("CartPole-v1", num_envs=8).num_envs
        8
    """
    num_envs = count("num_envs", num_envs)
    vector_env = _vectorize(env, num_envs)
    mode = autoreset_mode(vector_env)
    if mode == AutoresetMode.DISABLED:
        raise ConfigError(
            "the vector environment has AutoresetMode.DISABLED, so nobody resets ended episodes; "
            "expected NEXT_STEP (Gymnasium's default) or SAME_STEP. Make it with "
            "SyncVectorEnv(..., autoreset_mode=AutoresetMode.NEXT_STEP)."
        )
    return vector_env


def autoreset_mode(env: VectorEnv) -> AutoresetMode:
    """Read a vector environment's autoreset mode from its metadata (NEXT_STEP if it is silent)."""
    return AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))


def _vectorize(env: EnvLike, num_envs: int) -> VectorEnv:
    if isinstance(env, VectorEnv):
        return env
    if isinstance(env, gym.Env):
        return SyncVectorEnv([lambda: env])
    if isinstance(env, str | EnvSpec):
        return _make_vec(env, num_envs)
    if not callable(env):
        raise EnvError(
            f"got {type(env).__name__}, which is not an environment; expected a name such as "
            '"CartPole-v1", an EnvSpec, a gymnasium.Env, a VectorEnv, or a function that makes one.'
        )
    first = env()
    if isinstance(first, VectorEnv):
        return first
    if not isinstance(first, gym.Env):
        raise EnvError(
            f"the function returned {type(first).__name__}; expected a gymnasium.Env or VectorEnv."
        )
    makers = [lambda: first, *[env] * (num_envs - 1)]
    vector_env = SyncVectorEnv(makers)  # type: ignore[arg-type]
    if len({id(sub_env.unwrapped) for sub_env in vector_env.envs}) < num_envs:
        raise EnvError(
            f"the function was called {num_envs} times and returned the same environment again; "
            "expected a new one each time. Make the environment inside of the function."
        )
    return vector_env


def _make_vec(name: str | EnvSpec, num_envs: int) -> VectorEnv:
    try:
        return gym.make_vec(name, num_envs=num_envs)
    except (gym.error.Error, ImportError) as error:
        raise EnvError(
            f"no environment could be made from {name!r}: {error} "
            "Give the name of a registered environment; gymnasium.pprint_registry() lists them."
        ) from error


def make_separate_env(env: EnvLike, max_envs: int) -> VectorEnv:
    """Make a separate environment of the same kind; stepping it leaves `env` untouched.

    Environments are deep-copied, so that what the user changed on them (`env.unwrapped.gravity`)
    is kept; where that fails, they are made again from their spec.

    Args:
        env: what `make_vector_env` takes.
        max_envs: sub-environments to make at most, where the number is open.

    Raises:
        ConfigError: if `max_envs` is below 1.
        EnvError: if the environment can neither be copied nor made again.
    """
    max_envs = count("max_envs", max_envs)
    if isinstance(env, str | EnvSpec):
        spec = gym.spec(env) if isinstance(env, str) and env in gym.registry else None
        native = spec is not None and spec.vector_entry_point is not None
        return make_vector_env(env, min(max_envs, MAX_NATIVE_ENVS if native else MAX_COPIES))
    if isinstance(env, VectorEnv):
        return make_vector_env(_copy(env), 1)
    if isinstance(env, gym.Env):
        copies = [_copy(env) for _ in range(min(max_envs, MAX_COPIES))]
        return SyncVectorEnv([lambda c=c: c for c in copies])  # type: ignore[misc]
    return make_vector_env(env, min(max_envs, MAX_COPIES))


def _copy(env: Any) -> Any:
    try:
        return copy.deepcopy(env)
    except Exception as error:  # whatever an environment's parts raise when they are copied
        reason = error
    if env.spec is not None:
        try:
            return (gym.make_vec if isinstance(env, VectorEnv) else gym.make)(env.spec)
        except Exception as error:  # whatever its constructor raises
            reason = error
    raise EnvError(
        f"{env} can't be copied for evaluation, nor made again from its spec ({reason}). Pass a "
        "function that makes the environment instead of the environment."
    ) from reason
