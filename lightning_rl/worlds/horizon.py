"""How far ahead a world model's predictions are worth something."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from lightning_rl.worlds.world_model import WorldModel, predict_windows


class HorizonErrors(NamedTuple):
    """How good predictions are 1 to k steps ahead; in standard deviations in the data, (k,)."""

    error: Tensor  # root mean square of the mean prediction's error
    disagreement: Tensor  # root mean square of the members' disagreement: what the model owns to
    no_change: Tensor  # the error of predicting that nothing moves


def horizon_errors(model: WorldModel, windows: dict[str, Tensor]) -> HorizonErrors:
    """Compare open-loop predictions with what happened.

    A small error one step ahead says little about many: errors feed on each other.

    Args:
        model: a trained world model.
        windows: B windows of k consecutive steps, (B, k, ...), which it was not trained on; such
            as `dataset.with_window(20)[range(256)]`.

    Raises:
        ShapeError: if these are no windows, or another environment's.
    """
    prediction = predict_windows(model, windows)
    scale = model.network.input_std[: model.network.num_observed]
    truth = windows["next_observations"].to(scale)  # (B, k, D)
    start = windows["observations"][:, :1].to(scale)
    error, no_change = (
        ((guess - truth) / scale).square().mean((0, 2)).sqrt() for guess in (prediction.mean, start)
    )
    return HorizonErrors(error, prediction.disagreement.square().mean(0).sqrt(), no_change)
