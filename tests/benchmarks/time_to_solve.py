"""Training time until the mean of 100 greedy episodes of CartPole-v1 reaches 475.

Both sides are evaluated every 2,048 steps, by the same function; evaluations are not timed.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from same_work import greedy_returns, stable_baselines3

TARGET = 475.0
EVALUATE_EVERY = 2048


class Clock:
    """Seconds of training, without the evaluations, until the target was reached."""

    def __init__(self) -> None:
        self.start = time.perf_counter()
        self.paused = 0.0
        self.next_evaluation = EVALUATE_EVERY
        self.seconds: float | None = None
        self.steps: int | None = None

    def look(self, steps: int, act: Any) -> bool:
        """Evaluate if it is time to; tell whether the target is reached."""
        if steps < self.next_evaluation or self.seconds is not None:
            return self.seconds is not None
        begin = time.perf_counter()
        self.next_evaluation = steps + EVALUATE_EVERY
        with torch.no_grad():
            mean = greedy_returns(act).mean()
        self.paused += time.perf_counter() - begin
        if mean >= TARGET:
            self.seconds = begin - self.start - self.paused + (time.perf_counter() - begin)
            self.steps = steps
        return self.seconds is not None


class StopWhenSolved(Callback):
    """Stop an AgentTrainer at the target."""

    def __init__(self) -> None:
        self.clock = Clock()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        def act(observations: Any) -> Any:
            return pl_module(torch.from_numpy(observations)).numpy()

        if self.clock.look(pl_module.env_steps, act):
            trainer.should_stop = True


def ours(seed: int, agent: Any = None, max_env_steps: int = 65_536, **options: Any) -> Clock:
    """Train `PPOAgent()` with a default AgentTrainer."""
    from lightning_rl import AgentTrainer, PPOAgent

    callback = StopWhenSolved()
    with tempfile.TemporaryDirectory() as folder:
        trainer = AgentTrainer(
            max_env_steps=max_env_steps,
            seed=seed,
            accelerator="cpu",
            default_root_dir=folder,
            callbacks=[callback],
            **options,
        )
        trainer.fit(agent or PPOAgent(), "CartPole-v1")
    return callback.clock


def peer(seed: int, max_steps: int = 300_000) -> Clock:
    """Train Stable-Baselines3's PPO at rl-zoo's tuned setting."""
    from stable_baselines3.common.callbacks import BaseCallback

    class StopSB3WhenSolved(BaseCallback):
        def __init__(self) -> None:
            super().__init__()
            self.clock = Clock()

        def _on_rollout_start(self) -> None:  # after the last rollout's updates
            act = self.model.predict
            self.clock.look(self.num_timesteps, lambda o: act(o, deterministic=True)[0])

        def _on_step(self) -> bool:
            return self.clock.seconds is None

    callback = StopSB3WhenSolved()
    stable_baselines3(max_steps, seed, callback)
    return callback.clock
