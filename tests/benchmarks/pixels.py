"""Acting from pictures: what a dream of them reaches, PPO on the same ones, and what both cost."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space

OPTIONS = {"accelerator": "cpu", "enable_progress_bar": False}
QUIET = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
STACK = 4


class Run(NamedTuple):
    """One seed's outcome."""

    mean: float  # return of 100 greedy episodes in the real environment
    real_steps: int
    seconds: float  # of CPU time, from the first env step to the trained agent


class StackedPictures(VectorWrapper):
    """The last four pictures as channels (H, W, 4), as PPO needs to see how things move."""

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        shape = (*env.single_observation_space.shape[:2], STACK)  # type: ignore[index]
        self.single_observation_space = spaces.Box(0, 255, shape, np.uint8)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def reset(self, **options: Any) -> Any:
        """Begin with four times the first picture."""
        pictures, infos = self.env.reset(**options)
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        self._stack = np.repeat(pictures, STACK, axis=-1)
        return self._stack.copy(), infos

    def step(self, actions: Any) -> Any:
        """Forget the oldest picture; all of them, where an episode begins."""
        pictures, rewards, terminated, truncated, infos = self.env.step(actions)
        self._stack = np.concatenate([self._stack[..., 1:], pictures], axis=-1)
        self._stack[self._ended] = pictures[self._ended]
        self._ended = terminated | truncated
        return self._stack.copy(), rewards, terminated, truncated, infos


def score(agent: Any, env: Any, seed: int) -> float:
    """Give the mean return of 100 greedy episodes."""
    from lightning_rl import evaluate

    return round(evaluate(agent, env, 100, seed=50_000 + seed).mean, 1)


def dream(env: str, seed: int, parts: dict[str, Any], **settings: Any) -> Run:
    """Learn from random pictures, in a dream; `parts` are the agent, the eye, the model."""
    from lightning_rl.worlds import PictureDreamConfig, learn_from_pictures

    config = PictureDreamConfig(**settings)
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        result = learn_from_pictures(
            env, Path(folder), config=config, seed=seed, **parts, **OPTIONS
        )
    seconds = time.process_time() - start
    return Run(score(result.agent, result.env(), seed), result.real_steps, round(seconds, 1))


def cartpole(seed: int, rounds: int = 0) -> Run:
    """Balance the pole after 10,000 random env steps, and `rounds` times 2,000 own ones."""
    return dream("CartPole-v1", seed, {}, rounds=rounds)


def pendulum(seed: int) -> Run:
    """Swing the pendulum up after 20,000 random env steps.

    A pendulum's percepts are curved, so the model is larger; what is wrong with it grows with each
    dreamt step, so dreams are short, and start everywhere.
    """
    from lightning_rl import PPOAgent, PPOConfig, WorldModel
    from lightning_rl.worlds import Eye, EyeConfig, WorldModelConfig

    ppo = PPOConfig(
        rollout_steps=4096, batch_size=1024, update_epochs=10, learning_rate=3e-3, gamma=0.95,
        gae_lambda=0.95, anneal_clip_range=False, normalize_rewards=True,
    )  # fmt: skip
    parts = {
        "agent": PPOAgent(config=ppo),
        "eye": Eye(EyeConfig(num_codes=6)),
        "model": WorldModel(WorldModelConfig(hidden_sizes=(128, 128))),
    }
    settings = {"random_steps": 20_000, "model_epochs": 50, "dream_steps": 131_072}
    return dream("Pendulum-v1", seed, parts, horizon=30, known_range=None, **settings)


def recurrent(seed: int, epochs: int = 8) -> Run:
    """Balance the pole after as many pictures, in the dream of a recurrent state-space model."""
    import torch
    from torch.utils.data import DataLoader

    from lightning_rl import AgentTrainer, PPOAgent, make_random_trajectory
    from lightning_rl.worlds import (
        PictureEnv,
        RecurrentDreamEnv,
        RecurrentWorldModel,
        RememberedEnv,
    )  # fmt: skip

    torch.manual_seed(seed)
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        pictures = make_random_trajectory(
            PictureEnv("CartPole-v1"), Path(folder) / "data", seed=seed, progress=False
        )
        windows = pictures.with_window(12)
        model = RecurrentWorldModel()
        trainer = AgentTrainer(max_epochs=epochs, **QUIET, **OPTIONS)
        trainer.fit(model, DataLoader(windows, 64, shuffle=True))
        dream, agent = RecurrentDreamEnv(model, windows, horizon=50), PPOAgent()
        AgentTrainer(max_env_steps=65_536, seed=seed, **QUIET, **OPTIONS).fit(agent, dream)
    seconds = time.process_time() - start
    env = RememberedEnv(PictureEnv("CartPole-v1", 100), model)
    return Run(score(agent, env, seed), windows.num_steps, round(seconds, 1))


def ppo(seed: int, max_env_steps: int, max_seconds: float = float("inf")) -> Run:
    """Train PPO on stacks of four of the same pictures; by env steps, or by CPU time.

    Its learning rate is 1e-3: the default, which is for small networks, is too high for a CNN.
    """
    from lightning.pytorch import Callback

    from lightning_rl import AgentTrainer, PPOAgent, PPOConfig
    from lightning_rl.worlds import PictureEnv

    class Clock(Callback):
        """Stops once the CPU time is spent."""

        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.should_stop |= time.process_time() - start > max_seconds

    agent = PPOAgent(config=PPOConfig(learning_rate=1e-3))
    trainer = AgentTrainer(
        max_env_steps=max_env_steps, seed=seed, callbacks=[Clock()], **QUIET, **OPTIONS
    )
    start = time.process_time()
    trainer.fit(agent, StackedPictures(PictureEnv("CartPole-v1", 32)))
    seconds = time.process_time() - start
    env = StackedPictures(PictureEnv("CartPole-v1", 100))
    return Run(score(agent, env, seed), agent.env_steps, round(seconds, 1))


def steps_per_second(env: VectorEnv, calls: int = 500) -> float:
    """Step an environment; give env steps a second of CPU time."""
    env.reset(seed=0)
    actions = env.action_space.sample()
    start = time.process_time()
    for _ in range(calls):
        env.step(actions)
    return calls * env.num_envs / (time.process_time() - start)


def speeds(seed: int = 0, num_envs: int = 32) -> dict[str, float]:
    """Compare the dream's env steps a second with the real environment's in pictures."""
    from functools import partial

    import gymnasium as gym

    from lightning_rl.worlds import PerceivedEnv, PictureDreamConfig, PictureEnv
    from lightning_rl.worlds.picture_chain import learn_from_pictures

    config = PictureDreamConfig(dream_steps=2048, eye_epochs=1, model_epochs=1)
    with tempfile.TemporaryDirectory() as folder:
        result = learn_from_pictures("CartPole-v1", folder, config=config, seed=seed, **OPTIONS)
    drawn = PictureEnv("CartPole-v1", num_envs)
    make = partial(gym.make, "CartPole-v1", render_mode="rgb_array")
    rendered = PictureEnv(gym.vector.SyncVectorEnv([make] * num_envs), paint=None)
    rendered.paint = None  # what any other environment needs
    return {
        "dream": steps_per_second(result.dream),
        "drawn": steps_per_second(drawn),
        "drawn and seen": steps_per_second(PerceivedEnv(drawn, result.eye)),
        "rendered": steps_per_second(rendered, 5),
    }


def means(runs: Iterable[Run]) -> list[float]:
    """Give the mean returns."""
    return [run.mean for run in runs]
