"""Updates: a loss that would destroy the weights is refused, gradients are clipped as by torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback
from small_runs import SMALL
from torch import nn

from lightning_rl import AgentTrainer, DQNAgent, DQNConfig, PPOAgent, ReinforceAgent
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
    clip_norm(ours, torch.optim.SGD(ours.parameters()), max_norm)
    nn.utils.clip_grad_norm_(theirs.parameters(), max_norm)
    assert ours.bias.grad is None
    assert ours.weight.grad is not None
    assert theirs.weight.grad is not None
    assert torch.allclose(ours.weight.grad, theirs.weight.grad)


MAKERS: dict[str, Any] = {
    "PPO": lambda: PPOAgent(config=SMALL),
    "REINFORCE": lambda: ReinforceAgent(config={"rollout_steps": 128}),
    "DQN": lambda: DQNAgent(config=DQNConfig(learning_starts=128, rollout_steps=128)),
}


class Spoil(Callback):
    """Makes a number of the second iteration infinite, in a gradient or a parameter."""

    def __init__(self, what: str) -> None:
        self.what, self.done = what, False
        self.before: dict[str, torch.Tensor] = {}

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        name, parameter = next(iter(pl_module.named_parameters()))
        if trainer.global_step == 1 and not self.done:
            self.done = True
            self.before = {n: v.clone() for n, v in pl_module.named_parameters()}
            assert parameter.grad is not None, name
            (parameter.grad if self.what == "gradient" else parameter.data).view(-1)[0] = torch.inf


def spoiled(agent: Any, what: str) -> Spoil:
    spoil = Spoil(what)
    trainer = AgentTrainer(
        max_env_steps=2000, num_envs=8, seed=0, callbacks=[spoil], logger=False, live=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(NonFiniteError, match=r"the (gradient|parameter).* network\..*infinite"):
        trainer.fit(agent, "CartPole-v1")
    return spoil


@pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # Lightning's
@pytest.mark.parametrize("name", ["PPO", "DQN"])
def test_an_infinite_gradient_is_named_and_the_optimizer_is_not_stepped(name: str) -> None:
    agent = MAKERS[name]()
    before = spoiled(agent, "gradient").before
    assert all(torch.equal(before[n], value) for n, value in agent.named_parameters())


@pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # Lightning's
def test_an_infinite_parameter_is_named_before_anything_is_saved() -> None:
    for what in ("parameter", "gradient"):  # which is not clipped, so not looked at
        spoiled(MAKERS["REINFORCE"](), what)


def test_finite_gradients_whose_norm_is_too_large_for_a_number_are_clipped() -> None:
    layer = nn.Linear(3, 2, bias=False)
    layer.weight.grad = torch.full((2, 3), 3e38)
    clip_norm(layer, torch.optim.SGD(layer.parameters()), 1.0)
    assert layer.weight.grad.isfinite().all()
