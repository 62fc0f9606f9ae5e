"""Spaces of every kind, with batches of their observations, for the tests beside it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium import Space, spaces
from gymnasium.vector.utils import batch_space

from lightning_rl.buffers.arrays import to_tensor
from lightning_rl.networks.actor_critic import ActorCriticNetwork

B = 5


BOX = spaces.Box(-1, 1, (4,))

HWC = spaces.Box(0, 255, (12, 10, 3), "uint8")

CHW = spaces.Box(0, 255, (3, 12, 10), "uint8")


OBSERVATION_SPACES: dict[str, Space] = {
    "box": BOX,
    "box_float64": spaces.Box(-1, 1, (4,), "float64"),
    "box_scalar": spaces.Box(-1, 1, ()),
    "box_matrix": spaces.Box(-1, 1, (3, 3)),
    "box_uint8_flat": spaces.Box(0, 255, (6,), "uint8"),
    "discrete": spaces.Discrete(3),
    "discrete_start": spaces.Discrete(3, start=-7),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_discrete_start": spaces.MultiDiscrete([2, 3], start=[5, -1]),
    "multi_discrete_matrix": spaces.MultiDiscrete([[2, 3], [4, 2]]),
    "multi_binary": spaces.MultiBinary(4),
    "multi_binary_matrix": spaces.MultiBinary([2, 3]),
    "image_hwc": HWC,
    "image_chw": CHW,
    "image_grey": spaces.Box(0, 255, (9, 9, 1), "uint8"),
    "dict": spaces.Dict({"camera": HWC, "speed": BOX, "gear": spaces.Discrete(3)}),
    "dict_awkward_names": spaces.Dict({"a.b": BOX, "keys": BOX, "": BOX, "forward": BOX}),
}

ACTION_SPACES: dict[str, Space] = {
    "discrete": spaces.Discrete(2),
    "discrete_start": spaces.Discrete(2, start=3),
    "multi_discrete": spaces.MultiDiscrete([3, 2]),
    "multi_binary": spaces.MultiBinary(3),
    "box": spaces.Box(-2, 2, (2,)),
}

observing = pytest.mark.parametrize(
    "observation_space", OBSERVATION_SPACES.values(), ids=OBSERVATION_SPACES.keys()
)


def batch(space: Space) -> Any:
    batched = batch_space(space, B)
    batched.seed(0)
    return to_tensor(batched.sample())


def built(observation_space: Space, action_space: Space = ACTION_SPACES["discrete"]) -> Any:
    torch.manual_seed(0)
    network = ActorCriticNetwork((8,))
    network.build(observation_space, action_space)
    return network
