"""Arrays of observations: one array or a dict of them are handled alike."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from lightning_rl.buffers.arrays import (
    allocate,
    allocate_actions,
    flatten_time,
    select,
    split,
    to_array,
    to_device,
    to_tensor,
    write,
)
from lightning_rl.errors import SpaceError

BOX = spaces.Box(-1, 1, (3,))


def test_helpers_work_on_arrays_and_on_dicts_of_them() -> None:
    for space in (BOX, spaces.Dict({"a": BOX})):
        target = allocate(space, 2, 3)
        write(target, 1, select(allocate(space, 1, 3), 0))
        flat = flatten_time(to_tensor(target))
        assert select(flat["a"] if isinstance(flat, dict) else flat, slice(2)).shape == (2, 3)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.float32, "float32"), (torch.int64, "int64"), (torch.bool, "bool"),
     (torch.bfloat16, "float32")],
)  # fmt: skip
def test_tensors_become_arrays_of_a_dtype_numpy_has(dtype: torch.dtype, expected: str) -> None:
    tensor = torch.ones(2, dtype=dtype)
    array = to_array(tensor.requires_grad_() if dtype.is_floating_point else tensor)
    assert (array.dtype, array.tolist()) == (expected, [1, 1])


def test_what_starts_at_another_number_is_allocated_as_that_number() -> None:
    assert allocate(spaces.Discrete(3, start=2), 2).tolist() == [2, 2]
    assert allocate(spaces.MultiDiscrete([3, 4], start=[5, -1]), 1).tolist() == [[5, -1]]


def test_a_space_without_arrays_is_refused_with_what_can_be_done() -> None:
    message = (
        "no buffer can hold Text(1, 9, charset=0); expected Box, Discrete, MultiDiscrete, "
        "MultiBinary or a Dict of them. A wrapper such as gymnasium.wrappers.FlattenObservation "
        "can turn it into one."
    )
    with pytest.raises(SpaceError, match=f"^{re.escape(message)}$"):
        allocate(spaces.Text(9, charset="0"))


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Box(0, 255, (2,), np.uint8), np.float32),  # a policy draws real numbers
        (spaces.Box(-1, 1, (2,), np.float64), np.float32),
        (spaces.Discrete(3, dtype=np.uint8), np.int64),
        (spaces.MultiDiscrete([3, 2], dtype=np.int32), np.int64),
        (spaces.MultiBinary(3), np.int8),
    ],
)
def test_actions_are_allocated_as_a_policy_draws_them(space: Any, expected: Any) -> None:
    assert allocate_actions(space, 2).dtype == expected


def test_floats_get_the_dtype_asked_for_and_all_else_keeps_its_own() -> None:
    values = {"speed": np.ones(2), "room": np.ones(2, np.int64), "seen": np.ones(2, bool)}
    tensors = to_tensor(values, float_dtype=torch.float32)
    assert [part.dtype for part in tensors.values()] == [torch.float32, torch.int64, torch.bool]
    assert to_tensor(values)["speed"].dtype == torch.float64


@pytest.mark.parametrize("float_dtype", [None, torch.float16])
def test_arrays_go_to_the_device_asked_for_also_within_dicts(float_dtype: Any) -> None:
    for dtype in (np.float32, np.int64):
        values = {"a": np.ones(2, dtype)}
        assert to_tensor(values, "meta", float_dtype)["a"].device.type == "meta"
        assert to_tensor(values["a"], torch.device("meta"), float_dtype).device.type == "meta"


def test_what_a_network_sees_of_a_batch_gets_its_dtype_and_what_it_learns_from_does_not() -> None:
    names = ("observations", "next_observations", "actions", "rewards", "discounts")
    batch = {name: torch.ones(2) for name in names} | {"indices": torch.ones(2, dtype=torch.int64)}
    dtypes = {name: part.dtype for name, part in to_device(batch, "cpu", torch.float16).items()}
    assert dtypes == dict.fromkeys(names[:3], torch.float16) | {
        "rewards": torch.float32, "discounts": torch.float32, "indices": torch.int64
    }  # fmt: skip


def test_a_batch_is_cut_into_minibatches_and_no_row_of_it_is_dropped() -> None:
    parts = split({"a": torch.arange(6), "b": {"c": torch.arange(6) * 2}}, 2)
    assert [part["b"]["c"].tolist() for part in parts] == [[0, 2], [4, 6], [8, 10]]
    with pytest.raises(ValueError, match="shorter"):
        list(split({"a": torch.arange(6), "b": torch.arange(4)}, 2))
