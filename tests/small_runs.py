"""Runs of a few iterations, for tests of what is done in their midst."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback

from lightning_rl import AgentTrainer, PPOAgent, PPOConfig

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


def fit_whole_and_resumed(make_env: Callable[[], Any], folder: Path) -> PPOAgent:
    """Train for two epochs, and for one and then, from its checkpoint, the other; compare."""
    config = PPOConfig(
        rollout_steps=5000, batch_size=2500, update_epochs=1, anneal_learning_rate=False,
        anneal_clip_range=False,
    )  # fmt: skip

    def fit_epochs(epochs: int, ckpt_path: Path | None = None) -> PPOAgent:
        agent = PPOAgent(config=config)
        trainer = AgentTrainer(max_epochs=epochs, seed=0, quiet=True, default_root_dir=folder)
        trainer.fit(agent, make_env(), ckpt_path=ckpt_path)
        trainer.save_checkpoint(folder / f"{epochs}.ckpt")
        return agent

    whole = fit_epochs(2)
    fit_epochs(1)
    resumed = fit_epochs(2, folder / "1.ckpt")
    assert resumed.env_steps == whole.env_steps
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name
    return resumed
