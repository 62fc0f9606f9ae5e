"""Encoders: from observations of every kind to one vector of features."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import torch
from gymnasium import Space, spaces
from torch import Tensor, nn
from torch.nn.functional import one_hot

from lightning_rl.errors import SpaceError

IMAGE_CHANNELS: Final = (1, 3, 4)
ObservationTensors = Tensor | Mapping[str, Tensor]
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
        self.dtype_holder: Tensor
        self.register_buffer(
            "dtype_holder", torch.empty(0), persistent=False
        )  # has the network's dtype

    def forward(self, observations: Tensor) -> Tensor:
        """Flatten to (B, output_size), in the network's dtype."""
        if self.classes:
            columns = observations.reshape(len(observations), -1).long().unbind(-1)
            entries = zip(columns, self.classes, self.starts, strict=True)
            observations = torch.cat([one_hot(c - start, n) for c, n, start in entries], dim=-1)
        return observations.reshape(len(observations), -1).to(self.dtype_holder.dtype)


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
