"""The threads of an agent: the one that trains it, those that torch computes with."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch

from lightning_rl.errors import StateError

_TRAINING: WeakKeyDictionary[Any, threading.Thread] = WeakKeyDictionary()  # agents and trainers
_ASKING = threading.Lock()


def claim(thread: threading.Thread, *objects: Any) -> None:
    """Note that a thread trains these objects (an agent, a trainer) from now on, until `release`.

    Raises:
        StateError: if another thread trains one of them.
    """
    with _ASKING:
        for one in objects:
            check_idle(one, thread)
        _TRAINING.update(dict.fromkeys(objects, thread))


def release(*objects: Any) -> None:
    """Let others train and evaluate these objects."""
    with _ASKING:
        for one in objects:
            _TRAINING.pop(one, None)


def check_idle(one: Any, thread: threading.Thread | None = None) -> None:
    """Check that an agent or a trainer is not trained by another thread than this one.

    Raises:
        StateError: if it is: both would draw from the same random numbers and change its weights.

    Example:
        >>> from lightning_rl import PPOAgent
        >>> check_idle(PPOAgent())  # nobody trains it
    """
    trained_by = _TRAINING.get(one)
    if trained_by not in (None, thread or threading.current_thread()):
        raise StateError(
            f"this {type(one).__name__} is in a training that runs in the background; expected one "
            "that does not. Call handle.wait(), or handle.stop() and handle.wait(), or load the "
            "agent's last checkpoint into one of its own."
        )


@contextmanager
def trained_here(*objects: Any) -> Iterator[None]:
    """Claim an agent and a trainer for this thread, unless it has them already.

    Raises:
        StateError: if another thread trains one of them.
    """
    here = threading.current_thread()
    new = [one for one in objects if _TRAINING.get(one) is not here]
    claim(here, *new)
    try:
        yield
    finally:
        release(*new)


@contextmanager
def torch_threads(count: int | None) -> Iterator[None]:
    """Let torch use so many CPU threads, and as many as before afterwards; None: as many as is.

    Example:
        >>> with torch_threads(1):
        ...     torch.get_num_threads()
        1
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
