"""The eye: what it keeps of pictures, what it draws, and what it refuses to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from gymnasium import spaces
from seen import QUIET, TINY, TINY_EYE, some_eye, some_pictures
from torch.utils.data import DataLoader

from lightning_rl import make_random_trajectory
from lightning_rl.errors import ConfigError, ShapeError, SpaceError, StateError
from lightning_rl.worlds import Eye, EyeConfig, PictureDreamConfig, WorldModel, train_eye

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),  # Lightning's
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*have no `val_dataloader`"),
]

PICTURES = spaces.Box(0, 255, (16, 16, 1), np.uint8)


def blank(*shape: int, dtype: torch.dtype = torch.uint8) -> torch.Tensor:
    return torch.zeros(shape, dtype=dtype)


# ---- what it learns --------------------------------------------------------------------------


def test_the_plain_trainer_trains_it_on_stored_pictures() -> None:
    eye, dataset = Eye(TINY_EYE), some_pictures()
    trainer = lightning.Trainer(
        max_epochs=1, logger=False, enable_checkpointing=False, enable_model_summary=False, **QUIET
    )
    trainer.fit(eye, DataLoader(dataset, 64, shuffle=True))
    assert {"train_loss", "train_error", "train_kl"} <= set(trainer.callback_metrics)
    assert eye.see(dataset[[0, 1]]["observations"]).shape == (2, 4)


def test_pictures_are_stored_as_bytes() -> None:
    dataset = some_pictures()
    assert dataset[0]["observations"].dtype == torch.uint8
    file = Path(dataset.directory) / "observations.npy"
    assert file.stat().st_size < 400 * 16 * 16 + 1000


def test_training_draws_pictures_better_than_their_mean() -> None:
    dataset = some_pictures()
    eye = train_eye(dataset, config=PictureDreamConfig(eye_epochs=15, eye_batch_size=32), **QUIET)
    pictures = dataset[range(200)]["observations"]
    drawn = eye.draw(eye.see(pictures))
    assert drawn.shape == pictures.shape
    error, spread = (
        (other.float() - pictures.float()).square().mean()
        for other in (drawn, pictures.float().mean(0, keepdim=True))
    )
    assert error < 0.5 * spread


def test_the_loss_is_summed_over_pixels_and_averaged_over_pictures() -> None:
    """Only so does a pole of few pixels weigh against the codes' price."""
    eye = Eye(EyeConfig(kl_weight=0.0, pixel_noise=0.5**0.5), PICTURES)
    for weight in eye.network.decoder.parameters():
        torch.nn.init.zeros_(weight)
    pictures = blank(3, 16, 16, 1)
    pictures[:, 2, 5:7] = 255
    losses = eye.loss({"observations": pictures})
    assert losses["error"].item() == pytest.approx(2.0)
    assert losses["loss"].item() == pytest.approx(2.0)  # 2 σ² = 1


def test_the_price_of_codes_is_the_kl_divergence_from_a_standard_normal() -> None:
    eye = Eye(EyeConfig(num_codes=2, hidden_sizes=(4,)), PICTURES)
    straight = eye.network.straight  # the other layers' last weights are 0 at first
    torch.nn.init.zeros_(straight.weight)
    straight.bias.data = torch.tensor([1.0, -2.0, 0.0, 0.5])  # means, log-variances
    normal = torch.distributions.Normal
    mine = normal(torch.tensor([1.0, -2.0]), torch.tensor([0.0, 0.5]).div(2).exp())
    expected = torch.distributions.kl_divergence(mine, normal(0.0, 1.0)).sum()
    assert torch.isclose(eye.loss({"observations": blank(5, 16, 16, 1)})["kl"], expected)


def test_codes_are_normalised_by_what_was_measured() -> None:
    eye = Eye(TINY_EYE, PICTURES)
    codes = torch.randn(500, 4) * 3 + 7
    eye.network.measure(codes, torch.full((500, 4), 0.5) * torch.randn(500, 4))
    assert torch.allclose(eye.network.code_mean, codes.mean(0))
    assert float(eye.network.change_std) == pytest.approx(0.5 / 3, rel=0.1)
    still = torch.ones(9, 4)
    eye.network.measure(still, 0 * still)  # nothing is divided by 0
    assert eye.see(blank(2, 16, 16, 1)).isfinite().all()


def test_the_eye_squints_at_what_it_sees_but_draws_it_sharp() -> None:
    eye = Eye(TINY_EYE, PICTURES)
    point = blank(1, 16, 16, 1)
    point[0, 8, 8] = 255
    looked = []
    eye.network.encoder.register_forward_pre_hook(lambda _, inputs: looked.append(inputs[0]))
    sharp = eye.network.scale(point)
    eye.network.encode(sharp)
    assert looked[0].view(16, 16)[8, 8] == pytest.approx(1 / 9)  # twice blurred, 3x3
    assert looked[0].sum() == pytest.approx(1.0)
    assert sharp.sum() == 1.0


def test_windows_and_single_pictures_are_seen_alike() -> None:
    eye, dataset = some_eye(), some_pictures()
    windows = dataset.with_window(3)[[0, 1]]["observations"]
    assert eye.see(windows).shape == (2, 3, 4)
    assert torch.allclose(eye.see(windows)[1, 2], eye.see(windows[1, 2]), atol=1e-5)
    assert eye.draw(eye.see(windows)).shape == windows.shape


# ---- checkpoints -----------------------------------------------------------------------------


def test_a_checkpoint_brings_its_sizes_and_is_loaded_without_unpickling(tmp_path: Path) -> None:
    eye, path = some_eye(), tmp_path / "eye.ckpt"
    eye.trainer.save_checkpoint(path)
    torch.load(path, weights_only=True)
    loaded = Eye.load_from_checkpoint(path, weights_only=True)
    pictures = some_pictures()[range(8)]["observations"]
    assert loaded.config == TINY_EYE
    assert torch.equal(loaded.see(pictures), eye.see(pictures))
    assert torch.equal(loaded.draw(loaded.see(pictures)), eye.draw(eye.see(pictures)))


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "eye.ckpt"
    some_eye().trainer.save_checkpoint(path)
    with pytest.raises(StateError, match="no world model"):
        WorldModel.load_from_checkpoint(path, config={})
    state = torch.load(path, weights_only=True)
    del state["eye"]
    torch.save(state, path)
    with pytest.raises(StateError, match="no eye"):
        Eye.load_from_checkpoint(path)


# ---- what it refuses -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pictures",
    [
        blank(2, 24, 24, 1),  # of another size
        blank(2, 1, 16, 16),  # channels first
        blank(2, 16, 16),  # without channels
        blank(2, 16, 16, 1, dtype=torch.float32),
        blank(2, 16, 16, 3),
    ],
    ids=["size", "channels first", "no channels", "float", "colours"],
)
def test_pictures_of_another_kind_are_refused(pictures: torch.Tensor) -> None:
    with pytest.raises(ShapeError, match="rows, columns, channels"):
        some_eye().see(pictures)


def test_an_eye_that_was_not_trained_neither_sees_nor_draws() -> None:
    for eye, message in ((Eye(), "no size yet"), (Eye(TINY_EYE, PICTURES), "was not trained")):
        with pytest.raises(StateError, match=message):
            eye.see(blank(1, 16, 16, 1))
        with pytest.raises(StateError, match=message):
            eye.draw(torch.zeros(1, 4))


def test_another_number_of_codes_is_refused() -> None:
    with pytest.raises(ShapeError, match=r"expected \(..., 4\)"):
        some_eye().draw(torch.zeros(2, 10))


def test_batches_without_pictures_are_refused() -> None:
    eye = Eye(TINY_EYE, PICTURES)
    for batch in ([blank(2, 16, 16, 1)], {"observations": blank(2, 16, 16, 1)}):
        with pytest.raises(ShapeError, match="next_observations"):
            eye.training_step(batch, 0)  # type: ignore[arg-type]


def test_pictures_without_spaces_are_seen_by_an_eye_that_knows_its_size() -> None:
    pictures = some_pictures()
    items = [pictures[i] for i in range(32)]
    trainer = lightning.Trainer(max_epochs=1, logger=False, enable_checkpointing=False, **QUIET)
    eye = Eye(TINY_EYE)
    with pytest.raises(StateError):
        trainer.fit(eye, DataLoader(items, 16))
    eye.build(pictures.observation_space)
    trainer.fit(eye, DataLoader(items, 16))
    assert eye.see(items[0]["observations"]).isfinite().all()


def test_states_are_no_pictures(tmp_path: Path) -> None:
    states = make_random_trajectory("CartPole-v1", tmp_path / "d", 50, progress=False)
    with pytest.raises(SpaceError, match="a dataset of states is for a WorldModel"):
        train_eye(states, config=TINY, **QUIET)


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(0, 255, (1, 16, 16), np.uint8),
        spaces.Box(0, 1, (16, 16, 1), np.float32),
        spaces.Box(0, 255, (16, 16), np.uint8),
    ],
)
def test_only_bytes_with_channels_last_are_pictures(space: spaces.Box) -> None:
    with pytest.raises(SpaceError, match="rows, columns, channels"):
        Eye(observation_space=space)


def test_an_eye_is_of_one_kind_of_pictures() -> None:
    eye = Eye(TINY_EYE, PICTURES)
    with pytest.raises(SpaceError, match="Make a new eye"):
        eye.build(spaces.Box(0, 255, (24, 24, 1), np.uint8))


@pytest.mark.parametrize(
    "change", [{"num_codes": 0}, {"pixel_noise": 0}, {"kl_weight": -1}, {"learning_rate": 0}]
)
def test_settings_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        EyeConfig(**change)


def test_it_is_validated_and_calling_it_is_seeing() -> None:
    eye, dataset = some_eye(), some_pictures()
    trainer = lightning.Trainer(
        logger=False, enable_checkpointing=False, enable_model_summary=False, **QUIET
    )
    (found,) = trainer.validate(eye, DataLoader(dataset, 64), verbose=False)
    assert set(found) == {"val_loss", "val_error", "val_kl"}
    assert all(np.isfinite(value) for value in found.values())
    pictures = dataset[[0, 1]]["observations"]
    assert torch.equal(eye(pictures), eye.see(pictures))
