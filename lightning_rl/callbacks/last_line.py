"""What a notebook says of a training that has ended."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import Callback, Trainer

from lightning_rl.agent import LightningAgentModule
from lightning_rl.notebook.kernel import in_notebook
from lightning_rl.notebook.panel import cell_panel

LAST_EPISODES = 100  # of a mean return, as it is logged too


class LastLine(Callback):
    """Says in a notebook how many env steps a training made, in what time, and why it ended.

    `AgentTrainer` adds one by itself.
    """

    def __init__(self) -> None:
        self._start = time.perf_counter()

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Start the clock."""
        self._start = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Say what was done."""
        self._say(trainer, pl_module, None)

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Say how far it came."""
        self._say(trainer, pl_module, exception)

    def _say(self, trainer: Trainer, agent: Any, error: BaseException | None) -> None:
        if in_notebook() and trainer.is_global_zero and isinstance(agent, LightningAgentModule):
            cell_panel().end(ending(agent, time.perf_counter() - self._start, error))


def ending(agent: LightningAgentModule, seconds: float, error: BaseException | None = None) -> str:
    """Say in a line how a training has ended.

    Args:
        agent: that was trained.
        seconds: that it took.
        error: what ended it, if that was an error.
    """
    name, env_steps = type(agent).__name__, agent.env_steps - agent.env_steps_at_fit_start
    mean = f", {mean_return(agent)}" if len(agent.episodes) else ""
    if error is not None:
        return f"{name}: ended by {type(error).__name__} at {agent.env_steps:,} env steps{mean}."
    is_whole = agent.progress >= 1.0 if agent.max_env_steps is not None else not agent.stop_asked
    if is_whole:
        before = agent.env_steps_at_fit_start
        further = f" after the first {before:,}" if before else ""
        return f"{name}: {env_steps:,} env steps{further} in {seconds:.1f} s{mean}."
    return f"{name}: stopped at {agent.env_steps:,} env steps{mean}; fit again goes on from there."


def mean_return(agent: LightningAgentModule) -> str:
    """Say what an agent's mean return is, and of how many episodes."""
    count = min(LAST_EPISODES, len(agent.episodes))
    if not count:
        return "no episode has ended yet"
    episodes = "1 episode" if count == 1 else f"{count} episodes"
    return f"mean return {agent.episodes.mean_return(LAST_EPISODES):.1f} of {episodes}"
