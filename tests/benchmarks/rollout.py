"""A rollout of ours against a bare loop of env.step, policy forward and sampling."""

from __future__ import annotations

import statistics
import time

import gymnasium as gym
import torch

STEPS = 256


def measure(num_envs: int, repeats: int) -> dict[str, float]:
    """Give the median seconds of a step of `num_envs` sub-environments, both ways."""
    from lightning_rl import EnvDataLoader, PPOAgent, PPOConfig

    agent = PPOAgent(config=PPOConfig(rollout_steps=num_envs * STEPS))
    EnvDataLoader(agent, "CartPole-v1", num_envs=num_envs)  # binds the agent
    env = gym.make_vec("CartPole-v1", num_envs=num_envs)
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(repeats):
        agent.start_run(0)
        start = time.perf_counter()
        agent.rollout(num_envs * STEPS)
        seconds["ours"].append((time.perf_counter() - start) / STEPS)
        seconds["bare"].append(bare_loop(agent.network, env))
    return {name: statistics.median(values) for name, values in seconds.items()}


def bare_loop(network: torch.nn.Module, env: gym.vector.VectorEnv) -> float:
    """Step, ask the policy, draw actions: nothing is kept. Give the seconds of a step."""
    generator = torch.Generator().manual_seed(0)
    observations, _ = env.reset(seed=0)
    start = time.perf_counter()
    with torch.no_grad():
        for _ in range(STEPS):
            logits = network.policy(torch.from_numpy(observations))
            noise = torch.empty_like(logits).exponential_(generator=generator)
            actions = (logits - noise.log_()).argmax(-1)  # the fastest exact way to draw
            observations, _, _, _, _ = env.step(actions.numpy())
    return (time.perf_counter() - start) / STEPS
