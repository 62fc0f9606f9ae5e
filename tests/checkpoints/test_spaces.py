"""Spaces: read back as they were written, or refused."""

from __future__ import annotations

import inspect
import json
from collections import OrderedDict

import numpy as np
import pytest
from comparing import reloaded
from gymnasium import Space, spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rl.checkpoints.spaces import space_from_state, space_state
from lightning_rl.errors import SpaceError

SIDES = st.lists(st.integers(1, 4), min_size=1, max_size=2)

DTYPES = st.sampled_from([np.float32, np.float64, np.uint8, np.int64])

BOXES = st.builds(
    lambda shape, dtype: spaces.Box(0, 200, tuple(shape), dtype), SIDES, DTYPES
)  # fmt: skip

INTEGERS = st.sampled_from([np.int64, np.int32, np.int8])

LEAF_SPACES = st.one_of(
    BOXES,
    st.just(spaces.Box(-np.inf, np.inf, (2,))),
    st.builds(
        lambda n, start, dtype: spaces.Discrete(n, start=start, dtype=dtype),
        st.integers(1, 9), st.integers(-9, 9), INTEGERS,
    ),
    st.builds(
        lambda n, start, dtype: spaces.MultiDiscrete([n, 2], dtype=dtype, start=[start, 0]),
        st.integers(1, 9), st.integers(-9, 9), INTEGERS,
    ),
    st.builds(spaces.MultiBinary, st.one_of(st.integers(1, 5), SIDES)),
)  # fmt: skip

SPACES = st.one_of(
    LEAF_SPACES,
    st.dictionaries(st.text(max_size=3), LEAF_SPACES, min_size=1, max_size=3).map(spaces.Dict),
)


@settings(deadline=None, max_examples=100)
@given(SPACES)
def test_spaces_survive_a_file(space: Space) -> None:
    restored = space_from_state(reloaded(space_state(space)))
    assert restored == space
    assert restored.dtype == space.dtype


FLOATS = st.floats(width=32, allow_nan=False)

BOUNDS = st.lists(st.tuples(FLOATS, FLOATS), min_size=1, max_size=5)

ARRAY_SPACES = st.one_of(
    BOUNDS.map(lambda b: spaces.Box(np.float32(np.min(b, 1)), np.float32(np.max(b, 1)))),
    st.sampled_from([np.uint8, np.int64, np.float16, np.float64]).map(
        lambda dtype: spaces.Box(0, 100, (2, 3), dtype)
    ),
    st.builds(
        lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 99), st.integers(-9, 9)
    ),
    st.lists(st.integers(1, 9), min_size=1, max_size=4).map(
        lambda nvec: spaces.MultiDiscrete(nvec, start=list(range(len(nvec))))
    ),
    st.sampled_from([3, (2, 3), [4]]).map(spaces.MultiBinary),
)


@given(
    st.one_of(ARRAY_SPACES, st.dictionaries(st.text(), ARRAY_SPACES, min_size=1).map(spaces.Dict))
)
def test_spaces_survive_json(space: Space) -> None:
    text = json.dumps(space_state(space), allow_nan=False)
    read = space_from_state(json.loads(text))
    assert read == space
    assert read.dtype == space.dtype


@pytest.mark.skipif(
    "dtype" not in inspect.signature(spaces.Discrete).parameters, reason="Gymnasium is older"
)
def test_a_discrete_space_of_small_numbers_is_read_as_it_was_written() -> None:
    space = spaces.Discrete(3, start=-1, dtype=np.int8)
    read = space_from_state(json.loads(json.dumps(space_state(space))))
    assert (read, read.dtype) == (space, np.int8)


def test_a_space_with_bounds_of_its_own_class_is_read_as_a_box() -> None:
    class Pixels(spaces.Box):
        """A user's own class."""

    read = space_from_state(space_state(Pixels(0, 255, (84, 84), np.uint8)))
    assert read == spaces.Box(0, 255, (84, 84), np.uint8)
    assert len(json.dumps(space_state(read))) < 200


def test_entries_of_a_dict_space_keep_their_order() -> None:
    """A network joins the entries in this order; sorted ones would reach the wrong weights."""
    space = spaces.Dict(OrderedDict(z=spaces.Discrete(2), a=spaces.Discrete(3)))
    assert list(space_from_state(reloaded(space_state(space)))) == ["z", "a"]


@pytest.mark.parametrize("space", [spaces.Text(3), spaces.Tuple([spaces.Discrete(2)])], ids=str)
def test_space_no_agent_takes_is_refused(space: Space) -> None:
    with pytest.raises(SpaceError, match="can't be saved; expected Box"):
        space_state(space)


def test_space_of_unknown_kind_is_refused() -> None:
    with pytest.raises(SpaceError, match="unknown kind 'os'"):
        space_from_state({"type": "os"})


def test_a_space_larger_than_any_memory_is_refused_before_it_is_made() -> None:
    state = space_state(spaces.Box(-1, 1, (2, 2))) | {"shape": [2**20, 2**20]}
    with pytest.raises(SpaceError, match="expected at most 33554432"):
        space_from_state(state)


def test_a_large_space_that_can_be_saved_can_be_loaded() -> None:
    space = spaces.Box(0, 255, (4097, 4096), np.uint8)
    assert space_from_state(space_state(space)) == space
