"""Prioritised replay: what surprised the agent most is drawn most often.

Schaul, Quan, Antonoglou, Silver 2016, "Prioritized experience replay",
https://arxiv.org/abs/1511.05952.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_rl.buffers.arrays import to_device
from lightning_rl.buffers.replay import ReplayBuffer
from lightning_rl.errors import ConfigError, NonFiniteError, ShapeError, StateError


class SumTree:
    """Priorities p_0, p_1, ... of a fixed number of leaves, drawn from in logarithmic time.

    A binary tree in one array: node i's children are 2i and 2i + 1, and it holds their sum.

    Example:
        >>> tree = SumTree(3)
        >>> tree[np.array([0, 1, 2])] = np.array([1.0, 0.0, 3.0])
        >>> tree.total, tree.find(np.array([0.1, 0.3, 0.9])).tolist()
        (4.0, [0, 2, 2])
    """

    def __init__(self, num_leaves: int) -> None:
        self.num_leaves = num_leaves
        self.depth = max(1, (num_leaves - 1).bit_length())
        self.first_leaf = 2**self.depth
        self.sums = np.zeros(2 * self.first_leaf)

    @property
    def total(self) -> float:
        """The sum of all priorities."""
        return float(self.sums[1])

    @property
    def leaves(self) -> NDArray[np.float64]:
        """All priorities, (num_leaves,), as a view."""
        return self.sums[self.first_leaf : self.first_leaf + self.num_leaves]

    def __getitem__(self, leaves: NDArray[np.int64]) -> NDArray[np.float64]:
        """Give some leaves' priorities, (B,)."""
        priorities: NDArray[np.float64] = self.sums[self.first_leaf + leaves]
        return priorities

    def __setitem__(self, leaves: NDArray[np.int64], priorities: NDArray[np.float64]) -> None:
        """Set some leaves' priorities, (B,), and every sum above them."""
        nodes = self.first_leaf + leaves
        self.sums[nodes] = priorities
        for _ in range(self.depth):
            nodes = nodes >> 1
            self.sums[nodes] = self.sums[2 * nodes] + self.sums[2 * nodes + 1]

    def find(self, fractions: NDArray[np.float64]) -> NDArray[np.int64]:
        """Find the leaves in which these fractions, (B,) in [0, 1), of the total fall."""
        left_over = fractions * self.total
        nodes = np.ones(len(fractions), dtype=np.int64)
        for _ in range(self.depth):
            nodes = 2 * nodes
            left = self.sums[nodes]
            goes_right = left_over >= left
            left_over = left_over - np.where(goes_right, left, 0.0)
            nodes = nodes + goes_right
        leaves: NDArray[np.int64] = np.minimum(nodes - self.first_leaf, self.num_leaves - 1)
        return leaves


class PrioritizedReplayBuffer(ReplayBuffer):
    """A `ReplayBuffer` that draws transition i with P(i) = p_i^α / Σ p^α (eq. 1).

    New transitions get the largest priority so far, so that each is seen soon; after an update
    the agent sets p_i = |δ_i| + ε by `update_priorities` (section 3.3, the proportional variant).

    Args:
        *args: as for `ReplayBuffer`.
        priority_exponent: α; 0 would draw uniformly.
        importance_exponent: β; 1 corrects the bias in full. It may be changed at any time.
        **options: as for `ReplayBuffer`.

    Raises:
        ConfigError: for an exponent outside of [0, 1].

    Example:
        >>> from gymnasium import spaces
        >>> box, actions = spaces.Box(-1, 1, (4,)), spaces.Discrete(2)
        >>> len(PrioritizedReplayBuffer(1000, 8, box, actions, priority_exponent=0.6))
        0
    """

    def __init__(
        self,
        *args: Any,
        priority_exponent: float = 0.6,
        importance_exponent: float = 0.4,
        **options: Any,
    ) -> None:
        exponents = {"priority": priority_exponent, "importance": importance_exponent}
        for name, value in exponents.items():
            if not 0 <= value <= 1:
                raise ConfigError(f"{name}_exponent={value}; expected a number in [0, 1].")
        self.priority_exponent, self.importance_exponent = priority_exponent, importance_exponent
        self.max_priority = 1.0
        self._fresh = 0  # rows added since their priorities were set
        super().__init__(*args, **options)
        self.priorities = SumTree(self._num_slots)

    # ---- drawing -----------------------------------------------------------------------------

    def sample(self, batch_size: int, generator: torch.Generator | None = None) -> dict[str, Any]:
        """Draw B transitions by priority: one from each B-th part of the total.

        Returns:
            As `ReplayBuffer.sample`, and weights (B,): (1 / (size · P(i)))^β, divided by the
            batch's largest; indices (B,), for `update_priorities`.

        Raises:
            StateError: if the buffer holds fewer than B transitions.
        """
        self._check_filled(batch_size)
        self._set_fresh_priorities()
        strata = torch.rand(batch_size, dtype=torch.float64, generator=generator).numpy()
        slots = self.priorities.find((strata + np.arange(batch_size)) / batch_size)
        empty = np.flatnonzero(self._flat_flags.take(slots) == 0)  # only ever by rounding
        if len(empty):
            slots[empty] = self._draw(len(empty), generator)
        chances = self.priorities[slots] / self.priorities.total
        weights = (self._num_valid * chances) ** -self.importance_exponent
        return self._gather(slots) | {
            "weights": torch.from_numpy((weights / weights.max()).astype(np.float32)),
            "indices": torch.from_numpy(slots),
        }

    def minibatches(
        self,
        count: int,
        batch_size: int,
        generator: torch.Generator | None = None,
        device: torch.device | str = "cpu",
        dtype: Any = None,
    ) -> Iterator[dict[str, Any]]:
        """Draw minibatches one by one, as each depends on the priorities set after the last."""
        for _ in range(count):
            yield to_device(self.sample(batch_size, generator), device, dtype)

    # ---- priorities --------------------------------------------------------------------------

    def update_priorities(self, indices: Tensor, errors: Tensor) -> None:
        """Set p_i = |δ_i| + ε of drawn transitions; ε = 1e-6 keeps all of them possible.

        Args:
            indices: (B,) as `sample` gave them, before anything was added.
            errors: (B,) TD errors δ.

        Raises:
            ShapeError: if the shapes differ.
            NonFiniteError: if an error is NaN or infinite.
        """
        if indices.shape != errors.shape:
            raise ShapeError(
                f"got {tuple(errors.shape)} errors for {tuple(indices.shape)} indices; expected "
                "one each."
            )
        magnitudes = errors.detach().abs().cpu().double().numpy() + 1e-6
        priorities = magnitudes**self.priority_exponent
        largest = float(priorities.max())
        if not math.isfinite(largest):
            raise NonFiniteError(
                f"got a TD error of {errors.abs().max()}; expected finite numbers. No priority was "
                "changed. Try a smaller learning rate."
            )
        self.max_priority = max(self.max_priority, largest)
        self.priorities[indices.cpu().numpy()] = priorities

    def _set_fresh_priorities(self) -> None:
        if not self._fresh:
            return
        rows = np.append(self._last_rows(self._fresh), self.head)
        slots = (rows[:, None] * self.num_envs + np.arange(self.num_envs)).ravel()
        has_transition = self._flat_flags.take(slots) > 0
        self.priorities[slots] = np.where(has_transition, self.max_priority, 0.0)
        self._fresh = 0

    def _advance(self) -> None:
        super()._advance()
        self._fresh = min(self._fresh + 1, self.num_rows - 1)

    def _recount(self) -> None:
        super()._recount()
        self._fresh = self.num_rows - 1 if self._num_valid else 0  # all priorities are set anew

    # ---- saving ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Give what `ReplayBuffer.state_dict` gives, and the priorities."""
        self._set_fresh_priorities()
        own = {"priorities": self.priorities.leaves, "max_priority": self.max_priority}
        return super().state_dict() | own

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave.

        Raises:
            StateError: if it is of a buffer with another layout, or without priorities.
        """
        if "priorities" not in state:
            raise StateError(
                "the checkpoint's replay buffer has no priorities; use the settings the agent was "
                "trained with."
            )
        super().load_state_dict(state)
        self.max_priority = state["max_priority"]
        # A folder may have gone on since: what is new there has no priority yet.
        saved = np.where(state["priorities"] > 0, state["priorities"], self.max_priority)
        is_valid = self._flat_flags > 0
        self.priorities[np.arange(self._num_slots)] = np.where(is_valid, saved, 0.0)
        self._fresh = 0
