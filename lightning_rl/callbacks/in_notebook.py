"""The callbacks that a trainer is given in a notebook."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Trainer

from lightning_rl.callbacks.controls import Controls
from lightning_rl.callbacks.copies import copies_process, heard_from_copies
from lightning_rl.callbacks.last_line import LastLine
from lightning_rl.callbacks.live_returns import LiveReturns
from lightning_rl.notebook.kernel import in_notebook


@contextmanager
def live_in_notebook(trainer: Trainer, agent: Any, live: bool = True) -> Iterator[None]:
    """Give a trainer `LiveReturns` and `Controls` in a notebook, where it has none of its own.

    A last line takes the place of the buttons and the bar. Where copies of this process train,
    buttons and bars could not reach the notebook; the picture is drawn here.
    """
    if copies_process(trainer):
        with heard_from_copies(trainer, agent, live):
            yield
        return
    callbacks: list[Any] = getattr(trainer, "callbacks")  # noqa: B009 (untyped in Lightning)
    added: list[Any] = []
    if live and in_notebook():
        kinds: dict[Any, Any] = {LiveReturns: LiveReturns.of_cell, Controls: Controls.of_cell}
        missing = [kind for kind in kinds if not any(isinstance(c, kind) for c in callbacks)]
        added = [kinds[kind]() for kind in missing]
    own = [index for index, c in enumerate(callbacks) if isinstance(c, LiveReturns)]
    place = own[0] + 1 if own else 0  # the picture on top, then the buttons, then the progress bar
    callbacks[place:place] = added
    if in_notebook():
        added.append(LastLine())
        callbacks.insert(0, added[-1])  # before the buttons forget that one was clicked
    try:
        yield
    finally:
        for callback in added:
            callbacks.remove(callback)
