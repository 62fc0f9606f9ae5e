"""What an agent learns of an endless environment, and what memory it takes meanwhile."""

from __future__ import annotations

import gc
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import gymnasium as gym
import psutil
import torch
from lightning.pytorch import Callback

from lightning_rl import AgentTrainer, PPOAgent, PPOConfig
from lightning_rl.testing import ConstantRewardEnv
from tests.reliability.goals import Checks, Figure

GAMMA = 0.9
MEGABYTE = 2**20


class Terminating(gym.Wrapper):
    """Says of a time limit that it is the end: the control."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.env.step(action)
        return observation, reward, terminated or truncated, False, info


def learned_value(wrap: Any, steps: int) -> float:
    """Give V of the one state there is, after a training in episodes of 8 env steps."""
    settings = {"learning_rate": 0.01, "rollout_steps": 256, "batch_size": 256}
    agent = PPOAgent(config=PPOConfig(gamma=GAMMA, gae_lambda=0.5, **settings))
    trainer = AgentTrainer(max_env_steps=steps, seed=0, num_envs=8, quiet=True)
    trainer.fit(agent, lambda: wrap(ConstantRewardEnv(length=8)))
    with torch.no_grad():
        return float(agent.network(torch.zeros(1, 1))[1])


def value_of_an_endless_environment(short: bool) -> Figure:
    """Compare V with 1 / (1 - γ), which it is only if truncation is no termination."""
    steps = 15_000 if short else 60_000
    true = 1.0 / (1.0 - GAMMA)
    value, control = (learned_value(wrap, steps) for wrap in (lambda env: env, Terminating))
    words = f"V = {value:.2f} of {true:.0f}; {control:.2f} where truncation counts as termination"
    return Figure(words, abs(value - true) < 1.0 < abs(control - true))


class Resident(Callback):
    """Notes what the process holds after each so many env steps."""

    def __init__(self, every: int) -> None:
        self.every, self.noted = every, list[tuple[int, int]]()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if pl_module.env_steps >= self.every * (len(self.noted) + 1):
            gc.collect()
            self.noted.append((pl_module.env_steps, psutil.Process().memory_info().rss))


def growth_while_training(short: bool) -> Figure:
    """Train as by default; compare memory after warm-up and at the end."""
    steps = 40_000 if short else 3_000_000
    resident = Resident(steps // 20)
    process = psutil.Process()

    def held() -> tuple[int, int, int]:
        return process.num_fds(), threading.active_count(), len(process.children())

    with tempfile.TemporaryDirectory() as folder:
        here, before = Path.cwd(), held()
        os.chdir(folder)
        try:
            trainer = AgentTrainer(
                max_env_steps=steps, seed=0, callbacks=[resident], enable_progress_bar=False
            )
            trainer.fit(PPOAgent(), "CartPole-v1")
        finally:
            os.chdir(here)
    (start, first), (end, last) = resident.noted[len(resident.noted) // 3], resident.noted[-1]
    slope = (last - first) / MEGABYTE / (end - start) * 1e6
    words = f"{slope:.1f} MB per million env steps of PPO after warm-up"
    left = "no file, thread or process left" if held() <= before else f"left {held()}, had {before}"
    if short:  # too few to tell a slope
        return Figure(left, held() <= before)
    return Figure(f"{words}; {left}", slope <= 1.0 and held() <= before)


CHECKS: Checks = [(9, value_of_an_endless_environment), (21, growth_while_training)]
