"""Plain values: what is saved loads safely, with its types, or is refused when it is saved."""

from __future__ import annotations

import threading
import tracemalloc
from collections import deque, namedtuple
from enum import Enum, IntEnum
from typing import Any

import numpy as np
import pytest
import torch
from comparing import Phase, assert_alike, reloaded
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes

from lightning_rl.checkpoints.plain_values import from_plain, to_plain
from lightning_rl.errors import StateError

# ---- to_plain, from_plain ------------------------------------------------------------------------

NUMERIC = scalar_dtypes().filter(
    lambda dtype: dtype.kind in "biuf" and dtype.itemsize <= 8 and dtype.isnative
)

ARRAYS = NUMERIC.flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_side=3)))

KEYS = st.one_of(st.text(max_size=3), st.integers(), st.tuples(st.integers(), st.booleans()))

LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), ARRAYS,
    ARRAYS.map(lambda array: array.ravel()[0]), ARRAYS.map(lambda array: torch.tensor([1.5])),
)  # fmt: skip

VALUES = st.recursive(
    LEAVES,
    lambda part: st.one_of(
        st.lists(part, max_size=3),
        st.lists(part, max_size=3).map(tuple),
        st.lists(part, max_size=3).map(lambda parts: deque(parts, maxlen=5)),
        st.dictionaries(KEYS, part, max_size=3),
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=150)
@given(VALUES)
def test_plain_values_survive_a_file_with_their_types(value: Any) -> None:
    assert_alike(from_plain(reloaded(to_plain(value))), value)


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_numpy_generators_go_on_where_they_were(kind: str) -> None:
    saved, live = (np.random.Generator(getattr(np.random, kind)(seed)) for seed in (1, 2))
    saved.random(7)
    restored = from_plain(reloaded(to_plain(saved)), live)
    assert restored is live  # others may hold it too
    assert np.array_equal(live.random(5), saved.random(5))


def test_torch_generator_goes_on_where_it_was() -> None:
    saved, live = torch.Generator().manual_seed(1), torch.Generator()
    torch.rand(7, generator=saved)
    from_plain(reloaded(to_plain(saved)), live)
    assert torch.equal(torch.rand(5, generator=live), torch.rand(5, generator=saved))


class Level(IntEnum):
    LOW = 0
    HIGH = 1


@pytest.mark.parametrize("member", [Phase.DAY, Level.HIGH])
def test_enum_member_is_looked_up_in_the_live_ones_class(member: Enum) -> None:
    other = next(iter(type(member)))
    assert from_plain(reloaded(to_plain(member)), other) is member


Point = namedtuple("Point", "x y")

UNSAVEABLE: dict[str, Any] = {
    "object": object(),
    "lock": threading.Lock(),
    "set": {1},
    "bytes": b"a",
    "namedtuple": Point(1, 2),
    "text_array": np.array(["a"]),
    "object_array": np.array([None]),
    "complex": 1j,
    "long_double": np.longdouble(1),
    "foreign_byte_order": np.arange(3).astype(">i4"),
    "numpy_text": np.str_("a"),
    "within": [1, {"a": (object(),)}],
    "generator_within": [np.random.default_rng()],
    "enum_within": {"phase": Phase.DAY},
}


@pytest.mark.parametrize("value", UNSAVEABLE.values(), ids=UNSAVEABLE.keys())
def test_what_would_not_load_again_is_refused_when_saved(value: Any) -> None:
    with pytest.raises(StateError, match=r"got a \w+; expected plain values"):
        to_plain(value)


GENERATOR = to_plain(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("plain", "current"),
    [
        (("os.system", "true"), None),
        (("module", "os"), None),
        (GENERATOR, 3),
        (GENERATOR, np.random.Generator(np.random.MT19937())),
        (("torch_generator", torch.zeros(1)), None),
        (("enum", "DAY"), None),
        (("enum", "__class__"), Phase.DAY),
    ],
)
def test_unknown_kind_or_missing_counterpart_is_refused(plain: Any, current: Any) -> None:
    with pytest.raises(StateError, match="can't restore"):
        from_plain(plain, current)


def test_saved_arrays_do_not_change_with_the_live_ones() -> None:
    array, tensor = np.zeros(2), torch.zeros(2)
    plain = to_plain([array, tensor])
    array += 1
    tensor += 1
    restored = from_plain(plain)
    assert not restored[0].any()
    assert not restored[1].any()


def test_what_is_written_at_once_is_not_copied() -> None:
    """A replay buffer of any size: neither when it is saved, nor when it is read back."""
    state = {"rows": [np.zeros(10**7), np.ones((2, 3), order="F")], "weights": torch.zeros(10**6)}
    tracemalloc.start()
    plain = to_plain(state, copy=False)
    restored = from_plain(plain, copy=False)
    assert tracemalloc.get_traced_memory()[1] < 10**5
    tracemalloc.stop()
    assert_alike(restored, state)
    state["rows"][0][5] = state["weights"][5] = 7
    assert restored["rows"][0][5] == restored["weights"][5] == 7
    before = to_plain(state)
    state["rows"][0][5] = 8
    assert from_plain(before)["rows"][0][5] == 7


def test_a_part_of_a_large_tensor_is_written_alone() -> None:
    """Torch would write all of the memory that a view is of."""
    kind, payload = to_plain(torch.zeros(10**6)[:3], copy=False)
    assert (kind, payload.untyped_storage().nbytes()) == ("tensor", 12)
