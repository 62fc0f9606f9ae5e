"""Runs of a few iterations, for tests of what is done in their midst."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning.pytorch.callbacks import Callback

from lightning_rl import AgentTrainer, PPOConfig

SMALL = PPOConfig(rollout_steps=128, batch_size=128, update_epochs=1)

ITERATIONS = 8


class AtIteration(Callback):
    """Does something once, when an iteration begins, and counts the iterations."""

    def __init__(self, iteration: int = 1, do: Callable[[Any], None] = lambda agent: None) -> None:
        self.iteration, self.do, self.begun = iteration, do, 0

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.begun += 1
        if self.begun == self.iteration:
            self.do(pl_module)


def make_trainer(*callbacks: Callback, iterations: int = ITERATIONS, **options: Any) -> Any:
    return AgentTrainer(
        max_steps=iterations, num_envs=1, seed=0, callbacks=list(callbacks), quiet=True,
        **options,
    )  # fmt: skip


def fit(agent: Any, *callbacks: Callback) -> AgentTrainer:
    trainer: AgentTrainer = make_trainer(*callbacks)
    trainer.fit(agent, "CartPole-v1")
    return trainer
