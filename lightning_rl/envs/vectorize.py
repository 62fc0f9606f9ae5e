"""Vectorising: what the user gave becomes a vector environment."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import gymnasium as gym
from gymnasium import Space, spaces
from gymnasium.envs.registration import EnvSpec, VectorizeMode
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv

from lightning_rl.envs.faults import explained_workers
from lightning_rl.envs.tuples import NamedTupleObservations
from lightning_rl.errors import ConfigError, EnvError, SpaceError
from lightning_rl.settings import count

OneEnv = str | EnvSpec | gym.Env | VectorEnv | Callable[[], "gym.Env | VectorEnv"]
EnvLike = OneEnv | Sequence[OneEnv]
EXPECTED = (
    'a name such as "CartPole-v1", an EnvSpec, a gymnasium.Env, a VectorEnv, a function that makes '
    "one, or a list of single ones"
)


def is_env(candidate: object) -> bool:
    """Tell whether something is meant as an environment; `make_vector_env` says if it is none.

    An env, its name, its spec, a maker of one, a list of them, or what can `reset` and `step`.
    """
    if isinstance(candidate, list | tuple):
        return any(is_env(part) for part in candidate)
    if isinstance(candidate, str | EnvSpec | gym.Env | VectorEnv) or _has_steps(candidate):
        return True
    return callable(candidate) and not hasattr(candidate, "__iter__")


def _has_steps(candidate: object) -> bool:
    return all(callable(getattr(candidate, name, None)) for name in ("reset", "step"))


def make_vector_env(env: EnvLike, num_envs: int) -> VectorEnv:
    """Turn what the user gave into a vector environment.

    A name or a spec is vectorised with `gymnasium.make_vec` (a native vector env where there is
    one). A single environment is used as it is, as one sub-environment; a vector environment is
    used as it is; a function is called: `num_envs` times if it makes single environments. Each
    of a list becomes one sub-environment; they may differ in all but their spaces. The parts of
    Tuple observations are given names, as those of a Dict have: "0", "1", ...

    Args:
        env: `"CartPole-v1"`, an `EnvSpec`, a `gymnasium.Env`, a `VectorEnv`, a function without
            arguments (a class, too), or a list of names, specs, single environments or functions.
        num_envs: sub-environments to make, where the number is open.

    Raises:
        EnvError: if no environment has this name, if the function needs arguments or returns
            something else or several times the same environment, or for anything else.
        ConfigError: if `num_envs` is below 1, or the autoreset mode is DISABLED.
        SpaceError: if a space, or a part of it, holds no number at all.

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
    _check_not_empty(vector_env.single_observation_space, "observation space")
    _check_not_empty(vector_env.single_action_space, "action space")
    is_tuple = isinstance(vector_env.single_observation_space, spaces.Tuple)
    return NamedTupleObservations(vector_env) if is_tuple else vector_env


def _check_not_empty(space: Space, where: str) -> None:
    """Refuse spaces whose elements hold nothing to learn from, or to choose."""
    parts: dict[Any, Space] = {}
    if isinstance(space, spaces.Dict | spaces.Tuple):
        parts = dict(space.items() if isinstance(space, spaces.Dict) else enumerate(space))
    for key, part in parts.items():
        _check_not_empty(part, f"entry {key!r} of the {where}")
    if 0 in (space.shape or ()) or (isinstance(space, spaces.Dict | spaces.Tuple) and not parts):
        raise SpaceError(
            f"the {where} is {space}, which holds no number; expected at least one. Leave the "
            "entry out, by gymnasium.wrappers.FilterObservation for instance, or take off the "
            "wrapper that emptied it."
        )


def autoreset_mode(env: VectorEnv) -> AutoresetMode:
    """Read a vector environment's autoreset mode from its metadata (NEXT_STEP if it is silent)."""
    return AutoresetMode(env.metadata.get("autoreset_mode", AutoresetMode.NEXT_STEP))


def _vectorize(env: EnvLike, num_envs: int) -> VectorEnv:
    if isinstance(env, VectorEnv):
        return env
    if isinstance(env, gym.Env):
        return stack_envs([env])
    if isinstance(env, str | EnvSpec):
        return _make_vec(env, num_envs)
    if isinstance(env, list | tuple):
        return stack_envs([make_one(part) for part in env])
    first = _call(env)
    if isinstance(first, VectorEnv):
        return first
    return stack_envs([first, *(_call(env) for _ in range(num_envs - 1))])


def stack_envs(envs: Sequence[Any]) -> SyncVectorEnv:
    """Make single environments the sub-environments of one vector environment."""
    for env in envs:
        if not isinstance(env, gym.Env):
            _refuse(env, "a sub-environment is", "a gymnasium.Env")
        if None in (getattr(env, name, None) for name in ("observation_space", "action_space")):
            raise EnvError(
                f"{type(env).__name__} has no observation_space or no action_space; expected both, "
                "set in its class or constructor, before `reset` is called."
            )
        own, expected = ((e.observation_space, e.action_space) for e in (env, envs[0]))
        if own != expected:
            raise EnvError(
                f"the sub-environments have different spaces, {expected} and {own}; expected "
                "the same in all of them, as one agent acts in all."
            )
    if len({id(env.unwrapped) for env in envs}) < len(envs):
        raise EnvError(
            f"of {len(envs)} sub-environments, one is the same environment again; expected a new "
            "one each time. If a function makes them, make the environment inside of it."
        )
    return SyncVectorEnv([lambda e=env: e for env in envs])  # type: ignore[misc]


def make_one(env: Any) -> Any:
    """Make one sub-environment of an item of a list."""
    if isinstance(env, str | EnvSpec):
        with _explained(env):
            return gym.make(env)
    return env if isinstance(env, gym.Env | VectorEnv) else _call(env)


def _call(function: Any) -> Any:
    """Call a function that makes an environment, and check what it returns."""
    if not callable(function):
        _refuse(function)
    try:
        inspect.signature(function).bind()
    except TypeError as error:
        raise EnvError(
            f"the function that makes the environment can't be called without arguments: {error}; "
            "expected one that needs none. Wrap it: `lambda: make(...)`."
        ) from error
    except ValueError:  # it does not tell its arguments
        pass
    with explained_workers():
        env = function()
    if not isinstance(env, gym.Env | VectorEnv):
        _refuse(env, "the function returned", "a gymnasium.Env or VectorEnv")
    return env


def _refuse(thing: Any, got: str = "got", expected: str = EXPECTED) -> NoReturn:
    name = type(thing).__name__
    if _has_steps(thing) and not isinstance(thing, VectorEnv):
        name += ", which can `reset` and `step` but is no gymnasium.Env (derive its class from it)"
    raise EnvError(f"{got} {name}; expected {expected}.")


def _make_vec(name: str | EnvSpec, num_envs: int) -> VectorEnv:
    with _explained(name):
        return gym.make_vec(name, num_envs=num_envs)


@contextmanager
def _explained(name: str | EnvSpec) -> Iterator[None]:
    """Say what to do where Gymnasium can't make an environment."""
    try:
        yield
    except (gym.error.Error, ImportError) as error:
        raise EnvError(
            f"no environment could be made from {name!r}: {error} "
            "Give the name of a registered environment; gymnasium.pprint_registry() lists them."
        ) from error


# ---- in processes, or by its author's code -------------------------------------------------------


@dataclass(frozen=True)
class Vectorized:
    """A function that makes a vector environment whose sub-environments are stepped in some way.

    Args:
        env: a name, a spec, a function that makes a single environment, or a list of them.
        num_envs: sub-environments, where the number is open.
        mode: one of Gymnasium's: "sync", "async" (a process each) or "vector_entry_point" (the
            author's own vector environment).

    Raises:
        ConfigError: when called, if the environment can't be stepped that way.

    Example:
        >>> env = Vectorized("CartPole-v1", num_envs=2, mode="async")()
        >>> type(env.unwrapped).__name__
        'AsyncVectorEnv'
        >>> env.close()
    """

    env: Any
    num_envs: int
    mode: str

    def __call__(self) -> VectorEnv:
        """Make it."""
        if isinstance(self.env, str | EnvSpec):
            with _explained(self.env):
                return gym.make_vec(self.env, self.num_envs, vectorization_mode=self.mode)
        makers = self._makers()
        if self.mode == VectorizeMode.VECTOR_ENTRY_POINT.value:
            self._refuse("made by a function or a list", "a name or a spec, which has such a one")
        if self.mode == VectorizeMode.SYNC.value:
            return stack_envs([make() for make in makers])
        return AsyncVectorEnv(makers)

    def _makers(self) -> list[Callable[[], Any]]:
        is_list = isinstance(self.env, list | tuple)
        parts = list(self.env) if is_list else [self.env] * self.num_envs
        for part in parts:
            if isinstance(part, gym.Env | VectorEnv):
                self._refuse(f"a {type(part).__name__} that is made already", "how to make it")
        first = make_one(parts[0])
        first.close()
        if isinstance(first, VectorEnv):
            self._refuse(
                f"a function that makes a {type(first).__name__}", "one for single environments"
            )
        return [partial(make_one, part) for part in parts]

    def _refuse(self, got: str, expected: str) -> NoReturn:
        raise ConfigError(
            f"vectorization={self.mode!r} with an environment that is {got}; expected {expected}: "
            "a name, a spec, a function that makes a single environment, or a list of them. Leave "
            "vectorization out to use an environment as it is."
        )


def vectorization_mode(mode: str | None) -> str | None:
    """Check how sub-environments shall be stepped; None leaves it open.

    Raises:
        ConfigError: for a name that is none of Gymnasium's.
    """
    known = [kind.value for kind in VectorizeMode]
    if mode is not None and mode not in known:
        raise ConfigError(f"vectorization={mode!r}; expected one of {known}, or None.")
    return mode
