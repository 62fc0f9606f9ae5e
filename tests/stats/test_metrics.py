"""Metrics: one mean an iteration, of every minibatch's scalars."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rl.stats.metrics import IterationMetrics

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
