"""Encoders: from observations of every kind to one vector of features."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, TypeVar

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor, nn
from torch.nn.functional import one_hot

from lightning_rl.errors import ConfigError, SpaceError

IMAGE_CHANNELS: Final = (1, 3, 4)
GREY_PIXELS: Final = 16  # rows and columns at least; a smaller array is a table of numbers
LARGE_PIXELS: Final = 36  # the least for which Mnih et al.'s three convolutions leave a pixel
LARGE_KERNELS: Final = ((32, 8, 4, 0), (64, 4, 2, 0), (64, 3, 1, 0))  # filters, size, stride, pad
SMALL_KERNELS: Final = ((32, 3, 2, 1), (64, 3, 2, 1), (64, 3, 2, 1))
IMAGES_AT_ONCE: Final = 256  # without gradients: their features fit the cache
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
    """Tell whether a space holds images: a uint8 Box of pixels, frames or stacks of frames.

    Three axes are rows, columns and channels in either order (stacked grey frames are channels),
    four a stack of such frames, as `gymnasium.wrappers.FrameStackObservation` makes it. Two are a
    grey image if they are pixels, 0 to 255, with at least 16 rows and columns; else a table.
    """
    if not isinstance(space, spaces.Box) or space.dtype != np.uint8:
        return False
    if len(space.shape) == 2:
        return min(space.shape) >= GREY_PIXELS and bool((space.high == 255).all())
    return len(space.shape) in (3, 4)


def channels_are_last(space: spaces.Box, channels: str | None = None) -> bool:
    """Tell which axis of an image with three or four holds the channels: the last, or the first.

    Channels are at most half as many as rows or columns or, where that decides nothing, 1, 3 or 4.

    Args:
        space: of the images.
        channels: "first" or "last", for those whose shape does not say it.

    Raises:
        SpaceError: naming both readings, if neither is likelier.
        ConfigError: if `channels` is something else.
    """
    if channels not in ("first", "last", None):
        raise ConfigError(f"channels={channels!r}; expected 'first', 'last' or None.")
    if channels is not None:
        return channels == "last"
    first, middle, last = space.shape[-3:]  # without the axis of a stack
    if min(first, last) < middle and 2 * min(first, last) <= max(first, last):
        return last < first
    if (first in IMAGE_CHANNELS) != (last in IMAGE_CHANNELS):
        return last in IMAGE_CHANNELS
    raise SpaceError(
        f"images of shape {space.shape[-3:]} can be read as {first} channels of {middle} x {last} "
        f"pixels, or as {last} channels of {first} x {middle}. Say which by an argument of the "
        "network, as in ActorCriticNetwork(channels='last'). If they are no images, flatten them "
        "with gymnasium.wrappers.FlattenObservation."
    )


class ImageEncoder(nn.Module):
    """Three strided convolutions and a linear layer: -> (B, output_size).

    It takes images (B, H, W, C) or (B, C, H, W), grey ones (B, H, W), and stacks of frames
    (B, S, ...), whose channels are joined. The convolutions are those of Mnih et al. 2015, "Human-
    level control through deep reinforcement learning", https://doi.org/10.1038/nature14236, where
    there are 36 pixels each way; smaller images get kernels of 3 pixels.

    Args:
        space: of the images.
        channels: "first" or "last". Default: as their shape says (`channels_are_last`).
    """

    output_size: int = 256

    def __init__(self, space: spaces.Box, channels: str | None = None) -> None:
        super().__init__()
        self.channels_last = len(space.shape) > 2 and channels_are_last(space, channels)
        shape = space.shape
        if self.channels_last:
            shape = (*shape[:-3], shape[-1], *shape[-3:-1])
        height, width = shape[-2:]
        self.shape = (math.prod(shape[:-2]), height, width)  # joined channels first
        kernels = LARGE_KERNELS if min(height, width) >= LARGE_PIXELS else SMALL_KERNELS
        layers: list[nn.Module] = []
        inputs = self.shape[0]
        for outputs, kernel, stride, padding in kernels:
            convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding)
            layers += [orthogonal(convolution, math.sqrt(2)), nn.ReLU(inplace=True)]
            height, width = ((n + 2 * padding - kernel) // stride + 1 for n in (height, width))
            inputs = outputs
        linear = orthogonal(nn.Linear(inputs * height * width, self.output_size), math.sqrt(2))
        self.layers = nn.Sequential(*layers, nn.Flatten(), linear, nn.ReLU(inplace=True))
        in_memory: Any = {"memory_format": torch.channels_last}  # a third faster on a CPU
        self.layers.to(**in_memory)

    def forward(self, images: Tensor) -> Tensor:
        """Scale 0..255 to 0..1 and encode."""
        traced = torch.compiler.is_compiling()  # for any number of images
        if not (torch.is_grad_enabled() or traced) and len(images) > IMAGES_AT_ONCE:  # a rollout
            return torch.cat([self(part) for part in torch.split(images, IMAGES_AT_ONCE)])
        if self.channels_last:
            images = images.movedim(-1, -3)  # (B, H, W, C) -> (B, C, H, W)
        images = images.reshape(-1, *self.shape)  # join the channels of a stack
        numbers = images.to(next(self.parameters()).dtype, copy=True).div_(255)
        features: Tensor = self.layers(numbers)
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
            columns = observations.reshape(observations.shape[0], -1).long().unbind(-1)
            entries = zip(columns, self.classes, self.starts, strict=True)
            observations = torch.cat([one_hot(c - start, n) for c, n, start in entries], dim=-1)
        return observations.reshape(observations.shape[0], -1).to(self.dtype_holder.dtype)


class DictEncoder(nn.Module):
    """Encode every entry of a Dict observation and join the results: -> (B, output_size)."""

    def __init__(self, space: spaces.Dict, channels: str | None = None) -> None:
        super().__init__()
        if any(isinstance(part, spaces.Dict) for part in space.values()):
            raise SpaceError(
                f"observation space {space} is not supported, as it has a Dict within a Dict; "
                "gymnasium.wrappers.FlattenObservation can turn it into a Box."
            )
        encoders = [make_encoder(part, channels) for part in space.values()]
        self.keys = list(space)  # a ModuleDict would refuse some names, such as "a.b" or "keys"
        self.encoders = nn.ModuleList(encoders)
        self.output_size = sum(encoder.output_size for encoder in encoders)

    def forward(self, observations: Mapping[str, Tensor]) -> Tensor:
        """Encode and concatenate, in the order of the space's keys."""
        entries = zip(self.keys, self.encoders, strict=True)
        return torch.cat([encoder(observations[key]) for key, encoder in entries], dim=-1)


def make_encoder(space: Space, channels: str | None = None) -> Any:
    """Choose the encoder for an observation space.

    Args:
        space: of one sub-environment's observations.
        channels: of images, "first" or "last". Default: as their shape says.

    Raises:
        SpaceError: if the space is of a kind that no encoder takes, or the channels are unclear.
    """
    if isinstance(space, spaces.Dict):
        return DictEncoder(space, channels)
    if is_image(space):
        return ImageEncoder(space, channels)  # type: ignore[arg-type]
    return VectorEncoder(space)
