"""The arrays of a ring: what memory can't hold is refused before it is allocated."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from lightning_rl.buffers import ring
from lightning_rl.buffers.replay import ReplayBuffer
from lightning_rl.errors import ConfigError

FRAMES = spaces.Box(0, 255, (96, 96, 3), np.uint8)
TWO = spaces.Discrete(2)


def test_a_buffer_larger_than_the_memory_is_refused_with_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ring, "memory_bytes", lambda: 8 * 2**30)
    tracemalloc.start()
    with pytest.raises(ConfigError, match=r"25\.8 GiB; .*8\.0 GiB.*buffer_directory") as caught:
        ReplayBuffer(1_000_000, 8, FRAMES, TWO)
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()
    fits = int(str(caught.value).partition("buffer_capacity=")[2].partition(" ")[0])
    assert 0.4 < fits * FRAMES.shape[0] ** 2 * 3 / (8 * 2**30) < 0.51


def test_what_numpy_can_not_allocate_is_refused_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    def zeros(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(ring, "memory_bytes", lambda: None)
    layout = ring.ring_layout(FRAMES, TWO, 1001, 1)
    monkeypatch.setattr(np, "zeros", zeros)
    with pytest.raises(ConfigError, match="the memory can't hold it"):
        ring.allocate_ring(layout)


def test_this_machines_memory_is_known() -> None:
    assert (ring.memory_bytes() or 0) > 2**28
