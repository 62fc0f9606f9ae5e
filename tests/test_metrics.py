"""Promises of `lightning_rl.metrics`: one mean an iteration, of every minibatch's scalars."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_rl.buffers.arrays import to_array
from lightning_rl.statistics.metrics import IterationMetrics
from lightning_rl.updates import clip_norm

NUMBERS = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=20)


@settings(deadline=None, max_examples=50)
@given(NUMBERS, st.sampled_from([float, torch.tensor, np.float64]))
def test_mean_is_over_all_that_was_added(numbers: list[float], kind: Any) -> None:
    metrics = IterationMetrics()
    for number in numbers:
        metrics.add("x", kind(number))
    [(name, mean, options)] = metrics.pop_means()
    assert (name, options) == ("x", {})
    assert mean == pytest.approx(np.mean(numbers), abs=1e-2)


def test_outputs_of_a_training_step_may_be_a_loss_a_dict_or_nothing() -> None:
    metrics = IterationMetrics()
    for outputs in (torch.tensor(1.0), {"loss": torch.tensor(3.0), "kl": 0.5}, None):
        metrics.add_outputs(outputs)
    assert metrics.pop_means() == [("loss", 2.0, {}), ("kl", 0.5, {})]


def test_popping_forgets_values_and_options() -> None:
    metrics = IterationMetrics()
    metrics.add("x", 1.0, prog_bar=True)
    metrics.pop_means()
    assert metrics.pop_means() == []
    metrics.add("x", 5.0)
    assert metrics.pop_means() == [("x", 5.0, {})]


@pytest.mark.parametrize(
    ("args", "options", "expected"),
    [
        ((), {}, {}),
        ((True,), {}, {"prog_bar": True}),  # as in self.log("x", value, True)
        ((True, False), {"on_epoch": True}, {"prog_bar": True, "logger": False, "on_epoch": True}),
        ((), {"sync_dist": True, "batch_size": 64}, {"sync_dist": True}),
    ],
)
def test_log_options_are_kept_but_for_the_batch_size(
    args: tuple, options: dict, expected: dict
) -> None:
    """The mean's weight is one iteration, not the last minibatch's rows."""
    metrics = IterationMetrics()
    metrics.add("x", 1.0, *args, **options)
    assert metrics.pop_means() == [("x", 1.0, expected)]


def test_misspelled_log_option_is_refused_as_lightning_does() -> None:
    with pytest.raises(TypeError, match="progbar"):
        IterationMetrics().add("x", 1.0, True, progbar=True)


def test_values_hold_no_graph() -> None:
    """Else every minibatch's activations would live until the iteration's end."""
    metrics, weight = IterationMetrics(), torch.ones((), requires_grad=True)
    metrics.add("loss", weight * 2)
    assert not any(v.requires_grad for values in metrics._values.values() for v in values)
    assert metrics.pop_means() == [("loss", 2.0, {})]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int64])
def test_any_precision_is_averaged_in_float32(dtype: torch.dtype) -> None:
    metrics = IterationMetrics()
    for _ in range(1000):
        metrics.add("x", torch.tensor(100, dtype=dtype))
    assert metrics.pop_means() == [("x", 100.0, {})]  # a float16 sum would overflow


def test_recording_ends_with_its_block_even_after_an_error() -> None:
    metrics = IterationMetrics()
    with pytest.raises(AssertionError, match="was recording"), metrics.recording():
        assert not metrics.is_recording, "was recording"
    assert not metrics.is_recording


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [(torch.float32, "float32"), (torch.int64, "int64"), (torch.bool, "bool"),
     (torch.bfloat16, "float32")],
)  # fmt: skip
def test_tensors_become_arrays_of_a_dtype_numpy_has(dtype: torch.dtype, expected: str) -> None:
    tensor = torch.ones(2, dtype=dtype)
    array = to_array(tensor.requires_grad_() if dtype.is_floating_point else tensor)
    assert (array.dtype, array.tolist()) == (expected, [1, 1])


@settings(deadline=None, max_examples=50)
@given(scale=st.floats(1e-3, 1e3), max_norm=st.floats(1e-2, 1e2))
def test_gradients_are_clipped_to_a_joint_norm_as_torch_does_it(
    scale: float, max_norm: float
) -> None:
    ours, theirs = (nn.Linear(3, 2) for _ in range(2))
    for layer in (ours, theirs):
        layer.weight.grad = torch.arange(6.0).view(2, 3) * scale
    clip_norm(torch.optim.SGD(ours.parameters()), max_norm)
    nn.utils.clip_grad_norm_(theirs.parameters(), max_norm)
    assert ours.bias.grad is None
    assert ours.weight.grad is not None
    assert theirs.weight.grad is not None
    assert torch.allclose(ours.weight.grad, theirs.weight.grad)
