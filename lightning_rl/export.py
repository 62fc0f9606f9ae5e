"""Exporting: an agent's policy as a program that needs torch alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from lightning_rl.buffers.arrays import allocate, to_tensor
from lightning_rl.policy import PolicyModule
from lightning_rl.prediction import playing


def export_policy(agent: PolicyModule, path: str | Path | None = None) -> Any:
    """Turn what an agent does greedily into a `torch.export` program, normalisation included.

    The program takes a batch of raw observations, (N, ...) as the environment gives them, or a
    dict of them, and returns N actions as the environment takes them, as `agent.predict` does. It
    runs where neither this package nor Lightning is installed:

        program = torch.export.load("policy.pt2").module()
        actions = program(torch.as_tensor(observations))

    Args:
        agent: a trained agent, or one loaded from a checkpoint.
        path: where to save it; its ending should be `.pt2`. Default: it is not saved.

    Returns:
        The `torch.export.ExportedProgram`.

    Raises:
        StateError: if the agent was never trained, loaded or bound.

    Example:
        >>> from lightning_rl import EnvDataLoader, PPOAgent
        >>> agent = PPOAgent()
        >>> _ = EnvDataLoader(agent, "CartPole-v1")  # binds the (untrained) agent
        >>> program = export_policy(agent).module()
        >>> program(torch.zeros(3, 4)).shape
        torch.Size([3])
    """
    agent.check_bound()
    observations = to_tensor(allocate(agent.observation_space, 5))
    batch = torch.export.Dim("batch")
    shapes = (
        {name: {0: batch} for name in observations}
        if isinstance(observations, dict)
        else {0: batch}
    )
    with playing(agent), torch.no_grad():
        program = torch.export.export(
            _Greedy(agent), (observations,), dynamic_shapes=(shapes,), strict=False
        )
    if path is not None:
        torch.export.save(program, path)
    return program


class _Greedy(nn.Module):
    """From raw observations to the environment's actions, in torch alone."""

    low: Tensor
    high: Tensor

    def __init__(self, agent: PolicyModule) -> None:
        super().__init__()
        self.agent = agent
        self.normalizer: _Normalizer | None = None
        if agent.observation_normalizer is not None:
            self.normalizer = _Normalizer(agent.observation_normalizer)
        space = agent.action_space
        if isinstance(space, spaces.Box):
            self.register_buffer("low", torch.from_numpy(space.low).float())
            self.register_buffer("high", torch.from_numpy(space.high).float())

    def forward(self, observations: Any) -> Tensor:
        if self.normalizer is not None:
            observations = self.normalizer(observations)
        actions, _ = self.agent.act(observations, deterministic=True)
        space = self.agent.action_space
        if isinstance(space, spaces.Box):
            clipped = torch.minimum(torch.maximum(actions, self.low), self.high).detach()
            whole = clipped.round() if space.dtype.kind in "iu" else clipped
            return whole.to(torch.from_numpy(np.zeros(0, space.dtype)).dtype)
        start = getattr(space, "start", 0)
        return actions + torch.as_tensor(start) if np.any(start) else actions


class _Normalizer(nn.Module):
    """The observation normaliser's arithmetic, on tensors."""

    mean: Tensor
    std: Tensor

    def __init__(self, normalizer: Any) -> None:
        super().__init__()
        moments = normalizer.moments
        self.clip = float(normalizer.clip)
        self.register_buffer("mean", torch.from_numpy(moments.mean))
        self.register_buffer("std", torch.from_numpy(np.sqrt(moments.variance + 1e-8)))

    def forward(self, observations: Tensor) -> Tensor:
        scaled = (observations - self.mean) / self.std
        return scaled.clamp(-self.clip, self.clip).float()
