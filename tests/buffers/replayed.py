"""Episodes that a replay buffer is filled with, for the tests beside it."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces

from lightning_rl.buffers.replay import ReplayBuffer
from lightning_rl.envs.runner import VectorStep

BOX = spaces.Box(-np.inf, np.inf, (1,), np.float32)

TWO = spaces.Discrete(2)


class Episodes:
    """Sub-environments whose observation is a number that never comes twice.

    `ends[t][i]` is None (goes on), "terminated" or "truncated". The episodes' true story is kept:
    `transitions[observation] = (reward, next observation, end)`.
    """

    def __init__(self, num_envs: int, same_step: bool) -> None:
        self.num_envs, self.same_step = num_envs, same_step
        self.count = 0.0
        self.observations = [self.fresh() for _ in range(num_envs)]
        self.resets = [False] * num_envs
        self.transitions: dict[float, tuple[float, float, str | None]] = {}

    def fresh(self) -> float:
        self.count += 1.0
        return self.count

    def array(self) -> np.ndarray:
        return np.array(self.observations, dtype=np.float32)[:, None]

    def step(self, ends: list[str | None]) -> VectorStep:
        valid = ~np.array(self.resets)
        final = {}
        for i in range(self.num_envs):
            before = self.observations[i]
            self.observations[i] = after = self.fresh()
            if self.resets[i]:
                ends = [*ends[:i], None, *ends[i + 1 :]]
                self.resets[i] = False
                continue
            self.transitions[before] = (before / 10, after, ends[i])
            if ends[i] and self.same_step:
                final[i] = np.array([after], dtype=np.float32)
                self.observations[i] = self.fresh()
            elif ends[i]:
                self.resets[i] = True
        terminated = np.array([end == "terminated" for end in ends])
        truncated = np.array([end == "truncated" for end in ends])
        before_step = np.where(valid, self.rewards_before, 99.0).astype(np.float32)
        return VectorStep(self.array(), before_step, terminated, truncated, valid, final)

    rewards_before: np.ndarray = np.zeros(0)


def fill(
    buffer: ReplayBuffer, story: list[list[str | None]], same_step: bool = False
) -> tuple[Episodes, list[float]]:
    """Play a story into a buffer; give it and the first observations of all its transitions."""
    envs = Episodes(buffer.num_envs, same_step)
    buffer.start(envs.array())
    order: list[list[float]] = []
    for ends in story:
        envs.rewards_before = np.array(envs.observations) / 10
        known = set(envs.transitions)
        step = envs.step(ends)
        order.append([o for o in envs.transitions if o not in known])
        buffer.add(np.arange(buffer.num_envs) % 2, {}, step)
    kept = order[-(buffer.num_rows - 1) :]
    return envs, [first for row in kept for first in row]


def pairs_no_strangers(buffer: ReplayBuffer, *stories: Episodes) -> bool:
    """Tell whether all that can be drawn happened, and the buffer knows how much that is."""
    happened = {
        first: after for envs in stories for first, (_, after, _) in envs.transitions.items()
    }
    drawn: dict[float, float] = {}
    for batch in buffer.minibatches(100, min(8, len(buffer)), torch.Generator().manual_seed(0)):
        pairs = (batch[name].flatten().tolist() for name in ("observations", "next_observations"))
        drawn |= dict(zip(*pairs, strict=True))
    return len(drawn) == len(buffer) and all(happened[one] == two for one, two in drawn.items())
