"""What the copies of a notebook's process (`ddp_notebook`) tell it while they train."""

from __future__ import annotations

import contextvars
import json
import multiprocessing
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import ProgressBar

from lightning_rl.agent import LightningAgentModule
from lightning_rl.callbacks.live_returns import LiveReturns
from lightning_rl.notebook.kernel import in_notebook


def copies_process(trainer: Trainer) -> bool:
    """Tell whether a trainer will train in copies of this process, which reach no notebook."""
    launcher = trainer.strategy.launcher
    return getattr(launcher, "is_interactive_compatible", False) and trainer.world_size > 1


class Told(Callback):
    """Tells, in the copy that is rank 0, what there is to be drawn and counted.

    Args:
        pipe: to the process that was copied.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._original, self._num_told = pipe, os.getpid(), 0

    def _tell(self, agent: Any, **more: Any) -> None:
        rows = agent.episodes.rows(self._num_told)
        self._num_told += len(rows)
        content = {"env_steps": agent.env_steps, "rows": rows.tolist(), **more}
        self._pipe.send_bytes(json.dumps(content).encode())

    def _speaks(self, trainer: Trainer) -> bool:
        return os.getpid() != self._original and trainer.is_global_zero

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Say that training begins; the episodes so far are known."""
        if self._speaks(trainer):
            self._num_told = len(pl_module.episodes)
            self._tell(pl_module)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Tell the episodes that have ended."""
        if self._speaks(trainer):
            self._tell(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Tell the evaluation."""
        value = trainer.callback_metrics.get("val_episode_return")
        if self._speaks(trainer) and value is not None:
            self._tell(pl_module, evaluation=float(value))


class Listener:
    """Takes over, in a thread of the process that was copied, what is told.

    Args:
        trainer: which waits in the main thread.
        agent: takes over env steps and episodes; the weights are brought by Lightning.
        live: draws them, if it is not None.
    """

    def __init__(self, trainer: Trainer, agent: LightningAgentModule, live: Any) -> None:
        self._trainer, self._agent, self._live = trainer, agent, live
        self._hears, tells = multiprocessing.Pipe(duplex=False)
        self.told = Told(tells)
        self._tells = tells
        self._has_begun = False
        run = contextvars.copy_context().run  # so that it shows in this cell
        self._thread = threading.Thread(target=run, args=(self._listen,), daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while content := self._hears.recv_bytes():
            self._take(json.loads(content))
        if self._live is not None and self._has_begun:
            self._live.on_train_end(self._trainer, self._agent)

    def _take(self, content: dict[str, Any]) -> None:
        self._agent.env_steps = content["env_steps"]
        self._agent.episodes.add_rows(np.array(content["rows"]))
        if self._live is None:
            return
        if not self._has_begun:
            self._has_begun = True
            self._live.on_train_start(self._trainer, self._agent)
        if "evaluation" in content:
            self._live.note_evaluation(self._agent.env_steps, content["evaluation"])
        self._live.on_train_batch_end(self._trainer, self._agent)

    def close(self) -> None:
        """Take over what was told last, and end."""
        self._tells.send_bytes(b"")
        self._thread.join()
        self._hears.close()
        self._tells.close()


@contextmanager
def heard_from_copies(trainer: Trainer, agent: LightningAgentModule, live: bool) -> Iterator[None]:
    """Let this process draw and count what its copies do; in them nothing is shown.

    After `fit` the agent has its weights, env steps and episodes. A replay buffer, the optimizer
    and the environments end with the copies: to go on exactly, keep checkpoints.
    """
    callbacks: list[Any] = getattr(trainer, "callbacks")  # noqa: B009 (untyped in Lightning)
    drawing = next((c for c in callbacks if isinstance(c, LiveReturns)), None)
    if drawing is None and live and in_notebook():
        drawing = LiveReturns.of_cell()
    listener = Listener(trainer, agent, drawing)
    callbacks.append(listener.told)
    try:
        with no_bars_in_copies(trainer):
            yield
    finally:
        callbacks.remove(listener.told)
        listener.close()


@contextmanager
def no_bars_in_copies(trainer: Trainer) -> Iterator[None]:
    """Take progress bars, which could not reach the notebook, away from the copies of its process.

    Example:
        >>> with no_bars_in_copies(Trainer(logger=False)):  # which makes no copies
        ...     pass
    """
    callbacks: list[Any] = getattr(trainer, "callbacks")  # noqa: B009 (untyped in Lightning)
    before = list(callbacks)
    if in_notebook() and copies_process(trainer):
        callbacks[:] = [c for c in callbacks if not isinstance(c, ProgressBar)]
    bars = [c for c in before if c not in callbacks]
    try:
        yield
    finally:
        callbacks.extend(bars)
        callbacks.sort(key=lambda c: before.index(c) if c in before else len(before))


def without_table(trainer: Trainer, args: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Give the options of `test` with which a copy prints no table: the result is returned."""
    silent = in_notebook() and copies_process(trainer) and not args
    return {"verbose": False} | options if silent else options
