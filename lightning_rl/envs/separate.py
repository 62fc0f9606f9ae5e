"""A separate environment of the same kind, to evaluate, record or collect in."""

from __future__ import annotations

import contextlib
import copy
import itertools
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import EzPickle
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv, VectorEnv, VectorWrapper
from gymnasium.wrappers import HumanRendering, RecordVideo, RenderCollection
from gymnasium.wrappers.vector import HumanRendering as VectorHumanRendering
from gymnasium.wrappers.vector import RecordVideo as VectorRecordVideo

from lightning_rl.envs.closing import close_env
from lightning_rl.envs.faults import explained_workers
from lightning_rl.envs.handles import find_handle, find_shared, is_plain
from lightning_rl.envs.vectorize import EnvLike, Vectorized, make_one, make_vector_env, stack_envs
from lightning_rl.errors import EnvError
from lightning_rl.settings import count

MAX_NATIVE_ENVS = 100  # sub-environments of a native vector env cost next to nothing each
MAX_COPIES = 16  # copies of a Python environment are stepped one after the other
# Wrappers that film an environment or show it: of training, so a copy goes without.
SHOWS = (RecordVideo, HumanRendering, RenderCollection, VectorRecordVideo, VectorHumanRendering)


@contextlib.contextmanager
def separate_env(env: EnvLike, max_envs: int) -> Iterator[VectorEnv]:
    """Make a separate environment, as `make_separate_env` does, and close it in the end."""
    vector_env = make_separate_env(env, max_envs)
    try:
        yield vector_env
    finally:
        close_env(vector_env)


def make_separate_env(env: EnvLike, max_envs: int) -> VectorEnv:
    """Make a separate environment of the same kind; stepping it leaves `env` untouched.

    Environments are copied by value, so that what the user changed on them
    (`env.unwrapped.gravity`) is kept, also where they are an `EzPickle`. One that can't be copied
    (as it holds a lock, a socket, a simulator that its copy would share) is made again from its
    spec, or its functions where it is a vector environment. Copies open no window and write no
    film. What an environment holds only by a number, such as a PyBullet client's, can't be told
    from any other number: give a function instead.

    Args:
        env: what `make_vector_env` takes.
        max_envs: sub-environments to make at most, where the number is open.

    Raises:
        ConfigError: if `max_envs` is below 1.
        EnvError: if the environment can neither be copied nor made again.
    """
    max_envs = count("max_envs", max_envs)
    few = min(max_envs, MAX_COPIES)
    if isinstance(env, str | EnvSpec):
        made = make_vector_env(_without_shows(env), _number_of(env, max_envs))
    elif isinstance(env, list | tuple):
        parts = [copy_env(e) if isinstance(e, gym.Env) else make_one(e) for e in env]
        made = make_vector_env(stack_envs(parts), 1)
    elif isinstance(env, VectorEnv):
        made = make_vector_env(copy_env(env), 1)
    elif isinstance(env, gym.Env):
        made = make_vector_env(stack_envs([copy_env(env) for _ in range(few)]), 1)
    else:
        if isinstance(env, Vectorized):
            source = _without_shows(env.env) if isinstance(env.env, EnvSpec) else env.env
            env = replace(env, env=source, num_envs=min(few, env.num_envs))
        made = make_vector_env(env, few)
    shown: VectorEnv = _unshown(made)
    return shown


def _number_of(name: str | EnvSpec, max_envs: int) -> int:
    spec = gym.spec(name) if isinstance(name, str) and name in gym.registry else None
    native = spec is not None and spec.vector_entry_point is not None
    return min(max_envs, MAX_NATIVE_ENVS if native else MAX_COPIES)


def copy_env(env: Any) -> Any:
    """Copy an environment, or make it again where a copy would not be one.

    Raises:
        EnvError: if neither is possible.
    """
    plain_parts = [part for part in _kept_parts(env) if not isinstance(part, EzPickle)]
    handle = find_handle(plain_parts)
    if handle is not None:
        return _make_again(env, f"{handle} holds what can't be copied")
    try:
        duplicate = _copy_by_value(env)
    except EnvError:
        raise
    except Exception as error:  # whatever an environment's parts raise when they are copied
        return _make_again(env, f"{error}", error)
    shared = find_shared(_kept_parts(env), _kept_parts(duplicate))
    return duplicate if shared is None else _make_again(env, f"its copy would share {shared}")


def _copy_by_value(env: Any) -> Any:
    memo: dict[int, Any] = {}
    for part in parts_of(env):
        windows = (v for v in vars(part).values() if type(v).__module__.startswith("pygame"))
        memo |= {id(window): None for window in windows}  # as before it was opened
        if isinstance(part, AsyncVectorEnv):
            memo[id(part)] = _new_async(part)
    ezpickles = [part for part in parts_of(env) if isinstance(part, EzPickle)]
    if not ezpickles:
        return _deep_copy(env, memo)
    if find_handle(ezpickles) is None:
        with contextlib.suppress(Exception):  # it holds parts that only its constructor can make
            return _copy_through_ezpickle(env, ezpickles, dict(memo))
    return _copy_by_constructor(env, memo)


def _copy_through_ezpickle(env: Any, ezpickles: list[Any], memo: dict[int, Any]) -> Any:
    """Copy all attributes: an EzPickle by itself would copy its constructor's arguments alone."""
    twins = [(part, object.__new__(type(part))) for part in ezpickles]
    memo |= {id(part): twin for part, twin in twins}
    for part, twin in twins:
        vars(twin).update(copy.deepcopy(vars(part), memo))
    return _deep_copy(env, memo)


def _copy_by_constructor(env: Any, memo: dict[int, Any]) -> Any:
    """Let an EzPickle be made anew, and put its numbers, text and arrays back."""
    duplicate = _deep_copy(env, memo)
    for part, twin in zip(_kept_parts(env), parts_of(duplicate), strict=False):
        if isinstance(part, EzPickle) and type(part) is type(twin):
            changed = {name: value for name, value in vars(part).items() if is_plain(value)}
            vars(twin).update(copy.deepcopy(changed))
    return duplicate


def _deep_copy(env: Any, memo: dict[int, Any]) -> Any:
    for part in reversed(parts_of(env)):  # from the inside to the outside
        if isinstance(part, SHOWS):
            memo[id(part)] = copy.deepcopy(part.env, memo)
    return copy.deepcopy(env, memo)


def _new_async(env: AsyncVectorEnv) -> AsyncVectorEnv:
    """Start new workers by the functions of an AsyncVectorEnv; its own can't be copied."""
    names = ("shared_memory", "copy", "context", "daemon", "worker", "observation_mode")
    options = {name: getattr(env, name) for name in names if hasattr(env, name)}
    mode = env.metadata["autoreset_mode"]
    with explained_workers():
        return AsyncVectorEnv(env.env_fns, autoreset_mode=mode, **options)


def _make_again(env: Any, reason: str, cause: Exception | None = None) -> Any:
    """Make an environment by its functions or its spec."""
    name = type(env.unwrapped).__name__
    try:
        made = _new_sync(env) if isinstance(env, SyncVectorEnv) else _of_spec(env)
    except Exception as error:  # whatever its constructor raises
        cause, reason, made = error, f"{error}; {reason}", None
    if made is None:
        raise EnvError(
            f"{name} can't be copied for evaluation, nor made again from its spec ({reason}). Pass "
            "a function that makes the environment instead of the environment."
        ) from cause
    warnings.warn(
        f"{name} can't be copied ({reason}), so it is made again, without what was changed on it "
        "since. To keep that, pass a function that makes the environment.",
        stacklevel=2,
    )
    return made


def _of_spec(env: Any) -> Any:
    if not is_known(env.spec):
        return None
    make = gym.make_vec if isinstance(env, VectorEnv) else gym.make
    return make(_without_shows(env.spec))


def _new_sync(env: SyncVectorEnv) -> SyncVectorEnv:
    mode = env.metadata["autoreset_mode"]
    made = SyncVectorEnv(env.env_fns, autoreset_mode=mode, observation_mode=env.observation_mode)
    used = {id(sub_env.unwrapped) for sub_env in env.envs}
    if any(id(sub_env.unwrapped) in used for sub_env in made.envs):
        raise EnvError("its functions return the same environment again")
    return made


def is_known(spec: object) -> bool:
    """Tell whether a spec is one the user registered or gave: by no other is anything made.

    What an environment says of itself could have been changed, such as by a file.
    """
    if not isinstance(spec, EnvSpec):
        return False
    registered = gym.registry.get(spec.id)
    return callable(spec.entry_point) or (
        registered is not None and registered.entry_point == spec.entry_point
    )


# ---- without windows or films --------------------------------------------------------------------


def _without_shows(spec: str | EnvSpec) -> str | EnvSpec:
    """Leave out of a spec what shows or films the environment."""
    if isinstance(spec, str):
        return spec
    spec = copy.deepcopy(spec)
    names = {kind.__name__ for kind in SHOWS}
    kept = (wrapper for wrapper in spec.additional_wrappers if wrapper.name not in names)
    spec.additional_wrappers = tuple(kept)
    if spec.kwargs.get("render_mode") == "human":
        del spec.kwargs["render_mode"]
    return spec


def _unshown(env: Any) -> Any:
    """Take the wrappers off that show or film an environment, and close no window: open none."""
    while isinstance(env, SHOWS):
        env = env.env
    if isinstance(env, gym.Wrapper | VectorWrapper):
        env.env = _unshown(env.env)
    elif isinstance(env, SyncVectorEnv):
        env.envs = [_unshown(sub_env) for sub_env in env.envs]
    if vars(env).get("render_mode") == "human":
        env.render_mode = None
    return env


# ---- parts ---------------------------------------------------------------------------------------


def parts_of(env: Any) -> list[Any]:
    """List an environment and every environment it holds: wrapped, vectorised or otherwise."""
    parts, seen = [env], {id(env)}
    for part in parts:  # it grows on the way
        values = vars(part).values()
        groups = [value if isinstance(value, list | tuple) else [value] for value in values]
        for held in itertools.chain(*groups):
            if isinstance(held, gym.Env | VectorEnv) and id(held) not in seen:
                parts.append(held)
                seen.add(id(held))
    return parts


def _kept_parts(env: Any) -> list[Any]:
    """List the parts that a copy keeps: no films, no worker processes."""
    return [part for part in parts_of(env) if not isinstance(part, (*SHOWS, AsyncVectorEnv))]
