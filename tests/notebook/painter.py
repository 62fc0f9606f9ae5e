"""An environment that paints, for the tests beside it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from lightning_rl import EnvDataLoader, LightningAgentModule


class Painter(gym.Env):
    """Five steps; frame t is filled with the grey 10 t, and the reward is the action."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(self, action_space: Any = None, render_mode: str | None = None) -> None:
        self.observation_space = spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = action_space or spaces.Discrete(3)
        self.render_mode = render_mode
        self.t = 0
        self.start = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = self.start
        return self._observe(), {}

    def step(self, action: Any) -> Any:
        self.t += 1
        return self._observe(), float(np.sum(action)), self.t >= 5, False, {}

    def render(self) -> Any:
        return np.full((8, 12, 3), 10 * self.t, np.uint8)

    def _observe(self) -> Any:
        return np.full(2, self.t / 5, np.float32)


def bound(agent: LightningAgentModule, env: Any) -> Any:
    EnvDataLoader(agent, env)
    return agent
