"""Encoders: any space becomes one vector, and different observations never look alike."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from all_spaces import CHW, HWC, B, batch, built, observing
from gymnasium import Space, spaces
from torch.testing import assert_close

from lightning_rl.errors import ConfigError, SpaceError
from lightning_rl.networks.action_values import QNetwork, SoftActorCriticNetwork
from lightning_rl.networks.actor_critic import ActorCriticNetwork
from lightning_rl.networks.encoders import ImageEncoder, is_image, make_encoder


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


def pixels(*shape: int) -> spaces.Box:
    return spaces.Box(0, 255, shape, "uint8")


@pytest.mark.parametrize(
    ("shape", "channels"),
    [
        ((84, 84, 4), 4), ((4, 84, 84), 4), ((210, 160, 3), 3), ((32, 24, 12), 12),
        ((12, 32, 24), 12), ((32, 24, 2), 2), ((7, 7, 3), 3), ((2, 2, 3), 3), ((1, 4, 4), 1),
        ((32, 24), 1), ((4, 32, 24, 3), 12), ((4, 3, 32, 24), 12), ((2, 32, 24, 1), 2),
    ],
)  # fmt: skip
def test_channels_are_the_axis_with_the_fewest_entries_and_frames_of_a_stack_are_joined(
    shape: tuple[int, ...], channels: int
) -> None:
    encoder = make_encoder(pixels(*shape))
    assert encoder.layers[0].in_channels == channels
    assert encoder(batch(pixels(*shape))).shape == (B, encoder.output_size)


@pytest.mark.parametrize("shape", [(8, 8, 8), (20, 30, 24), (24, 12, 32), (4, 5, 3), (9, 6, 6, 6)])
def test_an_unclear_axis_of_channels_is_asked_for(shape: tuple[int, ...]) -> None:
    first, middle, last = shape[-3:]
    readings = f"{first} channels of {middle} x {last} pixels, or as {last} channels of {first} x"
    with pytest.raises(SpaceError, match=readings):
        make_encoder(pixels(*shape))
    with pytest.raises(ConfigError, match="channels='middle'; expected 'first', 'last' or None"):
        make_encoder(pixels(*shape), "middle")


NETWORKS = (
    (ActorCriticNetwork, spaces.Discrete(2), lambda n: [n.encoder]),
    (QNetwork, spaces.Discrete(2), lambda n: [n.encoder]),
    (SoftActorCriticNetwork, spaces.Box(-1, 1, (1,)), lambda n: [n.actor[0], n.critics.encoder]),
)


@pytest.mark.parametrize(("kind", "action_space", "encoders"), NETWORKS)
def test_every_network_can_be_told_where_the_channels_are(
    kind: Any, action_space: Space, encoders: Any
) -> None:
    for channels, expected in (("first", 20), ("last", 24)):
        network = kind(channels=channels)
        network.build(spaces.Dict({"camera": pixels(20, 30, 24)}), action_space)
        for encoder in encoders(network):
            assert encoder.encoders[0].layers[0].in_channels == expected


def test_a_stacks_frames_keep_their_place_whatever_the_order_of_axes() -> None:
    """The same frames, channels last and first, joined by hand and in the encoder."""
    stack = batch(pixels(2, 16, 12, 3))  # (B, S, H, W, C)
    by_hand = stack.permute(0, 1, 4, 2, 3).reshape(B, 6, 16, 12)
    encoders = [
        make_encoder(pixels(*shape)) for shape in ((2, 16, 12, 3), (2, 3, 16, 12), (6, 16, 12))
    ]
    for encoder in encoders[1:]:
        encoder.load_state_dict(encoders[0].state_dict())
    features = [
        encoder(images)
        for encoder, images in zip(encoders, (stack, stack.movedim(-1, 2), by_hand), strict=True)
    ]
    assert torch.equal(features[0], features[1])
    assert torch.equal(features[0], features[2])


@pytest.mark.parametrize(
    ("space", "is_one"),
    [
        (pixels(32, 24), True), (pixels(16, 16), True), (pixels(15, 40), False),
        (pixels(4, 128), False), (spaces.Box(0, 2, (20, 20), "uint8"), False),
        (pixels(128), False), (spaces.Box(0, 255, (32, 24, 3), "float32"), False),
        (spaces.Box(0, 255, (32, 24, 3), "int64"), False), (spaces.MultiBinary([32, 24]), False),
    ],
)  # fmt: skip
def test_what_is_an_image(space: Space, is_one: bool) -> None:
    assert is_image(space) == is_one
    assert isinstance(make_encoder(space), ImageEncoder) == is_one


@pytest.mark.parametrize("shape", [(36, 36, 1), (12, 10, 3)])
def test_a_rollout_of_images_is_encoded_in_parts_to_the_same_features(
    shape: tuple[int, ...],
) -> None:
    torch.manual_seed(0)
    encoder = make_encoder(pixels(*shape))
    images = torch.randint(0, 256, (600, *shape), dtype=torch.uint8)
    with torch.no_grad():
        in_parts = encoder(images)
    assert_close(in_parts, encoder(images), rtol=1e-4, atol=1e-5)
