"""Closing environments: those the package made, never the user's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
from gymnasium.vector import AsyncVectorEnv, VectorEnv

from lightning_rl.envs.workers import EXIT_SECONDS, stop_workers


def close_env(env: VectorEnv) -> None:
    """Close an environment and all it holds; worker processes that don't answer are ended."""
    base: Any = env.unwrapped
    if not isinstance(base, AsyncVectorEnv):
        env.close()
        return
    try:
        if not base.closed and all(process.is_alive() for process in base.processes):
            base.close(timeout=EXIT_SECONDS)
    finally:
        if not base.closed:
            stop_workers(base)
        env.close()  # what is wrapped around it


def close_made(env: VectorEnv, source: Any) -> None:
    """Close what `make_vector_env(source)` has made; environments in `source` stay open."""
    if isinstance(source, gym.Env | VectorEnv):
        return
    if isinstance(source, Sequence) and not isinstance(source, str):
        sub_envs: Any = getattr(env.unwrapped, "envs", [])
        for given, sub_env in zip(source, sub_envs, strict=True):
            if not isinstance(given, gym.Env):
                sub_env.close()
        return
    close_env(env)
