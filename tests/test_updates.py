"""Updates: a loss that would destroy the weights is refused, gradients are clipped as by torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_rl import AgentTrainer
from lightning_rl.errors import NonFiniteError, ShapeError
from lightning_rl.updates import can_fuse, check_loss, clip_norm


def test_a_finite_scalar_passes_and_nothing_else() -> None:
    check_loss(torch.tensor(-3.0))
    for bad in (torch.nan, torch.inf, -torch.inf):
        with pytest.raises(NonFiniteError, match=r"a loss of -?(nan|inf).*was not stepped"):
            check_loss(torch.tensor(bad))
    for shape in ((1,), (2, 2)):
        with pytest.raises(ShapeError, match=r"expected a scalar\. Take its mean"):
            check_loss(torch.zeros(shape))


@pytest.mark.parametrize(
    ("precision", "fused"), [("32-true", True), ("bf16-true", True), ("bf16-mixed", False)]
)
def test_adam_is_fused_where_lightning_can_clip_its_gradients(precision: Any, fused: bool) -> None:
    trainer = AgentTrainer(precision=precision, accelerator="cpu", barebones=True)
    assert can_fuse(trainer) == fused


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
