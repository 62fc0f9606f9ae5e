"""Encoders: any space becomes one vector, and different observations never look alike."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from all_spaces import CHW, HWC, B, batch, built, observing
from gymnasium import Space, spaces
from torch.testing import assert_close

from lightning_rl.networks.encoders import ImageEncoder, make_encoder


@observing
def test_different_observations_never_look_alike(observation_space: Space) -> None:
    features = built(observation_space).encoder(batch(observation_space))
    different = {str(observation) for observation in rows_of(batch(observation_space))}
    assert len(features.unique(dim=0)) == len(different) > 1


def rows_of(observations: Any) -> list[Any]:
    if isinstance(observations, dict):
        return [{key: part[i] for key, part in observations.items()} for i in range(B)]
    return list(observations)


@pytest.mark.parametrize(
    ("space", "observations", "expected"),
    [
        (spaces.Discrete(3, start=5), [5, 7], [[1, 0, 0], [0, 0, 1]]),
        (spaces.MultiDiscrete([2, 2], start=[5, -1]), [[5, 0]], [[1, 0, 0, 1]]),
        (spaces.MultiBinary(2), [[0, 1]], [[0, 1]]),
        (spaces.Box(-1, 1, (2, 2)), [[[1, 2], [3, 4]]], [[1, 2, 3, 4]]),
    ],
    ids=str,
)
def test_encoding_by_hand(space: Space, observations: Any, expected: list[list[float]]) -> None:
    encoder = make_encoder(space)
    assert encoder(torch.tensor(observations)).tolist() == expected
    assert encoder.output_size == len(expected[0])


def test_dict_is_encoded_in_the_order_of_its_space() -> None:
    """So weights fit whatever order an environment gives the entries in."""
    space = spaces.Dict(OrderedDict(z=spaces.Discrete(2), a=spaces.Box(-1, 1, (1,))))
    observations = {"a": torch.tensor([[0.5]]), "z": torch.tensor([1])}
    assert make_encoder(space)(observations).tolist() == [[0, 1, 0.5]]


def test_channels_first_and_last_images_are_encoded_alike() -> None:
    first, last = ImageEncoder(CHW), ImageEncoder(HWC)
    last.load_state_dict(first.state_dict())
    images = batch(CHW)
    assert torch.equal(first(images), last(images.movedim(1, -1)))


def test_images_are_scaled_to_one() -> None:
    """The encoder without biases is linear up to ReLU, so its input's scale shows in its output."""
    encoder, white = ImageEncoder(CHW), torch.full((1, 3, 12, 10), 255, dtype=torch.uint8)
    assert_close(encoder(white), encoder.layers(torch.ones(1, 3, 12, 10)))
