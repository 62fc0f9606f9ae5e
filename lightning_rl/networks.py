"""Networks: from observations to action parameters and values, sized by the environment."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, TypeVar

import torch
from gymnasium import Space, spaces
from torch import Tensor, nn
from torch.nn.functional import one_hot

from lightning_rl.distributions import num_action_parameters
from lightning_rl.errors import ShapeError, SpaceError

IMAGE_CHANNELS: Final = (1, 3, 4)

Observations = Tensor | Mapping[str, Tensor]
Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)


def orthogonal(layer: Layer, gain: float) -> Layer:
    """Initialise a layer's weight as `gain` times an orthogonal matrix and its bias as zero.

    Reference: Andrychowicz et al. 2021, "What matters in on-policy RL", appendix B.7: a policy
    head of small weights (gain 0.01) starts close to uniform and learns faster.
    """
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def is_image(space: Space) -> bool:
    """Tell whether a space holds images: a uint8 Box with three axes."""
    return isinstance(space, spaces.Box) and space.dtype == "uint8" and len(space.shape) == 3


class ImageEncoder(nn.Module):
    """Three strided convolutions and a linear layer: (B, H, W, C) or (B, C, H, W) -> (B, 256).

    The axis that has 1, 3 or 4 entries, looked for last first, is taken as the channels.
    """

    output_size: int = 256

    def __init__(self, space: spaces.Box) -> None:
        super().__init__()
        self.channels_last = space.shape[-1] in IMAGE_CHANNELS
        height, width = space.shape[:2] if self.channels_last else space.shape[1:]
        channels = space.shape[-1] if self.channels_last else space.shape[0]
        layers: list[nn.Module] = []
        for inputs, outputs in ((channels, 32), (32, 64), (64, 64)):
            layers += [
                orthogonal(nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), math.sqrt(2)),
                nn.ReLU(),
            ]
            height, width = math.ceil(height / 2), math.ceil(width / 2)
        linear = orthogonal(nn.Linear(64 * height * width, self.output_size), math.sqrt(2))
        self.layers = nn.Sequential(*layers, nn.Flatten(), linear, nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """Scale 0..255 to 0..1 and encode."""
        if self.channels_last:
            images = images.movedim(-1, 1)  # (B, H, W, C) -> (B, C, H, W)
        features: Tensor = self.layers(images.to(next(self.parameters()).dtype) / 255)
        return features


class VectorEncoder(nn.Module):
    """Flatten a Box, one-hot encode a Discrete or MultiDiscrete: (B, ...) -> (B, output_size)."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.classes: list[int] = []
        self.starts: list[int] = []  # the smallest value of each class, usually 0
        if isinstance(space, spaces.Discrete):
            self.classes, self.starts = [int(space.n)], [int(space.start)]
        elif isinstance(space, spaces.MultiDiscrete):
            self.classes, self.starts = space.nvec.ravel().tolist(), space.start.ravel().tolist()
        elif not isinstance(space, spaces.Box | spaces.MultiBinary):
            raise SpaceError(
                f"observation space {space} is not supported; expected Box, Discrete, "
                "MultiDiscrete, MultiBinary or a Dict of them. A wrapper such as "
                "gymnasium.wrappers.FlattenObservation can turn it into one."
            )
        self.output_size = sum(self.classes) if self.classes else math.prod(space.shape or ())
        self.like: Tensor
        self.register_buffer("like", torch.empty(0), persistent=False)  # has the network's dtype

    def forward(self, observations: Tensor) -> Tensor:
        """Flatten to (B, output_size), in the network's dtype."""
        if self.classes:
            columns = observations.reshape(len(observations), -1).long().unbind(-1)
            entries = zip(columns, self.classes, self.starts, strict=True)
            observations = torch.cat([one_hot(c - start, n) for c, n, start in entries], dim=-1)
        return observations.reshape(len(observations), -1).to(self.like.dtype)


class DictEncoder(nn.Module):
    """Encode every entry of a Dict observation and join the results: -> (B, output_size)."""

    def __init__(self, space: spaces.Dict) -> None:
        super().__init__()
        if any(isinstance(part, spaces.Dict) for part in space.values()):
            raise SpaceError(
                f"observation space {space} is not supported, as it has a Dict within a Dict; "
                "gymnasium.wrappers.FlattenObservation can turn it into a Box."
            )
        encoders = [make_encoder(part) for part in space.values()]
        self.keys = list(space)  # a ModuleDict would refuse some names, such as "a.b" or "keys"
        self.encoders = nn.ModuleList(encoders)
        self.output_size = sum(encoder.output_size for encoder in encoders)

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Encode and concatenate, in the order of the space's keys."""
        entries = zip(self.keys, self.encoders, strict=True)
        return torch.cat([encoder(observations[key]) for key, encoder in entries], dim=-1)


def make_encoder(space: Space) -> Any:
    """Choose the encoder for an observation space.

    Raises:
        SpaceError: if the space is of a kind that no encoder takes.
    """
    if isinstance(space, spaces.Dict):
        return DictEncoder(space)
    return ImageEncoder(space) if is_image(space) else VectorEncoder(space)  # type: ignore[arg-type]


class Tanh(nn.Module):
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


class ActorCriticNetwork(nn.Module):
    """A policy and a value function, built when the agent meets its environment.

    Two perceptrons of the same shape share nothing but the encoder (which has no weights unless
    the observations are images). They are computed side by side: `hidden` holds the policy's
    layers first and the value function's second. Any `nn.Module` can take this network's place if
    its `forward` returns the same two outputs.

    Args:
        hidden_sizes: units of each hidden layer, for the policy and the value function alike.
        activation: the layer between the linear ones.

    Example:
        >>> network = ActorCriticNetwork(hidden_sizes=(32,))
        >>> network.build(spaces.Box(-1, 1, (4,)), spaces.Discrete(2))
        >>> parameters, values = network(torch.zeros(5, 4))
        >>> parameters.shape, values.shape
        (torch.Size([5, 2]), torch.Size([5]))
    """

    def __init__(
        self, hidden_sizes: Sequence[int] = (64, 64), activation: type[nn.Module] = Tanh
    ) -> None:
        super().__init__()
        self.hidden_sizes = tuple(hidden_sizes)
        self.activation = activation()

    def build(self, observation_space: Space, action_space: Space) -> None:
        """Create the layers for these spaces. Called by `bind_env`, once."""
        outputs = num_action_parameters(action_space)
        continuous = isinstance(action_space, spaces.Box)
        self.encoder = make_encoder(observation_space)
        sizes = [int(self.encoder.output_size), *self.hidden_sizes]
        self.hidden: Any = nn.ModuleList(TwinLinear(*pair) for pair in pairwise(sizes))
        self.actor = orthogonal(nn.Linear(sizes[-1], outputs // (2 if continuous else 1)), 0.01)
        self.critic = orthogonal(nn.Linear(sizes[-1], 1), 1.0)
        # A Gaussian's spread does not depend on the state (Schulman et al. 2017, section 6.1).
        self.log_std = nn.Parameter(torch.zeros(outputs // 2)) if continuous else None

    def forward(self, observations: Observations) -> tuple[Tensor, Tensor]:
        """Return the action parameters (B, P) and the values (B,) of B observations.

        P is `num_action_parameters(action_space)`: the logits, or the means and log-deviations.
        """
        features = self.encoder(observations)
        features = features.expand(2, *features.shape)  # (B, F) -> (2, B, F), without a copy
        for layer in self.hidden:
            features = self.activation(layer(features))
        policy_features, value_features = features.unbind(0)
        return self.action_parameters(policy_features), self.critic(value_features).squeeze(-1)

    def policy(self, observations: Observations) -> Tensor:
        """Return only the action parameters (B, P): half the work where values are not needed."""
        features = self.encoder(observations)
        for layer in self.hidden:
            features = self.activation(layer.first(features))
        return self.action_parameters(features)

    def action_parameters(self, features: Tensor) -> Tensor:
        """Apply the policy's last layer, (B, F) -> (B, P)."""
        outputs: Tensor = self.actor(features)
        if self.log_std is None:
            return outputs
        return torch.cat([outputs, self.log_std.expand_as(outputs)], dim=-1)


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
    ) -> None:
        super().__init__()
        self.hidden_sizes, self.activation = tuple(hidden_sizes), activation
        self.layer_norm = layer_norm

    def build(self, observation_space: Space, action_space: spaces.Discrete) -> None:
        """Create the layers for these spaces. Called by `bind_env`, once."""
        self.encoder = make_encoder(observation_space)
        sizes = (int(self.encoder.output_size), *self.hidden_sizes, int(action_space.n))
        self.layers = perceptron(sizes, self.activation, self.layer_norm)

    def forward(self, observations: Observations) -> Tensor:
        """Return Q(s, a) of every action, (B, n), for B observations."""
        values: Tensor = self.layers(self.encoder(observations))
        return values


def perceptron(
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

    Example:
        >>> network = SoftActorCriticNetwork(hidden_sizes=(32,))
        >>> network.build(spaces.Box(-1, 1, (3,)), spaces.Box(-1, 1, (2,)))
        >>> observations, actions = torch.zeros(5, 3), torch.zeros(5, 2)
        >>> network.actor(observations).shape, network.critics(observations, actions).shape
        (torch.Size([5, 4]), torch.Size([2, 5]))
    """

    def __init__(
        self, hidden_sizes: Sequence[int] = (64, 64), activation: Callable[[], nn.Module] = relu
    ) -> None:
        super().__init__()
        self.hidden_sizes, self.activation = tuple(hidden_sizes), activation

    def build(self, observation_space: Space, action_space: spaces.Box) -> None:
        """Create the layers for these spaces. Called by `bind_env`, once."""
        encoder = make_encoder(observation_space)
        outputs = num_action_parameters(action_space)  # A means, then A log-deviations
        sizes = (int(encoder.output_size), *self.hidden_sizes, outputs)
        self.actor = nn.Sequential(encoder, perceptron(sizes, self.activation))
        self.critics = TwinCritic(
            observation_space, outputs // 2, self.hidden_sizes, self.activation
        )


class TwinCritic(nn.Module):
    """Two action values of the same shape that share nothing but an image's encoder.

    They are computed side by side: one matrix product a layer for both.
    """

    def __init__(
        self,
        observation_space: Space,
        num_actions: int,
        hidden_sizes: Sequence[int],
        activation: Callable[[], nn.Module],
    ) -> None:
        super().__init__()
        self.encoder = make_encoder(observation_space)
        sizes = (int(self.encoder.output_size) + num_actions, *hidden_sizes)
        self.hidden = nn.ModuleList(TwinLinear(*pair) for pair in pairwise(sizes))
        self.activation = activation()
        self.last = TwinLinear(sizes[-1], 1)

    def forward(self, observations: Observations, actions: Tensor) -> Tensor:
        """Return Q_1 and Q_2, (2, B), of B observations and actions (B, A)."""
        features = self.encoder(observations)
        features = torch.cat([features, actions.to(features.dtype)], dim=-1)
        features = features.expand(2, *features.shape)  # without a copy
        for layer in self.hidden:
            features = self.activation(layer(features))
        # A sum, because a matrix product of a single column is several times as slow.
        values: Tensor = (features * self.last.weight.mT).sum(-1) + self.last.bias.squeeze(-1)
        return values
