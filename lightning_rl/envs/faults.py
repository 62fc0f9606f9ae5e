"""What went wrong in an environment, in words."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from gymnasium.vector import VectorEnv

from lightning_rl.envs.workers import find_async_env, find_fault, start_method, stop_workers
from lightning_rl.errors import EnvError

CONTRACT = (
    "`reset(self, *, seed=None, options=None)` must return two values, (observation, info), and "
    "`step(self, action)` must return five, (observation, reward, terminated, truncated, info), "
    "where info is a dict; environments of the old API returned fewer. "
    "lightning_rl.testing.check_env tries an environment out."
)
MAIN_GUARD = (
    "Processes that are not forked import the script anew: put what it does under `if __name__ == "
    '"__main__":`.'
)
OLD_API = ("values to unpack", "cannot unpack", "attribute 'items'", "attribute 'keys'")
OLD_ARGUMENTS = ("unexpected keyword argument 'seed'", "unexpected keyword argument 'options'")


def explain(error: Exception, env: VectorEnv, where: str, seed: int | None) -> EnvError:
    """Make an error that an environment raised one that names the sub-environment.

    Worker processes of an AsyncVectorEnv that has lost one are ended: it can't be used any more.

    Args:
        error: what was raised.
        env: the vector environment.
        where: such as "step 7".
        seed: that sub-environment 0 was reset with.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    async_env = find_async_env(env, error)
    fault = None if async_env is None else find_fault(async_env, error)
    if async_env is not None and fault is not None:
        stop_workers(async_env)
        indices, what = fault.env_indices, fault.words
        trace = "what its process printed shows where it happened"
    else:
        indices, what = _find_sub_env(env, frames), f"raised {type(error).__name__}"
        trace = "the traceback above shows where it happened"
    who = _name_envs(indices) or f"one of the {env.num_envs} sub-environments"
    seeds = ", ".join(str(seed + i) for i in indices) if seed is not None else ""
    seeded = f" It was reset with seed {seeds}." if seeds else ""
    told = f": {str(error).removesuffix('.')}" if str(error) else ""
    hint = _hint(error, frames)
    return EnvError(
        f"{who} {what} in {where}{told}.{hint}{seeded} Nothing of it was kept; {trace}."
    )


@contextmanager
def explained_workers() -> Iterator[None]:
    """Say which workers failed where an AsyncVectorEnv can't be made; end all of them.

    Raises:
        EnvError: naming them. An error that comes from elsewhere is left as it is.
    """
    try:
        yield
    except Exception as error:
        env = find_async_env(None, error)
        if env is None:
            raise
        fault = find_fault(env, error)
        stop_workers(env)
        if fault is None and "bootstrapping" not in str(error):
            raise
        what = "workers can't be started while a script is being imported"
        if fault is not None:
            what = f"{_name_envs(fault.env_indices)} {fault.words} when the AsyncVectorEnv was made"
        guard = "" if start_method(env) == "fork" else f" {MAIN_GUARD}"
        raise EnvError(
            f"{what} ({error or type(error).__name__}); what its process printed shows why. No "
            f"process is left running.{guard}"
        ) from error


def _name_envs(env_indices: list[int]) -> str:
    plural = "s" if len(env_indices) > 1 else ""
    return f"sub-environment{plural} {', '.join(map(str, env_indices))}" if env_indices else ""


def _find_sub_env(env: VectorEnv, frames: list[FrameType]) -> list[int]:
    """Find the sub-environment that was at work: in its own frames, or in those of its loop."""
    base: Any = env.unwrapped
    sub_envs = list(getattr(base, "envs", []))
    if len(sub_envs) == 1:
        return [0]
    for frame in frames:
        values = list(frame.f_locals.values())
        found = [i for i, sub_env in enumerate(sub_envs) if any(v is sub_env for v in values)]
        if len(found) == 1:
            return found
        number = frame.f_locals.get("i")  # in Gymnasium's loop over them
        if any(v is base for v in values) and isinstance(number, int):
            return [number]
    return []


def _hint(error: Exception, frames: list[FrameType]) -> str:
    """Say what to do about an environment of the old API, or about infos that change."""
    modules = [str(frame.f_globals.get("__name__", "")) for frame in frames]
    batching = [f for f, m in zip(frames, modules, strict=True) if m.endswith("vector.vector_env")]
    keys = [frame.f_locals["key"] for frame in batching if "key" in frame.f_locals]
    if keys and frames[-1] is batching[-1]:
        return (
            f" The entry {keys[0]!r} of its info has another type or shape than before, or than "
            "in another sub-environment; Gymnasium makes one array of them. Give it one type and "
            "shape, or leave it out: training does not use it."
        )
    is_ours = bool(modules) and modules[-1].split(".")[0] in ("gymnasium", "lightning_rl")
    is_old = is_ours and any(words in str(error) for words in OLD_API)
    return f" {CONTRACT}" if is_old or any(words in str(error) for words in OLD_ARGUMENTS) else ""
