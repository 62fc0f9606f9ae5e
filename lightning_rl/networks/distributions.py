"""Action distributions: what a policy's output numbers mean.

Small on purpose: unlike `torch.distributions` they draw from a `torch.Generator` of their own, so a
run can be resumed bit for bit, and they skip checks that cost more than the mathematics.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor
from torch.nn.functional import logsigmoid

from lightning_rl.errors import SpaceError

UNBOUNDED_WIDTH = 1e6


class ActionDistribution(Protocol):
    """A batch of B independent distributions over actions."""

    @property
    def mode(self) -> Tensor:
        """The most likely action of each row, (B,) or (B, A): what a greedy agent does."""

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw one action a row, (B,) or (B, A)."""

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-probability (or density) of one action a row, (B,)."""

    def entropy(self) -> Tensor:
        """Entropy of each row in nats, (B,)."""


def exponential_noise_like(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw Exp(1) noise on the CPU, so that a CPU generator serves every device.

    It stays float32: rounded to bfloat16, two choices of equal chance would often tie.
    """
    noise = torch.empty(logits.shape, dtype=torch.float32).exponential_(generator=generator)
    return noise.to(logits.device)


class Categorical:
    """One choice out of K. `logits` (B, K) -> actions (B,) int64.

    Example:
        >>> distribution = Categorical(torch.tensor([[0.0, 100.0]]))
        >>> distribution.mode, distribution.sample()
        (tensor([1]), tensor([1]))
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    @cached_property
    def log_probs(self) -> Tensor:
        """Normalised log-probabilities, (B, K)."""
        return self.logits.log_softmax(-1)

    @property
    def mode(self) -> Tensor:
        """The most likely choice, (B,)."""
        return self.logits.argmax(-1)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw (B,) choices by the Gumbel-max trick: argmax(logits - log E), E ~ Exp(1)."""
        return (self.logits - exponential_noise_like(self.logits, generator).log_()).argmax(-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log p(a), (B,)."""
        return self.log_probs.gather(-1, actions.unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """-Σ p log p, (B,)."""
        log_probs = self.log_probs
        return -(log_probs.exp() * log_probs).sum(-1)


class MultiCategorical:
    """A independent choices. `logits` (B, sum(nvec)) -> actions (B, A) int64."""

    def __init__(self, logits: Tensor, nvec: list[int]) -> None:
        self.parts = [Categorical(part) for part in torch.split(logits, nvec, dim=-1)]

    @property
    def mode(self) -> Tensor:
        """The most likely choices, (B, A)."""
        return torch.stack([part.mode for part in self.parts], dim=-1)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw (B, A) choices."""
        return torch.stack([part.sample(generator) for part in self.parts], dim=-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Sum of the choices' log-probabilities, (B,)."""
        columns = zip(self.parts, actions.unbind(-1), strict=True)
        return torch.stack([part.log_prob(column) for part, column in columns]).sum(0)

    def entropy(self) -> Tensor:
        """Sum of the choices' entropies, (B,)."""
        return torch.stack([part.entropy() for part in self.parts]).sum(0)


class Bernoulli:
    """A independent switches. `logits` (B, A) -> actions (B, A) float of 0 and 1."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits

    @property
    def mode(self) -> Tensor:
        """The likelier side of each switch, (B, A)."""
        return (self.logits > 0).to(self.logits.dtype)

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw (B, A) switches: on with probability σ(logit) = P(Exp(1) > -log σ(logit))."""
        threshold = -logsigmoid(self.logits)
        return (exponential_noise_like(self.logits, generator) > threshold).to(self.logits.dtype)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Σ a log σ(l) + (1 - a) log σ(-l), (B,)."""
        return torch.where(actions > 0, logsigmoid(self.logits), logsigmoid(-self.logits)).sum(-1)

    def entropy(self) -> Tensor:
        """Sum of the switches' entropies, (B,)."""
        on, off = logsigmoid(self.logits), logsigmoid(-self.logits)
        return -(on.exp() * on + off.exp() * off).sum(-1)


class DiagonalGaussian:
    """A independent normals. `mean` and `log_std` (B, A) -> actions (B, A) float, unbounded."""

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean, self.log_std = mean, log_std

    @property
    def mode(self) -> Tensor:
        """The mean, (B, A)."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw mean + std · noise, (B, A)."""
        noise = torch.randn(self.mean.shape, generator=generator).to(self.mean)
        return self.mean + self.log_std.exp() * noise

    def log_prob(self, actions: Tensor) -> Tensor:
        """Σ -½ ((a - μ) / σ)² - log σ - ½ log 2π, (B,)."""
        z = (actions - self.mean) / self.log_std.exp()
        return (-0.5 * z.square() - self.log_std - 0.5 * math.log(2 * math.pi)).sum(-1)

    def entropy(self) -> Tensor:
        """Σ log σ + ½ log 2πe, (B,)."""
        return (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum(-1)


class SquashedGaussian:
    """tanh of A independent normals. `mean` and `log_std` (B, A) -> actions (B, A) in (-1, 1).

        a = tanh u,  u ~ N(μ, σ²),  log π(a) = Σ log N(u; μ, σ²) - log(1 - tanh² u)

    The last term is exact, and finite however large u is: 1 - tanh² u = 4 σ(2u) σ(-2u), so its
    logarithm is 2 (log 2 + log σ(2u) - u), with the logistic function σ.

    Reference: Haarnoja et al. 2018, "Soft actor-critic algorithms and applications", appendix C,
    https://arxiv.org/abs/1812.05905.

    Example:
        >>> distribution = SquashedGaussian(torch.zeros(1, 1), torch.zeros(1, 1))
        >>> distribution.mode, distribution.log_prob(torch.zeros(1, 1))
        (tensor([[0.]]), tensor([-0.9189]))
    """

    def __init__(self, mean: Tensor, log_std: Tensor) -> None:
        self.mean, self.log_std = mean, log_std

    @property
    def mode(self) -> Tensor:
        """Tanh of the mean, (B, A): what a greedy agent does."""
        return self.mean.tanh()

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """Draw one action a row, (B, A)."""
        return self.sample_with_log_prob(generator)[0]

    def sample_with_log_prob(
        self, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw actions (B, A) with their log-probabilities (B,); gradients flow through both."""
        noise = torch.randn(self.mean.shape, generator=generator).to(self.mean)
        before = torch.addcmul(self.mean, self.log_std.exp(), noise)  # u
        normal = -0.5 * noise.square() - self.log_std - 0.5 * math.log(2 * math.pi)
        return before.tanh(), (normal - self._log_slope(before)).sum(-1)

    def log_prob(self, actions: Tensor) -> Tensor:
        """Log-density of actions (B, A) in (-1, 1), (B,)."""
        before = actions.atanh()
        normal = DiagonalGaussian(self.mean, self.log_std).log_prob(before)
        return normal - self._log_slope(before).sum(-1)

    @staticmethod
    def _log_slope(before: Tensor) -> Tensor:
        """Give log(1 - tanh² u) of each number."""
        return 2.0 * (math.log(2.0) + logsigmoid(before + before) - before)


def action_scale(space: spaces.Box) -> tuple[Tensor, Tensor]:
    """Give the middle of a Box's bounds and half their width, (A,), so that ±1 spans them.

    They are 0 and 1 where there are no finite bounds, or as good as none: a million wide or more.

    Example:
        >>> action_scale(spaces.Box(0, 100, (1,)))
        (tensor([50.]), tensor([50.]))
    """
    low, high = (torch.from_numpy(bound.astype(np.float64)) for bound in (space.low, space.high))
    is_finite = ((high - low) < UNBOUNDED_WIDTH) & (high > low)
    center = torch.where(is_finite, (high + low) / 2, 0.0)
    return center.float(), torch.where(is_finite, (high - low) / 2, 1.0).float()


def num_action_parameters(space: Space) -> int:
    """Count the numbers a policy must output for one action.

    Discrete(n): n logits. MultiDiscrete: sum(nvec) logits. MultiBinary(n): n logits. Box with A
    numbers: A means, then A log standard deviations.

    Raises:
        SpaceError: if the space is of another kind.

    Example:
        >>> num_action_parameters(spaces.MultiDiscrete([3, 2]))
        5
    """
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        return int(space.nvec.sum())
    if isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
        return int(space.shape[0])
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return 2 * int(space.shape[0])
    raise SpaceError(
        f"action space {space} is not supported; expected Discrete, or a MultiDiscrete, "
        "MultiBinary or Box with one axis. Wrap the environment so that its actions are one vector."
    )


def action_distribution(parameters: Tensor, space: Space) -> ActionDistribution:
    """Read a policy's output (B, P) as a distribution over the actions of `space`.

    Args:
        parameters: (B, P) with P = `num_action_parameters(space)`.
        space: the action space of one sub-environment.

    Example:
        >>> action_distribution(torch.zeros(1, 4), spaces.Discrete(4)).entropy()
        tensor([1.3863])
    """
    if isinstance(space, spaces.Discrete):
        return Categorical(parameters)
    if isinstance(space, spaces.MultiDiscrete):
        return MultiCategorical(parameters, space.nvec.tolist())
    if isinstance(space, spaces.MultiBinary):
        return Bernoulli(parameters)
    mean, log_std = parameters.chunk(2, dim=-1)
    return DiagonalGaussian(mean, log_std)
