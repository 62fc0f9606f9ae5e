"""Acting in a dream against acting in the real environment: what it reaches, and what it costs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

BUDGET = 65_536
OPTIONS = {"accelerator": "cpu", "enable_progress_bar": False}
QUIET = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}


def learn(env: str, agent: Any, config: Any, seed: int) -> Any:
    """Run the chain: collect, learn a model, dream."""
    from lightning_rl.worlds.chain import learn_in_dream

    with tempfile.TemporaryDirectory() as folder:
        return learn_in_dream(env, Path(folder) / "data", agent, None, config, seed, **OPTIONS)


def cartpole_chain(seed: int, rounds: int = 0) -> Any:
    """Learn CartPole-v1 from 10,000 random env steps and `rounds` times 2,000 own ones."""
    from lightning_rl import PPOAgent
    from lightning_rl.worlds.chain import DreamConfig

    return learn("CartPole-v1", PPOAgent(), DreamConfig(rounds=rounds), seed)


def pendulum_chain(seed: int) -> Any:
    """Learn Pendulum-v1 from 10,000 random env steps."""
    from lightning_rl import PPOAgent, PPOConfig
    from lightning_rl.worlds.chain import DreamConfig

    ppo = PPOConfig(
        rollout_steps=4096, batch_size=1024, update_epochs=10, learning_rate=3e-3, gamma=0.95,
        gae_lambda=0.95, anneal_clip_range=False, normalize_rewards=True,
    )  # fmt: skip
    config = DreamConfig(dream_steps=131_072, horizon=200, known_range=None)
    return learn("Pendulum-v1", PPOAgent(config=ppo), config, seed)


def real_means(chain: Any, env: str, seeds: Iterable[int], **options: Any) -> list[float]:
    """Give the mean return of 100 greedy episodes in the real environment, for each seed."""
    from lightning_rl import evaluate

    agents = ((chain(seed, **options).agent, seed) for seed in seeds)
    return [round(evaluate(agent, env, 100, seed=50_000 + seed).mean, 1) for agent, seed in agents]


def ppo(env: Any, seed: int) -> None:
    """Fit PPO's defaults for 65,536 env steps: in a name's native vector env, or in a dream."""
    from lightning_rl import AgentTrainer, PPOAgent

    trainer = AgentTrainer(max_env_steps=BUDGET, num_envs=32, seed=seed, **QUIET, **OPTIONS)
    trainer.fit(PPOAgent(), env)


def make_dream(seed: int) -> Any:
    """Make the dream that `ppo` is timed in, of the same 32 sub-environments as the real one."""
    from lightning_rl.trajectories.collect import make_random_trajectory
    from lightning_rl.worlds.chain import train_world_model
    from lightning_rl.worlds.dream_env import DreamEnv

    with tempfile.TemporaryDirectory() as folder:
        steps = make_random_trajectory(
            "CartPole-v1", Path(folder) / "data", seed=seed, progress=False
        )
        model = train_world_model(steps, seed=seed, **OPTIONS)
        return DreamEnv(model, steps, num_envs=32, known_range=0.8)
