"""The recurrent model: its equations by hand, what it learns from, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from gymnasium import spaces
from seen import QUIET, some_pictures
from torch.utils.data import DataLoader

from lightning_rl import make_random_trajectory
from lightning_rl.errors import ConfigError, ShapeError, SpaceError, StateError
from lightning_rl.worlds.rssm import (
    Memory,
    RecurrentConfig,
    RecurrentWorldModel,
    balanced_divergence,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),  # Lightning's
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]

SMALL = RecurrentConfig(memory_size=8, num_latents=2, num_classes=3, hidden_size=8)
PICTURES = spaces.Box(0, 255, (16, 16, 1), "uint8")


def small_model() -> RecurrentWorldModel:
    return RecurrentWorldModel(SMALL, PICTURES, spaces.Discrete(2))


def windows(length: int = 4) -> dict[str, torch.Tensor]:
    batch: dict[str, torch.Tensor] = some_pictures().with_window(length)[[0, 1, 2]]
    return batch


def test_the_uniform_distribution_is_mixed_in() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 100.0, 0.0, 0.0]])
    probabilities = small_model().network.probabilities(logits)
    assert probabilities.shape == (1, 2, 3)
    assert torch.allclose(probabilities[0, 0], torch.full((3,), 1 / 3))
    assert torch.allclose(probabilities[0, 1], torch.tensor([0.99 + 0.01 / 3, 0.01 / 3, 0.01 / 3]))


def test_latents_are_one_hot_and_gradients_go_straight_through() -> None:
    probabilities = torch.tensor([[[0.2, 0.3, 0.5], [0.1, 0.1, 0.8]]], requires_grad=True)
    drawn = small_model().network.draw_latent(probabilities)
    assert torch.allclose(drawn.view(2, 3).sum(-1), torch.ones(2))
    assert set(drawn.detach().round(decimals=5).flatten().tolist()) == {0.0, 1.0}
    (drawn * torch.arange(6.0)).sum().backward()
    assert probabilities.grad is not None
    assert probabilities.grad.flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_the_divergence_is_balanced_and_partly_free() -> None:
    posterior = torch.tensor([[[0.9, 0.1]]], requires_grad=True)
    prior = torch.tensor([[[0.5, 0.5]]], requires_grad=True)
    config = RecurrentConfig(dynamics_weight=1.0, representation_weight=0.1, free_nats=0.0)
    cost = balanced_divergence(posterior, prior, config)
    expected = 0.9 * torch.tensor(1.8).log() + 0.1 * torch.tensor(0.2).log()
    assert cost.item() == pytest.approx(1.1 * expected.item())
    cost.sum().backward()
    assert prior.grad is not None
    assert posterior.grad is not None
    assert prior.grad[0, 0, 0].item() == pytest.approx(-0.9 / 0.5)  # of β_dyn alone
    assert posterior.grad[0, 0, 0].item() == pytest.approx(0.1 * (torch.tensor(1.8).log() + 1))
    free = balanced_divergence(posterior, prior, RecurrentConfig(free_nats=5.0))
    assert free.item() == pytest.approx(1.1 * 5.0)


def test_what_was_seen_is_remembered_and_what_is_imagined_is_not_looked_at() -> None:
    network = small_model().network
    memory = network.blank(3)
    assert memory.features.shape == (3, 8 + 6)
    greys = torch.rand(3, 256)
    seen, posterior, prior = network.observe(memory, torch.zeros(3, 2), greys)
    assert posterior.shape == prior.shape == (3, 2, 3)
    imagined = network.imagine(memory, torch.zeros(3, 2))
    assert torch.equal(seen.recurrent, imagined.recurrent)  # z_{t-1} and a_{t-1} alone decide it
    assert isinstance(imagined, Memory)


def test_the_past_matters_the_future_does_not() -> None:
    model, batch = small_model(), windows()
    torch.manual_seed(0)
    _, features, _, _ = model.watch(batch)
    changed = {name: values.clone() for name, values in batch.items()}
    changed["actions"][:, -1] = 1 - changed["actions"][:, -1]
    torch.manual_seed(0)
    _, others, _, _ = model.watch(changed)
    assert features.shape == (5, 3, 14)
    assert torch.equal(features[:4], others[:4])
    assert not torch.equal(features[4], others[4])


def test_the_plain_trainer_trains_it_on_windows_of_pictures() -> None:
    model = RecurrentWorldModel(SMALL)
    trainer = lightning.Trainer(
        max_epochs=2, logger=False, enable_checkpointing=False, enable_model_summary=False, **QUIET
    )
    torch.manual_seed(0)
    first = RecurrentWorldModel(SMALL, PICTURES, spaces.Discrete(2)).loss(windows())["error"]
    trainer.fit(model, DataLoader(some_pictures().with_window(4), 16, shuffle=True))
    assert trainer.callback_metrics["train_error"] < first
    assert {"train_kl", "train_reward_error"} <= set(trainer.callback_metrics)


def test_a_checkpoint_brings_its_sizes(tmp_path: Path) -> None:
    model = RecurrentWorldModel(SMALL)
    trainer = lightning.Trainer(
        max_steps=1, logger=False, enable_checkpointing=False, enable_model_summary=False, **QUIET
    )
    trainer.fit(model, DataLoader(some_pictures().with_window(4), 16))
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    loaded = RecurrentWorldModel.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert loaded.config == SMALL
    for one, other in zip(loaded.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)
    with pytest.raises(StateError, match="no recurrent model"):
        small_model().on_load_checkpoint({})


def test_pictures_without_spaces_are_learned_from_by_a_model_that_has_them() -> None:
    items = [{name: part[i] for name, part in windows().items()} for i in range(3)]
    trainer = lightning.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, **QUIET)
    model = small_model()
    before = [p.clone() for p in model.parameters()]
    trainer.fit(model, DataLoader(items, 3))
    assert not all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    with pytest.raises(StateError, match="no sizes yet"):
        trainer.fit(RecurrentWorldModel(SMALL), DataLoader(items, 3))


def test_other_data_are_refused(tmp_path: Path) -> None:
    states = make_random_trajectory("CartPole-v1", tmp_path / "d", 50, progress=False)
    with pytest.raises(SpaceError, match="expected pictures"):
        RecurrentWorldModel(SMALL, states.observation_space, states.action_space)
    with pytest.raises(SpaceError, match="Make a new model"):
        small_model().build(PICTURES, spaces.Discrete(3))
    with pytest.raises(ShapeError, match=r"of torch\.uint8"):
        small_model().network.scale(torch.zeros(2, 1, 16, 16, dtype=torch.uint8))
    with pytest.raises(StateError, match="no sizes yet"):
        RecurrentWorldModel(SMALL).loss(windows())


@pytest.mark.parametrize("change", [{"num_latents": 0}, {"unimix": 2.0}, {"pixel_noise": 0}])
def test_settings_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        RecurrentConfig(**change)


def test_actions_of_several_choices_are_refused() -> None:
    with pytest.raises(SpaceError, match="expected Discrete or a Box of one axis"):
        RecurrentWorldModel(SMALL, PICTURES, spaces.MultiDiscrete([2, 2]))


def test_continuous_actions_are_taken_as_they_are() -> None:
    model = RecurrentWorldModel(SMALL, PICTURES, spaces.Box(-1, 1, (3,), "float32"))
    actions = torch.tensor([[0.5, -1.0, 0.25]])
    assert torch.equal(model.action_numbers(actions), actions)
    batch = windows() | {"actions": torch.zeros(3, 4, 3)}
    greys, *_ = model.watch(batch)
    assert greys.shape == (5, 3, 256)
