"""PPO on frames of 84 x 84 pixels, four stacked: the same work with Stable-Baselines3's CnnPolicy.

Both get the same frames, a rollout of 8 x 128 steps, minibatches of 256 and 4 epochs (rl-zoo's
setting for Atari), the convolutions of Mnih et al. 2015, and no learning target: frames are noise.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

NUM_ENVS, NUM_STEPS, BATCH, EPOCHS = 8, 128, 256, 4
ITERATIONS = 2


class Noise(gym.Env):
    """Frames drawn beforehand, episodes of 200 steps."""

    observation_space = spaces.Box(0, 255, (84, 84, 4), np.uint8)
    action_space = spaces.Discrete(4)

    def __init__(self) -> None:
        self.frames = np.random.default_rng(0).integers(0, 256, (16, 84, 84, 4), np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        """Begin an episode."""
        super().reset(seed=seed)
        self.t = 0
        return self.frames[0], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        """Give the next frame."""
        self.t += 1
        return self.frames[self.t % 16], float(action == 0), False, self.t == 200, {}


def ours(steps: int) -> Callable[[], Any]:
    """Prepare to train with a default AgentTrainer, without files."""
    from lightning_rl import AgentTrainer, PPOAgent, PPOConfig

    config = PPOConfig(
        rollout_steps=NUM_ENVS * NUM_STEPS, batch_size=BATCH, update_epochs=EPOCHS,
        learning_rate=2.5e-4,
    )  # fmt: skip
    trainer = AgentTrainer(
        max_env_steps=steps, num_envs=NUM_ENVS, seed=0, accelerator="cpu", logger=False,
        enable_checkpointing=False,
    )  # fmt: skip
    return lambda: trainer.fit(PPOAgent(config=config), Noise)


def stable_baselines3(steps: int) -> Callable[[], Any]:
    """Prepare to train with its CnnPolicy."""
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    model = PPO(
        "CnnPolicy", make_vec_env(Noise, n_envs=NUM_ENVS, seed=0), n_steps=NUM_STEPS,
        batch_size=BATCH, n_epochs=EPOCHS, learning_rate=2.5e-4, seed=0, device="cpu",
    )  # fmt: skip
    return lambda: model.learn(steps)


def measure(whose: str) -> dict[str, float]:
    """Measure in a fresh process: CPU seconds of 2 iterations, and the memory's peak in MB."""
    command = [sys.executable, "-W", "ignore", __file__, whose]
    printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    seconds, megabytes = printed.strip().splitlines()[-1].split()
    return {"seconds": float(seconds), "mb": float(megabytes)}


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    prepare = {"ours": ours, "sb3": stable_baselines3}[sys.argv[1]]
    train = prepare(NUM_ENVS * NUM_STEPS * ITERATIONS)
    start = time.process_time()  # a busy machine disturbs it less
    train()
    passed = time.process_time() - start
    print(f"\n{passed} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}")
