"""The actor-critic network: a policy beside a value function, sized by the environment."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from lightning_rl.errors import ShapeError
from lightning_rl.networks.distributions import action_scale, num_action_parameters
from lightning_rl.networks.encoders import ObservationTensors, make_encoder, orthogonal


class FastTanh(nn.Module):
    """tanh x = 2σ(2x) - 1, because torch's sigmoid is eight times as fast as its tanh on a CPU."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply it to each number."""
        sigmoid = torch.sigmoid(inputs + inputs)
        return sigmoid + sigmoid - 1  # sums: a product with a number costs torch five calls more


class TwinLinear(nn.Module):
    """Two linear layers side by side, (2, B, inputs) -> (2, B, outputs), in one matrix product."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        weights = [orthogonal(nn.Linear(inputs, outputs), math.sqrt(2)).weight.T for _ in range(2)]
        self.weight = nn.Parameter(torch.stack(weights).detach())  # (2, inputs, outputs)
        self.bias = nn.Parameter(torch.zeros(2, 1, outputs))

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply each layer to its half."""
        return torch.baddbmm(self.bias, inputs, self.weight)

    def first(self, inputs: Tensor) -> Tensor:
        """Apply only the first layer, (B, inputs) -> (B, outputs)."""
        return torch.addmm(self.bias[0], inputs, self.weight[0])


class GaussianHead(nn.Module):
    """The last layer of a policy over a Box: -> means and log-deviations, (B, 2A).

    They are in the units of the bounds, which ±1 of the linear layer spans (`action_scale`).

    Args:
        inputs: features of a row.
        space: the actions.
        log_std: log-deviation at the start, relative to the bounds: 0 reaches from the middle to
            either. It is learned, but does not depend on the state (Schulman et al. 2017,
            section 6.1).
    """

    def __init__(self, inputs: int, space: spaces.Box, log_std: float = 0.0) -> None:
        super().__init__()
        center, reach = action_scale(space)
        self.center = nn.Buffer(center, persistent=False)  # (A,)
        self.reach = nn.Buffer(reach, persistent=False)  # (A,)
        self.linear = orthogonal(nn.Linear(inputs, len(center)), 0.01)
        self.log_std = nn.Parameter(reach.log() + log_std)

    def forward(self, features: Tensor) -> Tensor:
        """Give the parameters of an `action_distribution`."""
        means = torch.addcmul(self.center, self.reach, self.linear(features))
        return torch.cat([means, self.log_std.expand_as(means)], dim=-1)


class ActorCriticNetwork(nn.Module):
    """A policy and a value function, built when the agent meets its environment.

    Two perceptrons of the same shape share nothing but the encoder (which has no weights unless
    the observations are images). They are computed side by side: `hidden` holds the policy's
    layers first and the value function's second. Any `nn.Module` can take this network's place if
    its `forward` returns the same two outputs.

    Args:
        hidden_sizes: units of each hidden layer, for the policy and the value function alike.
        activation: the layer between the linear ones.
        channels: axis of images' channels, "first" or "last". Default: as their shape says.
        log_std: of a Box's actions at the start (`GaussianHead`).

    Example:
        >>> network = ActorCriticNetwork(hidden_sizes=(32,))
        >>> network.build(spaces.Box(-1, 1, (4,)), spaces.Discrete(2))
        >>> parameters, values = network(torch.zeros(5, 4))
        >>> parameters.shape, values.shape
        (torch.Size([5, 2]), torch.Size([5]))
    """

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (64, 64),
        activation: Callable[[], nn.Module] = FastTanh,
        channels: str | None = None,
        log_std: float = 0.0,
    ) -> None:
        super().__init__()
        self.hidden_sizes, self.activation = tuple(hidden_sizes), activation()
        self.channels, self.log_std = channels, log_std

    def build(self, observation_space: Space, action_space: Space) -> None:
        """Create the layers for these spaces. Called by `bind_env`, once."""
        outputs = num_action_parameters(action_space)
        self.encoder = make_encoder(observation_space, self.channels)
        sizes = [int(self.encoder.output_size), *self.hidden_sizes]
        self.hidden: Any = nn.ModuleList(TwinLinear(*pair) for pair in pairwise(sizes))
        if isinstance(action_space, spaces.Box):
            self.actor: nn.Module = GaussianHead(sizes[-1], action_space, self.log_std)
        else:
            self.actor = orthogonal(nn.Linear(sizes[-1], outputs), 0.01)
        self.critic = orthogonal(nn.Linear(sizes[-1], 1), 1.0)

    def forward(self, observations: ObservationTensors) -> tuple[Tensor, Tensor]:
        """Return the action parameters (B, P) and the values (B,) of B observations.

        P is `num_action_parameters(action_space)`: the logits, or the means and log-deviations.
        """
        features = self.encoder(observations)
        features = features.expand(2, *features.shape)  # (B, F) -> (2, B, F), without a copy
        for layer in self.hidden:
            features = self.activation(layer(features))
        policy_features, value_features = features.unbind(0)
        return self.actor(policy_features), self.critic(value_features).squeeze(-1)

    def policy(self, observations: ObservationTensors) -> Tensor:
        """Return only the action parameters (B, P): half the work where values are not needed."""
        features = self.encoder(observations)
        for layer in self.hidden:
            features = self.activation(layer.first(features))
        parameters: Tensor = self.actor(features)
        return parameters


def check_actor_critic_outputs(outputs: Any, batch_size: int, action_space: Space) -> None:
    """Check that a network returned `(action parameters (B, P), values (B,))`.

    Raises:
        ShapeError: naming the output that is wrong, what was got and what is expected.
    """
    expected = [(batch_size, num_action_parameters(action_space)), (batch_size,)]
    got = [type(o).__name__ for o in outputs] if isinstance(outputs, tuple) else type(outputs)
    if got != ["Tensor", "Tensor"]:
        raise ShapeError(
            f"the network returned {got}; expected a tuple of two tensors, "
            f"action parameters {expected[0]} and values {expected[1]}."
        )
    names = ("action parameters", "values")
    for name, output, shape in zip(names, outputs, expected, strict=True):
        if tuple(output.shape) != shape:
            raise ShapeError(
                f"the network's {name} have shape {tuple(output.shape)}; expected {shape} for "
                f"{action_space}. Change the network's last layer (or squeeze its last axis)."
            )
