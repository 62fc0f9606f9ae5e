"""What was saved, read back from a file: alike to the last type."""

from __future__ import annotations

import io
from collections import deque
from enum import Enum
from typing import Any

import numpy as np
import torch


def reloaded(state: Any) -> Any:
    """A state after a trip through a file, read as safely as checkpoints are."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assert_alike(first: Any, second: Any) -> None:
    """Same types, same values (NaN equals NaN), all the way down."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert_alike(list(first.items()), list(second.items()))
    elif isinstance(first, list | tuple | deque):
        assert len(first) == len(second)
        assert getattr(first, "maxlen", None) == getattr(second, "maxlen", None)
        for one, other in zip(first, second, strict=True):
            assert_alike(one, other)
    elif isinstance(first, np.ndarray | np.generic):
        assert (first.dtype, first.shape) == (second.dtype, second.shape)
        np.testing.assert_array_equal(first, second)
    elif isinstance(first, torch.Tensor):
        torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)
    else:
        assert first == second or (first != first and second != second)


class Phase(Enum):
    NIGHT = "night"
    DAY = "day"
