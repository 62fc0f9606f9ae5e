"""Arrays of observations: one array or a dict of them are handled alike."""

from __future__ import annotations

import pytest
import torch
from gymnasium import spaces

from lightning_rl.buffers.arrays import allocate, flatten_time, select, to_array, to_tensor, write

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
