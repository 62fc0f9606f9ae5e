"""The networks of a world model: an ensemble, computed side by side."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from gymnasium import Space, spaces
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from lightning_rl.errors import NonFiniteError, ShapeError, SpaceError, StateError
from lightning_rl.stats.normalization import RunningMoments

LOG_VARIANCE_RANGE = (-10.0, 1.0)  # of normalised targets: no member is surer or less sure


class EnsembleLinear(nn.Module):
    """E linear layers side by side, (E, B, inputs) -> (E, B, outputs), in one matrix product."""

    def __init__(self, num_members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        layers = [nn.Linear(inputs, outputs) for _ in range(num_members)]
        self.weight = nn.Parameter(torch.stack([layer.weight.T for layer in layers]).detach())
        self.bias = nn.Parameter(torch.stack([layer.bias[None] for layer in layers]).detach())

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply each layer to its own rows."""
        return torch.baddbmm(self.bias, inputs, self.weight)


class Outcome(NamedTuple):
    """What a step is expected to do, in the environment's units; any number of leading axes."""

    change: Tensor  # (..., D) mean of the next observation minus this one
    change_std: Tensor  # (..., D)
    reward: Tensor  # (...) mean
    reward_std: Tensor  # (...)
    termination_logit: Tensor  # (...)


class EnsembleNetwork(nn.Module):
    """The members' weights, and the statistics of the data they are trained on.

    Args:
        observation_space: a Box of D real numbers.
        action_space: Discrete, or a Box with one axis.
        num_members: E, networks that differ in their first weights.
        hidden_sizes: units of each hidden layer.

    Attributes:
        lowest, highest: (D,) the range of the observations in the data.
        lowest_reward: of the data.

    Raises:
        SpaceError: for other spaces.
    """

    choices: Tensor  # (n, n) one-hot rows of a Discrete's actions
    input_mean: Tensor  # (I,) of observations and actions
    input_std: Tensor
    target_mean: Tensor  # (D + 1,) of changes and rewards
    target_std: Tensor
    lowest: Tensor
    highest: Tensor
    lowest_reward: Tensor  # ()

    def __init__(
        self,
        observation_space: Space,
        action_space: Space,
        num_members: int,
        hidden_sizes: Sequence[int],
    ) -> None:
        super().__init__()
        self.num_members = num_members
        self.num_observed, self.num_choices, inputs = _sizes(observation_space, action_space)
        self.first_choice = int(getattr(action_space, "start", 0))
        targets = self.num_observed + 1  # the change of the observation, and the reward
        sizes = (inputs, *hidden_sizes, 2 * targets + 1)  # means, log-variances, termination
        self.layers = nn.ModuleList(EnsembleLinear(num_members, *pair) for pair in pairwise(sizes))
        for name, size in (("input", inputs), ("target", targets)):
            self.register_buffer(f"{name}_mean", torch.zeros(size))
            self.register_buffer(f"{name}_std", torch.ones(size))
        self.register_buffer("choices", torch.eye(self.num_choices), persistent=False)
        # Without data, no observation lies within the range of the data.
        self.register_buffer("lowest", torch.full((self.num_observed,), math.inf))
        self.register_buffer("highest", torch.full((self.num_observed,), -math.inf))
        self.register_buffer("lowest_reward", torch.tensor(math.inf))

    @property
    def is_measured(self) -> bool:
        """Whether the statistics were measured."""
        return bool((self.lowest <= self.highest).all())

    @torch.no_grad()
    def measure(self, batches: Iterable[Any]) -> None:
        """Set the statistics from one pass over the data.

        Raises:
            NonFiniteError: if there is a NaN or infinite number in the data.
            SpaceError: if an action is none of the choices.
            StateError: if there are no data.
        """
        inputs, targets = (
            RunningMoments(mean.shape) for mean in (self.input_mean, self.target_mean)
        )
        lowest, highest, rewards = [], [], []
        for batch in batches:
            rows = self.flatten_batch(batch)
            self.check_choices(rows["actions"])
            inputs.update(self.join(rows["observations"], rows["actions"]).cpu().numpy())
            targets.update(self.targets(rows).cpu().numpy())
            seen = torch.cat([rows["observations"], rows["next_observations"]])
            lowest.append(seen.amin(0))
            highest.append(seen.amax(0))
            rewards.append(rows["rewards"].amin())
        if not rewards:
            raise StateError("the training data hold no step; expected at least one. Collect some.")
        self._set_moments("input", inputs)
        self._set_moments("target", targets)
        self.lowest.copy_(torch.stack(lowest).amin(0))
        self.highest.copy_(torch.stack(highest).amax(0))
        self.lowest_reward.copy_(torch.stack(rewards).amin(0))

    def _set_moments(self, name: str, moments: RunningMoments) -> None:
        mean, std = torch.from_numpy(moments.mean), torch.from_numpy(moments.variance).sqrt()
        if not (mean.isfinite() & std.isfinite()).all():
            raise NonFiniteError(
                f"the data have NaN or inf in a {name}: the means are {mean.tolist()}; expected "
                "finite numbers. Collect them again, or leave those rows out."
            )
        getattr(self, f"{name}_mean").copy_(mean)
        getattr(self, f"{name}_std").copy_(torch.where(std > 1e-6, std, 1.0))  # if constant

    def flatten_batch(self, batch: Any) -> dict[str, Tensor]:
        """Check a batch and flatten it: (B, ...) or (B, window, ...) -> (rows, ...), as floats.

        Raises:
            ShapeError: if a field is missing, or has another shape than the spaces say.
        """
        names = ("observations", "actions", "rewards", "next_observations", "terminated")
        if not isinstance(batch, dict) or any(name not in batch for name in names):
            got = list(batch) if isinstance(batch, dict) else type(batch).__name__
            raise ShapeError(f"got a batch of {got}; expected a dict with {list(names)}.")
        leading = batch["rewards"].shape
        num_actions = len(self.input_mean) - self.num_observed
        observed: tuple[int, ...] = (self.num_observed,)
        own = {"observations": observed, "next_observations": observed}
        own["actions"] = () if self.num_choices else (num_actions,)
        rows = {}
        for name in names:
            expected = (*leading, *own.get(name, ()))
            if tuple(batch[name].shape) != expected:
                raise ShapeError(
                    f"the batch's {name} have shape {tuple(batch[name].shape)}; expected "
                    f"{expected}, as its rewards have shape {tuple(leading)}."
                )
            rows[name] = batch[name].reshape(leading.numel(), *own.get(name, ())).to(self.lowest)
        return rows

    def check_choices(self, actions: Tensor) -> None:
        """Check that Discrete actions, of any shape, are choices there are.

        Raises:
            SpaceError: naming the range of those that were got.
        """
        if not self.num_choices or actions.numel() == 0:
            return
        low, high = int(actions.min()), int(actions.max())
        last_choice = self.first_choice + self.num_choices - 1
        if low < self.first_choice or high > last_choice:
            raise SpaceError(
                f"got actions from {low} to {high}; expected {self.first_choice} to {last_choice}, "
                "as the environment takes them."
            )

    def join(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Join observations (..., D) and actions (...) or (..., A) to (..., I)."""
        if self.num_choices:
            actions = self.choices[actions.long() - self.first_choice]  # one-hot
        return torch.cat([observations, actions.to(observations)], dim=-1)

    def targets(self, rows: dict[str, Tensor]) -> Tensor:
        """Give what is to be predicted: the changes and the rewards, (B, D + 1)."""
        change = rows["next_observations"] - rows["observations"]
        return torch.cat([change, rows["rewards"].unsqueeze(-1)], dim=-1)

    def normalize_inputs(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Give the members' input, (..., I)."""
        return (self.join(observations, actions) - self.input_mean) / self.input_std

    def forward(self, inputs: Tensor) -> Tensor:
        """Let each member answer its own rows: (E, B, I) -> (E, B, 2 (D + 1) + 1)."""
        features = inputs
        for layer in self.layers[:-1]:
            features = silu(layer(features))
        outputs: Tensor = self.layers[-1](features)
        return outputs

    def split_outputs(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split outputs into normalised means and log-variances (..., D + 1), and logits (...)."""
        sizes = [self.num_observed + 1, self.num_observed + 1, 1]
        means, log_variances, logits = torch.split(outputs, sizes, dim=-1)
        low, high = LOG_VARIANCE_RANGE  # softly bounded, as in PETS, appendix A.1
        log_variances = high - softplus(high - log_variances)
        log_variances = low + softplus(log_variances - low)
        return means, log_variances, logits.squeeze(-1)

    def outcome(self, outputs: Tensor) -> Outcome:
        """Read outputs (..., 2 (D + 1) + 1) in the environment's units."""
        means, log_variances, logits = self.split_outputs(outputs)
        means = means * self.target_std + self.target_mean
        stds = (0.5 * log_variances).exp() * self.target_std
        return Outcome(means[..., :-1], stds[..., :-1], means[..., -1], stds[..., -1], logits)

    def disagreement(self, observations: Tensor) -> Tensor:
        """Measure how far members are apart: (E, ..., D) -> (...).

        The root mean square, over the D numbers, of their standard deviation over members, each
        in standard deviations of that number in the data.
        """
        spread = observations.std(0, correction=0) / self.input_std[: self.num_observed]
        return spread.square().mean(-1).sqrt()


def _sizes(observation_space: Space, action_space: Space) -> tuple[int, int, int]:
    """Count numbers of an observation, choices of a Discrete action (else 0), and inputs."""
    if not isinstance(observation_space, spaces.Box) or len(observation_space.shape) != 1:
        raise SpaceError(
            f"got the observation space {observation_space}; expected a Box with one axis. "
            "gymnasium.wrappers.FlattenObservation can make one."
        )
    if observation_space.dtype.kind != "f":
        raise SpaceError(
            f"got observations of dtype {observation_space.dtype}; expected real numbers, such as "
            "float32: a world model predicts their change."
        )
    size = observation_space.shape[0]
    if isinstance(action_space, spaces.Discrete):
        return size, int(action_space.n), size + int(action_space.n)
    if isinstance(action_space, spaces.Box) and len(action_space.shape) == 1:
        return size, 0, size + action_space.shape[0]
    raise SpaceError(
        f"got the action space {action_space}; expected Discrete or a Box of one axis."
    )
