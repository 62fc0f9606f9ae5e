"""A probe: how much of the true state can be read off percepts, by a straight line.

The idea is of Alain, Bengio 2016, "Understanding intermediate layers using linear classifier
probes", https://arxiv.org/abs/1610.01644: what so simple a reader finds must have been there. Only
people look at it; no agent learns from it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_rl.errors import ShapeError
from lightning_rl.trajectories.dataset import TrajectoryDataset


class Probe:
    """A linear map from percepts (D,) to states (S,), by ridge regression.

        w = (XᵀX + λ B I)⁻¹ Xᵀy

    with X the percepts and y the states, both normalised. Made from the same env steps, stored once
    as percepts and once as states: `make_random_trajectory` with the same seed makes the same ones.

    Args:
        percepts: of B env steps.
        states: of the same ones.
        ridge: λ, per step.

    Attributes:
        state_std: (S,) standard deviations of the states.
        r2: (S,) the part of each number's variance that the probe finds, on the half of the steps
            that it was not made from.

    Raises:
        ShapeError: if the datasets are not of the same steps.
    """

    def __init__(
        self, percepts: TrajectoryDataset, states: TrajectoryDataset, ridge: float = 1e-4
    ) -> None:
        _check_same_steps(percepts, states)
        inputs, targets = _all_observations(percepts), _all_observations(states)
        self.ridge = ridge
        half = len(inputs) // 2
        self._fit(inputs[:half], targets[:half])
        rest = targets[half:]
        missed = (self.read(inputs[half:]) - rest).square().mean(0)
        self.r2: Tensor = 1 - missed / rest.var(0, correction=0)
        self._fit(inputs, targets)

    def _fit(self, inputs: Tensor, targets: Tensor) -> None:
        self.mean, self.std = inputs.mean(0), inputs.std(0).clamp(min=1e-6)
        self.state_mean, self.state_std = targets.mean(0), targets.std(0).clamp(min=1e-6)
        x, y = (inputs - self.mean) / self.std, (targets - self.state_mean) / self.state_std
        penalty = self.ridge * len(x) * torch.eye(x.shape[1])
        self.weight = torch.linalg.solve(x.T @ x + penalty, x.T @ y)  # (D, S)

    def read(self, percepts: Tensor) -> Tensor:
        """Read states (..., S) off percepts (..., D)."""
        x = (percepts.float().cpu() - self.mean) / self.std
        states: Tensor = x @ self.weight * self.state_std + self.state_mean
        return states


def join_windows(percepts: TrajectoryDataset, states: TrajectoryDataset) -> dict[str, Tensor]:
    """Give all windows of percepts, with what the states were: `states` and `next_states`.

    Args:
        percepts: in windows, such as `result.percepts.with_window(20)`.
        states: of the same env steps, in windows of the same size.

    Raises:
        ShapeError: if the datasets are not of the same steps.
    """
    _check_same_steps(percepts, states)
    rows = list(range(len(percepts)))
    windows, truth = percepts[rows], states[rows]
    return windows | {
        "states": truth["observations"],
        "next_states": truth["next_observations"],
    }


def _check_same_steps(percepts: TrajectoryDataset, states: TrajectoryDataset) -> None:
    sizes = [(len(part), part.num_steps, part.window) for part in (percepts, states)]
    same = sizes[0] == sizes[1]
    same = same and np.array_equal(percepts.episode_lengths, states.episode_lengths)
    if not same:
        raise ShapeError(
            f"got percepts and states of (windows, env steps, window) {sizes}; expected the same "
            "episodes. Collect both with the same seed, num_steps and num_envs."
        )


def _all_observations(dataset: Any) -> Tensor:
    """Load all observations of a dataset's windows, (B, D)."""
    batches = DataLoader(dataset, batch_size=1024, generator=torch.Generator())
    observed = [batch["observations"] for batch in batches]
    return torch.cat([part.reshape(-1, part.shape[-1]) for part in observed]).float()
