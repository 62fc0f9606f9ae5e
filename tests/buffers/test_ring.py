"""The arrays of a ring: what memory can't hold is refused before it is allocated."""

from __future__ import annotations

import re
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


def test_what_just_fits_into_the_memory_is_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = ring.ring_layout(FRAMES, TWO, 9, 2)
    monkeypatch.setattr(ring, "memory_bytes", lambda: ring.ring_bytes(layout))
    assert sum(array.nbytes for array in ring.allocate_ring(layout).values()) == 497772
    monkeypatch.setattr(ring, "memory_bytes", lambda: ring.ring_bytes(layout) - 1)
    with pytest.raises(ConfigError, match="a replay buffer of 18 transitions"):
        ring.allocate_ring(layout)


def test_the_refusal_says_how_large_it_is_and_all_that_can_be_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ring, "memory_bytes", lambda: 2**30)
    layout = ring.ring_layout(FRAMES, TWO, 100_000, 2)
    message = (
        "a replay buffer of 200000 transitions takes 5.2 GiB; the memory of 1.0 GiB can't hold it. "
        "Set buffer_capacity=19413 or less, buffer_directory to a folder that holds the "
        "transitions, or make the observations smaller (gymnasium.wrappers.ResizeObservation, "
        "GrayscaleObservation)."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        ring.allocate_ring(layout)


@pytest.mark.parametrize(
    ("space", "dtype", "shape"),
    [
        (spaces.Discrete(256), "uint8", ()),
        (spaces.Discrete(257), "uint16", ()),
        (spaces.MultiDiscrete([2, 300]), "uint16", (2,)),
        (spaces.MultiBinary(4), "int8", (4,)),
        (spaces.Box(-1, 1, (3,)), "float32", (3,)),
    ],
)
def test_actions_take_the_least_memory_that_holds_them(space: Any, dtype: str, shape: Any) -> None:
    layout = ring.ring_layout(spaces.Box(-1, 1, (5,)), space, 7, 2)
    assert layout["actions"] == (dtype, (7, 2, *shape))
    assert layout["observations"] == ("float32", (7, 2, 5))


def test_a_system_that_does_not_tell_its_memory_is_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr(ring.os, "sysconf", unknown)
    assert ring.memory_bytes() is None
    assert len(ring.allocate_ring(ring.ring_layout(FRAMES, TWO, 3, 1))) == 4
