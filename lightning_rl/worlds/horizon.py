"""How far ahead a world model's predictions are worth something."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from lightning_rl.worlds.probe import Probe
from lightning_rl.worlds.world_model import Prediction, WorldModel, predict_windows


class HorizonErrors(NamedTuple):
    """How good predictions are 1 to k steps ahead; in standard deviations in the data, (k,)."""

    error: Tensor  # root mean square of the mean prediction's error
    disagreement: Tensor  # root mean square of the members' disagreement: what the model owns to
    no_change: Tensor  # the error of predicting that nothing moves

    def valid_steps(self, limit: float = 0.5) -> int:
        """Count the steps ahead until the error first exceeds `limit` standard deviations.

        It is the valid prediction time of chaotic systems, in env steps; k if it never does.

        Example:
            >>> import torch
            >>> errors = torch.tensor([0.1, 0.3, 0.8, 0.2])
            >>> HorizonErrors(errors, errors, errors).valid_steps()
            2
        """
        return int((self.error <= limit).int().cumprod(0).sum())


class Comparison(NamedTuple):
    """What happened in B windows and what was predicted; in the states' units if there is a probe.

    Only one that is read through a probe differs from what the model itself says.
    """

    truth: Tensor  # (B, k, S) after each action
    start: Tensor  # (B, 1, S) before the first
    members: Tensor  # (E, B, k, S) what each member predicts
    scale: Tensor  # (S,) standard deviations in the data


def compare(
    model: WorldModel, windows: dict[str, Tensor], probe: Probe | None = None
) -> Comparison:
    """Predict windows, open loop, beside what happened.

    Raises:
        ShapeError: if these are no windows, or another environment's.
    """
    prediction: Prediction = predict_windows(model, windows)
    members = prediction.observations.cpu()
    if probe is not None:
        truth, start = windows["next_states"], windows["states"][:, :1]
        return Comparison(truth.cpu(), start.cpu(), probe.read(members), probe.state_std)
    scale = model.network.input_std[: model.network.num_observed].cpu()
    truth, start = windows["next_observations"], windows["observations"][:, :1]
    return Comparison(truth.to(scale), start.to(scale), members, scale)


def horizon_errors(
    model: WorldModel, windows: dict[str, Tensor], probe: Probe | None = None
) -> HorizonErrors:
    """Compare open-loop predictions with what happened.

    A small error one step ahead says little about many: errors feed on each other.

    Args:
        model: a trained world model.
        windows: B windows of k consecutive steps, (B, k, ...), which it was not trained on; such
            as `dataset.with_window(20)[range(256)]`.
        probe: reads the true state off percepts, so that errors are the state's; `windows` are
            then those of `join_windows`.

    Raises:
        ShapeError: if these are no windows, or another environment's.
    """
    seen = compare(model, windows, probe)
    mean = seen.members.mean(0)
    error, no_change = (
        ((guess - seen.truth) / seen.scale).square().mean((0, 2)).sqrt()
        for guess in (mean, seen.start)
    )
    apart = seen.members.std(0, correction=0) / seen.scale  # (B, k, S)
    return HorizonErrors(error, apart.square().mean((0, 2)).sqrt(), no_change)
