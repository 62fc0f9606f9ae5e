"""The random numbers of the whole process: torch's, numpy's old ones, Python's.

An environment that draws from them goes on exactly, as does a network with dropout.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

from lightning_rl.checkpoints.plain_values import from_plain, to_plain
from lightning_rl.errors import StateError


def process_random_state() -> dict[str, Any]:
    """Give the states of torch's, numpy's and Python's own generators, as plain values.

    Example:
        >>> state = process_random_state()
        >>> first = (torch.rand(()).item(), random.random())
        >>> load_process_random_state(state)
        >>> first == (torch.rand(()).item(), random.random())
        True
    """
    return {
        "torch": torch.get_rng_state(),
        "numpy": to_plain(np.random.get_state(legacy=False)),  # noqa: NPY002 (of older code)
        "python": to_plain(random.getstate()),
    }


def load_process_random_state(state: dict[str, Any]) -> None:
    """Put the generators into saved states.

    Raises:
        StateError: if they are no states of theirs.
    """
    try:
        torch.set_rng_state(state["torch"])
        np.random.set_state(from_plain(state["numpy"]))  # noqa: NPY002
        random.setstate(from_plain(state["python"]))
    except (LookupError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise StateError(
            f"the checkpoint's random numbers can't be restored ({error}); expected the states of "
            "torch's, numpy's and Python's generators. Take an earlier checkpoint."
        ) from error
