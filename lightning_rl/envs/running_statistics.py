"""The running statistics of Gymnasium's normalising wrappers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from typing import Any

from gymnasium.vector import VectorEnv
from gymnasium.wrappers import NormalizeObservation, NormalizeReward
from gymnasium.wrappers.vector import NormalizeObservation as VectorNormalizeObservation
from gymnasium.wrappers.vector import NormalizeReward as VectorNormalizeReward

from lightning_rl.envs.separate import parts_of

OF_ONE = (NormalizeObservation, NormalizeReward)
OF_ALL = (VectorNormalizeObservation, VectorNormalizeReward)


def carry_statistics(env: VectorEnv, trained: VectorEnv | None) -> None:
    """Let an environment normalise by the statistics of the one trained in, and learn no more.

    Sub-environment i takes those of sub-environment i of the other, if that has seen more. Where
    there is no other, or it is wrapped otherwise, an environment keeps its own; a warning says so
    if it has none yet. Those within an AsyncVectorEnv's workers can't be reached.

    Args:
        env: a separate environment, to evaluate in.
        trained: the one that the agent was trained in, if there is one.
    """
    is_new = False
    for part, other in _pairs(env, trained):
        name = "obs_rms" if hasattr(part, "obs_rms") else "return_rms"
        if other is not None and getattr(other, name).count > getattr(part, name).count:
            setattr(part, name, copy.deepcopy(getattr(other, name)))
        has_none = getattr(part, name).count < 1  # a new one starts at 0.0001
        part.update_running_mean = has_none
        is_new |= has_none
    if is_new:
        warnings.warn(
            "a normalising wrapper of this environment has no statistics yet, so the agent meets "
            "another task than it was trained on. Give the environment that it was trained in, or "
            "train with PPOConfig(normalize_observations=True), whose statistics are the agent's.",
            stacklevel=2,
        )


def _pairs(env: VectorEnv, trained: VectorEnv | None) -> Iterator[tuple[Any, Any]]:
    """Give each normalising wrapper with the one at its place in the other environment."""
    others = [] if trained is None else _sub_envs(trained)
    yield from _matched(_wrappers(env, OF_ALL), _wrappers(trained, OF_ALL))
    for i, sub_env in enumerate(_sub_envs(env)):
        other = others[i % len(others)] if others else None
        yield from _matched(_wrappers(sub_env, OF_ONE), _wrappers(other, OF_ONE))


def _matched(own: list[Any], others: list[Any]) -> list[tuple[Any, Any]]:
    alike = [type(part) for part in own] == [type(part) for part in others]
    return list(zip(own, others if alike else [None] * len(own), strict=True))


def _wrappers(env: Any, kinds: tuple[type, ...]) -> list[Any]:
    return [] if env is None else [part for part in parts_of(env) if isinstance(part, kinds)]


def _sub_envs(env: VectorEnv) -> list[Any]:
    return list(getattr(env.unwrapped, "envs", []))
