"""Training in a thread of its own, beside the cells."""

from __future__ import annotations

import atexit
import contextvars
import threading
from typing import Any

from lightning.pytorch import Callback, Trainer

from lightning_rl.agent import LightningAgentModule
from lightning_rl.threads import claim, release

LAST_SECONDS = 60.0  # that a program which ends waits for the iteration


class BackgroundFit(Callback):
    """A training that runs in a thread of its own; `fit_in_background` starts it."""

    def __init__(self, trainer: Trainer, *fit_arguments: Any, **fit_options: Any) -> None:
        self._trainer = trainer
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._arguments, self._options = fit_arguments, fit_options
        # What is displayed shall appear below the cell that started it.
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._fit,), daemon=True)
        modules = [*fit_arguments, fit_options.get("model")]
        self._agent = next((a for a in modules if isinstance(a, LightningAgentModule)), None)
        self._claimed = [one for one in (trainer, self._agent) if one is not None]
        claim(self._thread, *self._claimed)
        atexit.register(self._end)
        self._thread.start()

    def __repr__(self) -> str:
        """Say whether it runs."""
        return f"<BackgroundFit: {'running' if self.running else 'ended'}>"

    @property
    def running(self) -> bool:
        """Whether the training goes on."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Ask the training to end after this iteration, or evaluation's env step; then `wait`."""
        self._stop.set()
        self._trainer.should_stop = True
        if self._agent is not None and self.running:
            self._agent.stop_asked = True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, at most `timeout` seconds; tell whether it has come.

        Raises:
            BaseException: what the training raised.
        """
        self._thread.join(timeout)
        if self._error is not None:
            raise self._error
        return not self.running

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Stop if `stop` was called before `fit` had begun."""
        if self._stop.is_set():
            trainer.should_stop = True

    def _fit(self) -> None:
        callbacks: list[Any] = getattr(self._trainer, "callbacks")  # noqa: B009 (untyped)
        callbacks.insert(0, self)
        try:
            self._trainer.fit(*self._arguments, **self._options)
        except BaseException as error:  # `wait` raises it in the caller's thread
            self._error = error
            print(f"The training in the background ended with {type(error).__name__}: {error}")
        finally:
            callbacks.remove(self)
            if self._agent is not None:
                self._agent.stop_asked = False
            release(*self._claimed)
            atexit.unregister(self._end)

    def _end(self) -> None:
        """End with the program: a thread that is cut off in mid-computation would abort it."""
        self.stop()
        self._thread.join(LAST_SECONDS)


def fit_in_background(trainer: Trainer, *fit_arguments: Any, **fit_options: Any) -> BackgroundFit:
    """Start `trainer.fit(...)` in a thread, so that the next cell can be run meanwhile.

    A blocking `trainer.fit` is the better default: with "Run All" the next cells would start
    before anything is learned, and they would take turns with the training. Until the training has
    ended, its agent can't be evaluated, recorded or trained by another cell, and a program that
    ends stops it after the iteration.

    Args:
        trainer: of Lightning.
        *fit_arguments: what `trainer.fit` takes, such as an agent and an environment.
        **fit_options: as well.

    Returns:
        A handle with `running`, `stop()` and `wait()`, which raises what the training raised.

    Raises:
        StateError: if the agent or the trainer is in such a training already.

    Example:
        >>> from lightning_rl import AgentTrainer, PPOAgent
        >>> trainer = AgentTrainer(max_env_steps=100, logger=False, enable_progress_bar=False)
        >>> handle = fit_in_background(trainer, PPOAgent(), "CartPole-v1")  # doctest: +SKIP
        >>> handle.wait()  # doctest: +SKIP
        True
    """
    return BackgroundFit(trainer, *fit_arguments, **fit_options)
