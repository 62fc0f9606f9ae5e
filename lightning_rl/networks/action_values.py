"""Networks of action values Q(s, a), sized by the environment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import torch
from gymnasium import Space, spaces
from torch import Tensor, nn

from lightning_rl.networks.actor_critic import TwinLinear
from lightning_rl.networks.distributions import num_action_parameters
from lightning_rl.networks.encoders import ObservationTensors, make_encoder


def relu() -> nn.Module:
    """Make a max(0, x) that overwrites its input: the layer before it does not need it again."""
    return nn.ReLU(inplace=True)


class QNetwork(nn.Module):
    """The value of every action, built when the agent meets its environment.

    Args:
        hidden_sizes: units of each hidden layer.
        activation: the layer between the linear ones.
        layer_norm: normalise what each hidden layer's activation gets. It keeps TD learning from
            diverging (Gallici et al. 2024, https://arxiv.org/abs/2407.04811).
        channels: axis of images' channels, "first" or "last". Default: as their shape says.

    Example:
        >>> network = QNetwork(hidden_sizes=(32,))
        >>> network.build(spaces.Box(-1, 1, (4,)), spaces.Discrete(2))
        >>> network(torch.zeros(5, 4)).shape
        torch.Size([5, 2])
    """

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (64, 64),
        activation: Callable[[], nn.Module] = relu,
        layer_norm: bool = True,
        channels: str | None = None,
    ) -> None:
        super().__init__()
        self.hidden_sizes, self.activation = tuple(hidden_sizes), activation
        self.layer_norm, self.channels = layer_norm, channels

    def build(self, observation_space: Space, action_space: spaces.Discrete) -> None:
        """Create the layers for these spaces. Called by `bind_env`, once."""
        self.encoder = make_encoder(observation_space, self.channels)
        sizes = (int(self.encoder.output_size), *self.hidden_sizes, int(action_space.n))
        self.layers = mlp(sizes, self.activation, self.layer_norm)

    def forward(self, observations: ObservationTensors) -> Tensor:
        """Return Q(s, a) of every action, (B, n), for B observations."""
        values: Tensor = self.layers(self.encoder(observations))
        return values


def mlp(
    sizes: Sequence[int], activation: Callable[[], nn.Module], layer_norm: bool = False
) -> nn.Sequential:
    """Stack linear layers, (B, sizes[0]) -> (B, sizes[-1]), with an activation between them."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes[:-1]):
        norm = [nn.LayerNorm(outputs)] if layer_norm else []
        layers += [nn.Linear(inputs, outputs), *norm, activation()]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class SoftActorCriticNetwork(nn.Module):
    """A Gaussian policy and two action values, built when the agent meets its environment.

    Args:
        hidden_sizes: units of each hidden layer, of the policy and of either value alike. The
            default is small and quick, for tasks like Pendulum-v1; the paper has (256, 256).
        activation: the layer between the linear ones.
        channels: axis of images' channels, "first" or "last". Default: as their shape says.

    Example:
        >>> network = SoftActorCriticNetwork(hidden_sizes=(32,))
        >>> network.build(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)))
        >>> observations, actions = torch.zeros(5, 3), torch.zeros(5, 2)
        >>> network.actor(observations).shape, network.critics(observations, actions).shape
        (torch.Size([5, 4]), torch.Size([2, 5]))
    """

    def __init__(
        self,
        hidden_sizes: Sequence[int] = (64, 64),
        activation: Callable[[], nn.Module] = relu,
        channels: str | None = None,
    ) -> None:
        super().__init__()
        self.hidden_sizes, self.activation = tuple(hidden_sizes), activation
        self.channels = channels

    def build(self, observation_space: Space, action_space: spaces.Box) -> None:
        """Create the layers for these spaces. Called by `bind_env`, once."""
        encoders = [make_encoder(observation_space, self.channels) for _ in range(2)]
        outputs = num_action_parameters(action_space)  # A means, then A log-deviations
        sizes = (int(encoders[0].output_size), *self.hidden_sizes, outputs)
        self.actor = Actor(encoders[0], mlp(sizes, self.activation))
        self.critics = TwinCritic(encoders[1], outputs // 2, self.hidden_sizes, self.activation)


class Actor(nn.Sequential):
    """An encoder, then a perceptron: observations -> means and log-deviations, (B, 2A)."""

    def forward(self, observations: ObservationTensors) -> Tensor:
        """Apply them, as `nn.Sequential` does, of whose own `forward` torch compiles nothing."""
        encoder, perceptron = self
        parameters: Tensor = perceptron(encoder(observations))
        return parameters


class TwinCritic(nn.Module):
    """Two action values of the same shape that share nothing but the encoder of observations.

    They are computed side by side: one matrix product a layer for both.
    """

    def __init__(
        self,
        encoder: Any,
        num_actions: int,
        hidden_sizes: Sequence[int],
        activation: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        sizes = (int(encoder.output_size) + num_actions, *hidden_sizes)
        self.hidden = nn.ModuleList(TwinLinear(*pair) for pair in pairwise(sizes))
        self.activation = activation()
        self.last = TwinLinear(sizes[-1], 1)

    def forward(self, observations: ObservationTensors, actions: Tensor) -> Tensor:
        """Return Q_1 and Q_2, (2, B), of B observations and actions (B, A)."""
        features = self.encoder(observations)
        features = torch.cat([features, actions.to(features.dtype)], dim=-1)
        features = features.expand(2, *features.shape)  # without a copy
        for layer in self.hidden:
            features = self.activation(layer(features))
        # A sum, because a matrix product of a single column is several times as slow.
        values: Tensor = (features * self.last.weight.mT).sum(-1) + self.last.bias.squeeze(-1)
        return values
