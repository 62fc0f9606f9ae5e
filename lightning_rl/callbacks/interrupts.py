"""What an interrupt does: a training ends at its next iteration boundary, saved."""

from __future__ import annotations

import math
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import Callback, Trainer

from lightning_rl.agent import LightningAgentModule
from lightning_rl.notebook.kernel import in_notebook, leaving

LEAVE_SECONDS = 2.0  # a second interrupt within them leaves a loop over several trainings
INTERRUPTED = "interrupted.ckpt"
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}  # 128 + the signal's number, as in shells
MESSAGE = (
    "Interrupted: the training ended after its iteration. Another interrupt within "
    f"{LEAVE_SECONDS:.0f} seconds leaves a loop of trainings."
)


class Interrupts(Callback):
    """Ends a training at the next iteration boundary when it is asked to, and saves it there.

    The checkpoint is the one that a checkpoint callback writes there by itself, or else
    `interrupted.ckpt` in the folder of the first; without one nothing is saved.

    Args:
        trainer: whose training it is.
        module: what is trained.
    """

    last: ClassVar[float] = -math.inf  # when this process was last interrupted, by monotonic time

    def __init__(self, trainer: Trainer, module: Any) -> None:
        self.trainer, self.module = trainer, module
        self.signals: list[int] = []
        self._hears_sigterm = False
        self._ends = False  # all processes know
        self._saved_at = -1  # `global_step` of the last full checkpoint

    # ---- signals -----------------------------------------------------------------------------

    def note(self, signum: int, frame: Any) -> None:
        """Note a signal; the second one, and the first of what is no training, end at once."""
        now = time.monotonic()
        again = bool(self.signals) or now - Interrupts.last < LEAVE_SECONDS
        self.signals.append(signum)
        if signum == signal.SIGINT:
            Interrupts.last = now
        if again or self.trainer.state.fn != "fit":
            if signum == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(EXIT_CODES[signal.Signals(signum)])
        if self.trainer.world_size == 1:  # else the processes have to agree first
            self.trainer.should_stop = True
            if isinstance(self.module, LightningAgentModule):
                self.module.stop_asked = True

    def listen(self) -> None:
        """Hear the signals that would end the process: not those ignored or handled by the user."""
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, self.note)
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._hears_sigterm = True
            signal.signal(signal.SIGTERM, self.note)

    def end(self) -> None:
        """End as asked, now that all is saved and put back: a script exits, a notebook goes on.

        Raises:
            SystemExit: with 130 in a script, and with 143 after SIGTERM.
        """
        if not self.signals:
            return
        by = signal.Signals(self.signals[0])
        # A notebook shows stderr in red, as if something had gone wrong.
        out = sys.stdout if in_notebook() else sys.stderr
        print(MESSAGE if by == signal.SIGINT else "Terminated.", file=out)
        if not in_notebook():
            raise SystemExit(EXIT_CODES[by])
        if by == signal.SIGTERM:
            signal.raise_signal(by)

    # ---- Lightning's hooks -------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Take SIGTERM back from Lightning, which would end within an epoch, without saving."""
        if self._hears_sigterm:
            signal.signal(signal.SIGTERM, self.note)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """End here if a process was asked to."""
        ends = bool(self.signals)
        if trainer.world_size > 1:
            ends = trainer.strategy.reduce_boolean_decision(ends, all=False)
        if ends:
            self._ends = trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """End here if asked to during an evaluation."""
        self.on_train_batch_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: Any) -> None:
        """Note that there is a checkpoint of this state."""
        self._saved_at = trainer.global_step

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Save what no checkpoint callback has saved at this boundary."""
        named = [getattr(callback, "dirpath", None) for callback in trainer.checkpoint_callbacks]
        folders = [folder for folder in named if folder is not None]
        # A signal between two iterations ends the training without another look at it.
        ends = self._ends or (bool(self.signals) and trainer.world_size == 1)
        if ends and folders and self._saved_at != trainer.global_step:
            trainer.save_checkpoint(Path(folders[0]) / INTERRUPTED, weights_only=False)


@contextmanager
def graceful_interrupt(trainer: Trainer, module: Any = None) -> Iterator[None]:
    """Let an interrupt end the training after this iteration, and SIGTERM likewise.

    In a notebook `fit` returns then, so that "Run All" goes on; a script exits with 130, after
    SIGTERM with 143. A second one ends at once, wherever the training is, as does the first of
    what is no training, such as `trainer.test`: it has no result then. So does an interrupt less
    than two seconds after the one that ended an earlier training: it leaves a loop over several.
    Outside the main thread nothing is changed.

    Args:
        trainer: whose `fit` or `test` is called within.
        module: what is trained, or None if nothing is.

    Raises:
        KeyboardInterrupt: in a notebook, at the second interrupt, or the first outside of `fit`.
        SystemExit: in a script.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {by: signal.getsignal(by) for by in EXIT_CODES}
    callbacks: list[Any] = getattr(trainer, "callbacks")  # noqa: B009 (untyped in Lightning)
    interrupts = Interrupts(trainer, module)
    if module is not None:
        callbacks.append(interrupts)
    interrupts.listen()
    try:
        yield
    except SystemExit as exit_:  # what Lightning makes of a KeyboardInterrupt, and of SIGTERM
        if signal.SIGTERM in interrupts.signals:
            raise SystemExit(EXIT_CODES[signal.SIGTERM]) from exit_
        if not isinstance(exit_.__context__, KeyboardInterrupt):
            raise
        if in_notebook():
            raise leaving() from exit_
        raise SystemExit(EXIT_CODES[signal.SIGINT]) from exit_
    finally:
        for by, handler in before.items():
            signal.signal(by, handler)
        if module is not None:
            callbacks.remove(interrupts)
        if isinstance(module, LightningAgentModule):
            module.stop_asked = False
    interrupts.end()
