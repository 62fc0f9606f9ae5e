"""The notebook's kernel: is there one, what does an interrupt do?"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Trainer


def kernel_shell() -> Any:
    """Give IPython's shell if this code runs in a Jupyter kernel, else None."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it; a script need not
    shell = None if ipython is None else ipython.get_ipython()
    return None if getattr(shell, "kernel", None) is None else shell


def in_notebook() -> bool:
    """Tell whether this code runs in a notebook: a terminal's IPython shows no pictures.

    Example:
        >>> in_notebook()
        False
    """
    return kernel_shell() is not None


@contextmanager
def graceful_interrupt(trainer: Trainer) -> Iterator[None]:
    """Let a notebook's interrupt end the training after this iteration, so that the cell ends well.

    Lightning by itself ends with `SystemExit` then, and "Run All" would stop there. A second
    interrupt raises KeyboardInterrupt at once, as does the first of what is no training, such as
    `trainer.test`: it has no result then. Outside a notebook's main thread nothing is changed.

    Raises:
        KeyboardInterrupt: at the second interrupt, or the first outside of `fit`.
    """
    if not in_notebook() or threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupts: list[int] = []

    def raises() -> bool:
        return len(interrupts) > 1 or trainer.state.fn != "fit"

    def interrupt(signum: int, frame: Any) -> None:
        interrupts.append(signum)
        if raises():
            raise KeyboardInterrupt
        trainer.should_stop = True

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    except SystemExit as exit_:  # what Lightning makes of a KeyboardInterrupt
        if interrupts and raises():
            raise KeyboardInterrupt from exit_
        raise
    finally:
        signal.signal(signal.SIGINT, before)
