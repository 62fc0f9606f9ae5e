"""The arrays of a replay buffer's ring: how they are laid out, whether memory can hold them."""

from __future__ import annotations

import math
import os

import numpy as np
from gymnasium import Space, spaces

from lightning_rl.buffers.arrays import (
    Arrays,
    Fields,
    allocate,
    allocate_actions,
    named_arrays,
)
from lightning_rl.errors import ConfigError


def ring_layout(
    observation_space: Space, action_space: Space, num_rows: int, num_envs: int
) -> Fields:
    """Lay out a ring's arrays: name -> (dtype, shape (R, N, ...)). Actions take least memory."""
    parts = named_arrays(allocate(observation_space, 0))
    parts["actions"] = allocate_actions(action_space, 0)
    if isinstance(action_space, spaces.Discrete | spaces.MultiDiscrete):
        largest = np.max(
            action_space.n if isinstance(action_space, spaces.Discrete) else action_space.nvec
        )
        parts["actions"] = parts["actions"].astype(np.min_scalar_type(int(largest) - 1))
    parts["rewards"] = np.zeros(0, dtype=np.float32)
    parts["flags"] = np.zeros(0, dtype=np.uint8)
    shape = (num_rows, num_envs)
    return {name: (str(part.dtype), (*shape, *part.shape[1:])) for name, part in parts.items()}


def allocate_ring(fields: Fields) -> Arrays:
    """Allocate the arrays of a `ring_layout`, in memory.

    Raises:
        ConfigError: if this machine has less memory, before anything is allocated.

    Example:
        >>> frames = spaces.Box(0, 255, (96, 96, 3), np.uint8)
        >>> layout = ring_layout(frames, spaces.Discrete(2), num_rows=9, num_envs=1)
        >>> sum(array.nbytes for array in allocate_ring(layout).values())
        248886
    """
    num_bytes, memory = ring_bytes(fields), memory_bytes()
    try:
        if memory is not None and num_bytes > memory:
            raise MemoryError
        return {name: np.zeros(shape, dtype) for name, (dtype, shape) in fields.items()}
    except MemoryError as error:
        num_rows, num_envs = fields["flags"][1]
        fits = "" if memory is None else f" of {memory / 2**30:.1f} GiB"
        at_most = (memory or num_bytes) // 2 * num_rows * num_envs // num_bytes
        raise ConfigError(
            f"a replay buffer of {num_rows * num_envs} transitions takes {num_bytes / 2**30:.1f} "
            f"GiB; the memory{fits} can't hold it. Set buffer_capacity={at_most} or less, "
            "buffer_directory to a folder that holds the transitions, or make the observations "
            "smaller (gymnasium.wrappers.ResizeObservation, GrayscaleObservation)."
        ) from error


def ring_bytes(fields: Fields) -> int:
    """Count the bytes of the arrays of a `ring_layout`."""
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in fields.values())


def memory_bytes() -> int | None:
    """Count the bytes of this machine's memory, where the system tells."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
