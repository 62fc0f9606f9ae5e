"""Running statistics that scale what an environment returns; part of the agent's state."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from numpy.typing import NDArray
from torch import nn

from lightning_rl.buffers.arrays import check_finite
from lightning_rl.errors import SpaceError
from lightning_rl.networks.encoders import is_image
from lightning_rl.ranks import Gather, alone


class RunningMoments:
    """Mean and variance of everything seen so far, merged batch by batch.

    Args:
        shape: of one item.

    Example:
        >>> moments = RunningMoments(())
        >>> moments.update(np.array([1.0, 3.0]))
        >>> float(moments.mean), float(moments.variance)
        (2.0, 1.0)

    Reference: Chan, Golub, LeVeque 1979, "Updating formulae and a pairwise algorithm for computing
    sample variances", equation 2.1.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.mean = np.zeros(shape, dtype=np.float64)
        self.variance = np.ones(shape, dtype=np.float64)
        self.count = 0

    def update(self, items: NDArray[Any], gather: Gather = alone) -> None:
        """Merge the batches of items, (B, *shape), of all processes. An empty one changes nothing.

        Args:
            items: of this process.
            gather: tells what the others have; all must call it. Default: there are none.
        """
        mean = items.mean(0, dtype=np.float64) if len(items) else np.zeros_like(self.mean)
        variance = items.var(0, dtype=np.float64) if len(items) else mean
        counts = np.full_like(mean, len(items))
        for count, *batch in gather(np.stack([counts, mean, variance])):  # in the ranks' order
            if added := int(count.flat[0]):
                self._merge(added, *batch)

    def _merge(self, added: int, mean: NDArray[np.float64], variance: NDArray[np.float64]) -> None:
        total = self.count + added
        delta = mean - self.mean
        squares = self.variance * self.count + variance * added
        self.variance = (squares + delta**2 * self.count * added / total) / total
        self.mean = self.mean + delta * added / total
        self.count = total

    def state_dict(self) -> dict[str, Any]:
        """Give the statistics as tensors and a number."""
        mean, variance = torch.as_tensor(self.mean), torch.as_tensor(self.variance)
        return {"mean": mean.clone(), "variance": variance.clone(), "count": self.count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the statistics by saved ones."""
        self.mean, self.variance = state["mean"].numpy().copy(), state["variance"].numpy().copy()
        self.count = state["count"]


class ObservationNormalizer(nn.Module):
    """Shifts and scales observations to mean 0 and variance 1, clipped to ±10.

    Args:
        space: a Box, of real numbers or of integers.

    Attributes:
        space: a Box of what comes out.

    Raises:
        SpaceError: for another space.

    The statistics change only in `update`, between a rollout and the next, so the policy that
    acts and the policy that is trained see the same numbers. Evaluation never updates them.
    """

    clip = 10.0

    def __init__(self, space: Space) -> None:
        super().__init__()
        if not isinstance(space, spaces.Box) or is_image(space):
            raise SpaceError(
                f"observations of {space} can't be normalised; expected a Box that is no image. "
                "Set normalize_observations=False."
            )
        self.moments = RunningMoments(space.shape)
        self.space = spaces.Box(-self.clip, self.clip, space.shape)  # of what is normalised
        self._pending: list[NDArray[Any]] = []

    def forward(self, observations: NDArray[Any]) -> NDArray[np.float32]:
        """Normalise (N, *shape) observations."""
        scaled = (observations - self.moments.mean) / np.sqrt(self.moments.variance + 1e-8)
        return np.clip(scaled, -self.clip, self.clip).astype(np.float32)

    def get_extra_state(self) -> dict[str, Any]:
        """Give the statistics a place among the weights: they belong to the policy."""
        return self.moments.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take over the statistics that came with the weights."""
        self.moments.load_state_dict(state)

    def collect(self, observations: Any) -> None:
        """Keep raw (N, *shape) observations for the next `update`."""
        self._pending.append(observations.copy())

    def forget_pending(self) -> None:
        """Forget what was collected since the last `update`: its rollout was given up."""
        self._pending.clear()

    def update(self, gather: Gather = alone) -> None:
        """Merge what was collected, in all processes, into the statistics.

        Args:
            gather: as in `RunningMoments.update`.

        Raises:
            NonFiniteError: for a NaN or inf, which clipping has hidden from the buffer.
        """
        if self._pending:
            collected = np.stack(self._pending)  # (T, N, *shape)
            check_finite("observations", collected, first_step=1)
            self.moments.update(collected.reshape(-1, *collected.shape[2:]), gather)
            self._pending.clear()


class RewardScaler:
    """Divides rewards by the standard deviation of the running discounted return.

    The mean is not subtracted: that would change what the best policy is.

    Args:
        num_envs: N, sub-environments.
        gamma: discount factor.

    Reference: Engstrom et al. 2020, "Implementation matters in deep policy gradients", algorithm 1.
    """

    def __init__(self, num_envs: int, gamma: float) -> None:
        self.gamma = gamma
        self.moments = RunningMoments(())
        self.returns = np.zeros(num_envs, dtype=np.float64)

    def __call__(
        self,
        rewards: NDArray[Any],
        ended: NDArray[np.bool_],
        valid: NDArray[np.bool_],
        gather: Gather = alone,
    ) -> NDArray[np.float32]:
        """Scale a rollout's rewards, (T, N), after merging its returns; reset rows do not count.

        The returns of all processes are merged by `gather`, as in `RunningMoments.update`.
        """
        seen = []
        for reward, end, real in zip(rewards, ended, valid, strict=True):
            self.returns = np.where(real, self.returns * self.gamma + reward, 0.0)
            seen.append(self.returns[real])
            self.returns[end] = 0.0
        self.moments.update(np.concatenate(seen), gather)
        return (rewards / np.sqrt(self.moments.variance + 1e-8)).astype(np.float32)

    def state_dict(self) -> dict[str, Any]:
        """Give the statistics and the running returns, (N,)."""
        return {**self.moments.state_dict(), "returns": torch.from_numpy(self.returns.copy())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Replace the statistics by saved ones."""
        self.moments.load_state_dict(state)
        self.returns = state["returns"].numpy().copy()
