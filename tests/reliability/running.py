"""Trainings: what their checks cost."""

from __future__ import annotations

import statistics
import time
from itertools import pairwise
from typing import Any

from lightning_rl import AgentTrainer, DQNAgent, PPOAgent, ReinforceAgent, SACAgent
from tests.reliability.goals import Checks, Figure

AGENTS: dict[str, Any] = {
    "PPO": (PPOAgent, "CartPole-v1", 20_000),
    "REINFORCE": (ReinforceAgent, "CartPole-v1", 20_000),
    "DQN": (DQNAgent, "CartPole-v1", 4_000),
    "SAC": (SACAgent, "Pendulum-v1", 3_000),
}


def checking_share(name: str, steps: int) -> float:
    """Give the part of a training's time that looking for NaN and infinity takes.

    Clipping by the gradients' norm looks for them, too, and costs nothing more where there are
    none; so where an agent clips by itself, only the parameters' check counts.
    """
    kind, env, _ = AGENTS[name]
    checking: list[float] = []
    updates: list[float] = []

    class Timed(kind):  # type: ignore[misc, valid-type]
        def configure_gradient_clipping(self, *args: Any, **options: Any) -> None:
            begun = time.perf_counter()
            super().configure_gradient_clipping(*args, **options)
            updates.append(begun)
            checking.append(0.0 if self.max_grad_norm else time.perf_counter() - begun)

    begun = time.perf_counter()
    AgentTrainer(max_env_steps=steps, seed=0, quiet=True).fit(Timed(), env)
    seconds = (time.perf_counter() - begun) / len(updates)
    if len(updates) > 100:  # without what interrupts it now and then
        seconds = statistics.median(b - a for a, b in pairwise(updates))
    return statistics.median(checking) / seconds


def cost_of_checking(short: bool) -> Figure:
    """Compare the time of the checks with that of the training around them."""
    shares = {
        name: checking_share(name, 2_000 if short else steps)
        for name, (_, _, steps) in AGENTS.items()
    }
    words = ", ".join(f"{name} {share:.2%}" for name, share in shares.items())
    return Figure(
        f"looking for them takes {words} of a training's time", max(shares.values()) <= 0.01
    )


CHECKS: Checks = [(13, cost_of_checking)]
