"""Env steps a second, and memory, of 1 to 4,096 environments: native, Sync and Async.

    python tests/benchmarks/many_envs.py

Each cell is a process of its own, in which PPO's policy acts for a while; nothing is learned. It
says env steps a second, CPU time an env step over all processes, and memory. *Slow* is CartPole
with half a millisecond of Python in each step, as in a simulation of one's own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import warnings
from typing import Any

import gymnasium as gym
import psutil
import torch

from lightning_rl import EnvDataLoader, PPOAgent, PPOConfig

SIZES = (1, 4, 16, 64, 256, 1024, 4096)
MAX_PROCESSES = 64  # of an AsyncVectorEnv
SLOW_SECONDS = 5e-4
KINDS = {
    "CartPole, native": ("CartPole-v1", "vector_entry_point"),
    "CartPole, Sync": ("CartPole-v1", "sync"),
    "CartPole, Async": ("CartPole-v1", "async"),
    "slow, Sync": ("slow", "sync"),
    "slow, Async": ("slow", "async"),
}


class SlowCartPole(gym.Wrapper):
    """Computes for half a millisecond in each step."""

    def step(self, action: Any) -> Any:
        end = time.perf_counter() + SLOW_SECONDS
        while time.perf_counter() < end:
            pass
        return super().step(action)


def make_slow() -> Any:
    return SlowCartPole(gym.make("CartPole-v1"))


def make(kind: str, num_envs: int) -> Any:
    """Make a vector environment as the table names it."""
    name, mode = KINDS[kind]
    if name == "slow":
        vectorize = gym.vector.SyncVectorEnv if mode == "sync" else gym.vector.AsyncVectorEnv
        return vectorize([make_slow] * num_envs)
    return gym.make_vec(name, num_envs, vectorization_mode=mode)


def processes() -> list[psutil.Process]:
    """Give this process and its children."""
    process = psutil.Process()
    return [process, *process.children(recursive=True)]


def memory() -> float:
    """Sum what they take, in MB; what they share is counted once."""
    return sum(one.memory_full_info().pss for one in processes()) / 1e6


def cpu_seconds() -> float:
    """Sum what they have computed."""
    return sum(sum(one.cpu_times()[:2]) for one in processes())


def measure(kind: str, num_envs: int, seconds: float) -> dict[str, float]:
    """Act for some seconds with PPO's default network."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    config = PPOConfig(rollout_steps=max(512, num_envs * 4))
    act(kind, 1, config, 0.0)  # what torch takes for itself comes first
    before = memory()
    return act(kind, num_envs, config, seconds, before)


def act(
    kind: str, num_envs: int, config: PPOConfig, seconds: float, before: float = 0.0
) -> dict[str, float]:
    """Make rollouts, at least one after the first."""
    env, agent = make(kind, num_envs), PPOAgent(config=config)
    loader = EnvDataLoader(agent, env, seed=0)
    agent.start_run(0)
    agent.rollout(config.rollout_steps)  # the first one takes longer
    first, computed, start = agent.env_steps, cpu_seconds(), time.perf_counter()
    while agent.env_steps == first or time.perf_counter() < start + seconds:
        agent.rollout(config.rollout_steps)
    steps, wall = agent.env_steps - first, time.perf_counter() - start
    found = {
        "steps_per_second": steps / wall,
        "cpu_microseconds": (cpu_seconds() - computed) / steps * 1e6,
        "megabytes": memory() - before,
    }
    loader.close()
    env.close()
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "NUM_ENVS"))
    options = parser.parse_args()
    if options.one:
        kind, num_envs = options.one
        print(json.dumps(measure(kind, int(num_envs), options.seconds)))
        return
    print("| environments | " + " | ".join(f"{n:,}" for n in SIZES) + " |")
    print("| --- |" + " --- |" * len(SIZES))
    for kind in KINDS:
        cells = [cell(kind, num_envs, options.seconds) for num_envs in SIZES]
        print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)


def cell(kind: str, num_envs: int, seconds: float) -> str:
    """Measure in a new process."""
    if KINDS[kind][1] == "async" and num_envs > MAX_PROCESSES:
        return ""
    command = [sys.executable, __file__, "--one", kind, str(num_envs), "--seconds", str(seconds)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(said.splitlines()[-1])
    rate, cpu, megabytes = found.values()
    return f"{rate:,.0f}/s, {cpu:.3g} µs, {megabytes:.0f} MB"


if __name__ == "__main__":
    main()
