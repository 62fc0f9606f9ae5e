"""Environments whose episodes have lengths known beforehand."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from lightning_rl.agents.ppo import PPOAgent, PPOConfig
from lightning_rl.loader import EnvDataLoader


class Countdown(gym.Env):
    """Episode e lasts `lengths[e]` steps (the last length repeats) and pays `pay` a step."""

    observation_space = spaces.Box(0, 1, (1,))
    action_space = spaces.Discrete(2)

    def __init__(self, *lengths: int, pay: float = 1.0) -> None:
        self.lengths, self.pay, self.episode, self.t = lengths, pay, -1, 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.episode, self.t = self.episode + 1, 0
        return self.np_random.random(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.t += 1
        length = self.lengths[min(self.episode, len(self.lengths) - 1)]
        return self.np_random.random(1, np.float32), self.pay, self.t == length, False, {}


CONFIG = PPOConfig(
    rollout_steps=64,
    batch_size=32,
    update_epochs=2,
    anneal_clip_range=False,  # annealing needs a trainer, which says how far the run is
)


def bound(env: Any = "CartPole-v1", **config: Any) -> tuple[PPOAgent, EnvDataLoader]:
    agent = PPOAgent(config=PPOConfig(**(vars(CONFIG) | config)))
    loader = EnvDataLoader(agent, env, num_envs=4, seed=3)
    agent.start_run(seed=3)
    return agent, loader
