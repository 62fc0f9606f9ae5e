"""An environment that counts, for the tests beside it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

BOTH_MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]

both_modes = pytest.mark.parametrize("mode", BOTH_MODES)


class CountingEnv(gym.Env):
    """Observes (episode, t) and pays 10 · episode + t: every row tells where it comes from."""

    observation_space = spaces.Box(-1, 1e6, (2,))
    action_space = spaces.Discrete(2)

    def __init__(self, lengths: list[int], truncates: bool = False) -> None:
        self.lengths, self.truncates = lengths, truncates
        self.episode, self.t = -1, 0
        self.seeds: list[int | None] = []

    def observe(self) -> Any:
        return np.array([self.episode, self.t], dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.episode, self.t = self.episode + 1, 0
        return self.observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.t += 1
        ended = self.t == self.lengths[self.episode % len(self.lengths)]
        reward = 10.0 * self.episode + self.t
        return self.observe(), reward, ended and not self.truncates, ended and self.truncates, {}


def counting(lengths: list[list[int]], mode: AutoresetMode, truncates: bool = False) -> VectorEnv:
    return SyncVectorEnv(
        [lambda own=own: CountingEnv(own, truncates) for own in lengths], autoreset_mode=mode
    )


def zeros(env: VectorEnv) -> Any:
    return np.zeros(env.num_envs, dtype=np.int64)
