"""Env steps of a spring, whose dynamics are known, for the tests beside it."""

from __future__ import annotations

from typing import Any

import torch
from gymnasium import Space, spaces
from torch import Tensor
from torch.utils.data import (
    Dataset,
)

from lightning_rl.worlds.world_model import WorldModel, WorldModelConfig

OBSERVATIONS = spaces.Box(-10, 10, (2,))

FORCES = spaces.Box(-1, 1, (1,))

Steps = dict[str, Tensor]


class StepsDataset(Dataset[Steps]):
    def __init__(self, steps: Steps, observation_space: Space, action_space: Space) -> None:
        self.steps = steps
        self.observation_space, self.action_space = observation_space, action_space

    def __len__(self) -> int:
        return len(self.steps["rewards"])

    def __getitem__(self, index: int) -> Steps:
        return {name: values[index] for name, values in self.steps.items()}


def move(state: Tensor, force: Tensor) -> Tensor:
    """A weight on a spring: position and speed, (..., 2)."""
    position, speed = state.unbind(-1)
    return torch.stack([position + 0.2 * speed, speed - 0.2 * position + 0.2 * force], dim=-1)


def spring(count: int = 1000, seed: int = 0, action_space: Space = FORCES, window: int = 0) -> Any:
    """Steps from anywhere within ±1; the end is beyond a position of 0.8, where reward is 2."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, window) if window else (count,)
    actions = 2 * torch.rand((*shape, 1), generator=generator) - 1
    if isinstance(action_space, spaces.Discrete):
        actions = torch.randint(-1, 2, shape, generator=generator)
    force = actions if actions.dtype == torch.int64 else actions.squeeze(-1)
    states = [2 * torch.rand((count, 2), generator=generator) - 1]
    for t in range(max(window, 1)):
        states.append(move(states[-1], force[:, t] if window else force))
    before, after = torch.stack(states[:-1], 1), torch.stack(states[1:], 1)
    if not window:
        before, after = before[:, 0], after[:, 0]
    final = after[..., 0] > 0.8
    steps = {"observations": before, "actions": actions, "rewards": 1.0 + final}
    steps |= {"next_observations": after, "terminated": final, "truncated": torch.zeros(shape)}
    return StepsDataset(steps, OBSERVATIONS, action_space)


def built(action_space: Space = FORCES, **config: Any) -> WorldModel:
    return WorldModel(WorldModelConfig(**config), OBSERVATIONS, action_space)
