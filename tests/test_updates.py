"""Updates: a loss that would destroy the weights is refused, gradients are clipped as by torch."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch import Callback
from small_runs import SMALL
from torch import nn
from torch.utils.data import DataLoader

from lightning_rl import (
    AgentTrainer,
    DQNAgent,
    DQNConfig,
    PPOAgent,
    ReinforceAgent,
    SACAgent,
    SACConfig,
    evaluate,
    make_random_trajectory,
    make_trajectory,
    record_episode,
)
from lightning_rl.errors import NonFiniteError, ShapeError
from lightning_rl.updates import can_fuse, check_gradients, check_loss, clip_norm
from lightning_rl.worlds import Eye, EyeConfig, PictureEnv
from lightning_rl.worlds.rssm import RecurrentConfig, RecurrentWorldModel
from lightning_rl.worlds.world_model import WorldModel, WorldModelConfig

LIGHTNINGS = pytest.mark.filterwarnings(
    "ignore:.isinstance.treespec:FutureWarning",
    "ignore:.*does not have many workers",
    "ignore:You defined a .validation_step.",
)


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


# ---- NaN and infinity in the midst of a training ----------------------------------------------

REPLAY = {"learning_starts": 128, "rollout_steps": 16, "gradient_steps": 2}
AGENTS: dict[str, Any] = {
    "PPO": lambda: PPOAgent(config=SMALL),
    "REINFORCE": lambda: ReinforceAgent(config={"rollout_steps": 128}),
    "DQN": lambda: DQNAgent(config=DQNConfig(**REPLAY)),
    "SAC": lambda: SACAgent(config=SACConfig(batch_size=64, **REPLAY)),
}
MODELS: dict[str, Any] = {
    "WorldModel": lambda: WorldModel(WorldModelConfig(hidden_sizes=(8,), num_members=2)),
    "Eye": lambda: Eye(EyeConfig(hidden_sizes=(8,))),
    "RecurrentWorldModel": lambda: RecurrentWorldModel(
        RecurrentConfig(memory_size=8, num_latents=2, num_classes=3, hidden_size=8)
    ),
}


class Spoil(Callback):
    """Spoils a number of the second iteration's first update: in a gradient or a parameter."""

    def __init__(self, what: str, number: float) -> None:
        self.what, self.number = what, number
        self.module: Any = None
        self.before: dict[str, torch.Tensor] = {}

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        if trainer.global_step == 1 and not self.before:
            self.module = pl_module
            self.before = {n: v.clone() for n, v in pl_module.named_parameters()}
            parameter = [p for p in pl_module.parameters() if p.grad is not None][-1]
            spoiled = parameter.grad if self.what == "gradient" else parameter.data
            spoiled.view(-1)[-1] = self.number


def train(name: str, folder: Path, spoil: Spoil, precision: Any = "32-true") -> None:
    trainer = AgentTrainer(
        max_steps=3, seed=0, callbacks=[spoil], quiet=True, precision=precision, accelerator="cpu"
    )
    if name in AGENTS:
        trainer.fit(AGENTS[name](), "Pendulum-v1" if name == "SAC" else "CartPole-v1")
        return
    env = "CartPole-v1" if name == "WorldModel" else PictureEnv("CartPole-v1")
    dataset: Any = make_random_trajectory(env, folder, 60, progress=False)
    data = dataset.with_window(2) if name == "RecurrentWorldModel" else dataset
    trainer.fit(MODELS[name](), DataLoader(data, 16))


@LIGHTNINGS
@pytest.mark.parametrize(
    ("name", "number", "precision"),
    [
        *((name, torch.nan, "32-true") for name in [*AGENTS, *MODELS]),
        ("SAC", torch.inf, "32-true"),
        ("PPO", torch.nan, "bf16-mixed"),
        ("REINFORCE", -torch.inf, "bf16-true"),
    ],
)
def test_a_bad_gradient_is_named_and_the_optimizer_is_not_stepped(
    name: str, number: float, precision: str, tmp_path: Path
) -> None:
    spoil = Spoil("gradient", number)
    with pytest.raises(NonFiniteError, match=r"the gradient of \w[\w.]+ is NaN.*was not stepped"):
        train(name, tmp_path, spoil, precision)
    for parameter, value in spoil.module.named_parameters():
        assert torch.equal(spoil.before[parameter], value), parameter


@LIGHTNINGS
@pytest.mark.parametrize("name", [*AGENTS, *MODELS])
def test_an_infinite_parameter_is_named_before_anything_is_saved(name: str, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"the parameter \w[\w.]+ is NaN|a loss of"):
        train(name, tmp_path, Spoil("parameter", torch.inf))


def test_finite_gradients_whose_norm_is_too_large_for_a_number_are_clipped() -> None:
    layer = nn.Linear(3, 2, bias=False)
    layer.weight.grad = torch.full((2, 3), 3e38)
    clip_norm(layer, torch.optim.SGD(layer.parameters()), 1.0)
    assert layer.weight.grad.isfinite().all()


@pytest.mark.parametrize(("scale", "is_refused"), [(65536.0, False), (0.5, True)])
def test_with_a_scaler_a_large_gradient_is_refused_when_scaling_less_has_not_helped(
    scale: float, is_refused: bool
) -> None:
    layer: Any = nn.Linear(3, 2)
    layer.weight.grad = torch.full((2, 3), torch.inf)
    scaler = SimpleNamespace(get_scale=lambda: scale)
    layer.trainer = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=scaler))
    optimizer = torch.optim.SGD(layer.parameters())
    with pytest.raises(NonFiniteError, match="weight") if is_refused else nullcontext():
        check_gradients(layer, optimizer)


@LIGHTNINGS
def test_an_agent_whose_weights_are_nan_is_neither_played_nor_saved(tmp_path: Path) -> None:
    agent = PPOAgent(config=SMALL)
    trainer = AgentTrainer(max_steps=1, seed=0, quiet=True)
    trainer.fit(agent, "CartPole-v1")
    next(agent.parameters()).data.view(-1)[0] = torch.nan
    for use in (
        lambda: evaluate(agent, "CartPole-v1", episodes=1),
        lambda: trainer.test(agent, "CartPole-v1"),
        lambda: record_episode(agent, "CartPole-v1"),
        lambda: make_trajectory(agent, "CartPole-v1", tmp_path / "d"),
        lambda: trainer.save_checkpoint(tmp_path / "a.ckpt"),
    ):
        with pytest.raises(NonFiniteError, match=r"the parameter network\.\S+ is NaN"):
            use()
    assert not list(tmp_path.iterdir())
