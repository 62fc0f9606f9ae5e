"""What torch.compile makes of an update: eager, `agent.compile()`, the whole training step.

It prints milliseconds of CPU an update, the first iterations left out, and what compiling takes:

    OMP_NUM_THREADS=1 taskset -c 0 python tests/benchmarks/compiled.py [PPO, ...]
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import torch
from images import Noise

from lightning_rl import (
    ActorCriticNetwork,
    AgentTrainer,
    DQNAgent,
    PPOAgent,
    PPOConfig,
    SACAgent,
)

WAYS = ("eager", "compile()", "training step")
CONSTANT = {"anneal_learning_rate": False, "anneal_clip_range": False}
MADE: dict[str, tuple[Callable[[], Any], Any, int, int]] = {  # agent, env, num_envs, env steps
    "PPO": (lambda: PPOAgent(config=PPOConfig(**CONSTANT)), "CartPole-v1", 32, 2048 * 12),
    "PPO, wide": (
        lambda: PPOAgent(ActorCriticNetwork((512, 512)), PPOConfig(**CONSTANT)),
        "CartPole-v1", 32, 2048 * 8,
    ),
    "DQN": (DQNAgent, "CartPole-v1", 16, 6000),
    "SAC": (SACAgent, "Pendulum-v1", 16, 4000),
    "PPO, pictures": (
        lambda: PPOAgent(
            config=PPOConfig(rollout_steps=256, batch_size=128, update_epochs=1, **CONSTANT)
        ),
        Noise, 8, 256 * 6,
    ),
}  # fmt: skip


def compile_parts(agent: Any, way: str) -> None:
    """Compile in one of the ways, once the network is built."""
    if way == "training step":
        agent.training_step = torch.compile(agent.training_step)
    elif way == "compile()":
        agent.compile()


def measure(name: str, way: str) -> tuple[float, float]:
    """Give milliseconds an update, and the seconds of the first updates."""
    make, env, num_envs, env_steps = MADE[name]
    agent, taken = make(), []
    update = agent.optimizer_step

    def timed(*args: Any, **options: Any) -> None:
        if not taken:
            compile_parts(agent, way)
        start, count = time.process_time(), counted()
        update(*args, **options)
        if made := counted() - count:
            taken.append((time.process_time() - start, made))

    def counted() -> int:
        return getattr(agent, "num_updates", None) or len(steps)

    steps: list[int] = []
    step = agent.configure_gradient_clipping

    def clipped(*args: Any, **options: Any) -> None:
        steps.append(1)
        step(*args, **options)

    agent.optimizer_step, agent.configure_gradient_clipping = timed, clipped
    trainer = AgentTrainer(
        max_env_steps=env_steps, num_envs=num_envs, seed=0, accelerator="cpu", quiet=True
    )
    trainer.fit(agent, env)
    last = taken[len(taken) // 2 :]
    return 1000 * sum(t for t, _ in last) / sum(n for _, n in last), sum(t for t, _ in taken[:2])


def main(names: list[str]) -> None:
    """Print a table."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for name in names or MADE:
        for way in WAYS:
            torch.compiler.reset()
            start = time.perf_counter()
            try:
                update, first = measure(name, way)
            except Exception as error:
                print(f"{name:14} {way:14} {type(error).__name__}: {str(error)[:1500]}", flush=True)
                continue
            took = time.perf_counter() - start
            print(
                f"{name:14} {way:14} {update:7.2f} ms each, first {first:6.1f} s, {took:5.1f} s",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
