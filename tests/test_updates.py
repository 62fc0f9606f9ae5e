"""An update is guarded: its gradients are clipped as torch does it."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from lightning_rl.updates import clip_norm


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
