"""Policies that are handed in as text: numbers for a network of a known kind, never code."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from lightning_rl.classroom.wire import WireError, pack, unpack
from lightning_rl.errors import SubmissionError

ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU, "silu": nn.SiLU}
MAX_TEXT = 2**20  # characters, some 190,000 weights
MAX_UNITS = 256
MAX_LAYERS = 5


class Perceptron(nn.Module):
    """The one kind of network that can be handed in: layers of units, fully connected.

    Args:
        sizes: inputs, units of each hidden layer, outputs; each at most 256, six at most.
        activation: between layers, "tanh", "relu" or "silu".

    Raises:
        SubmissionError: if it is none that can be handed in.

    Example:
        >>> Perceptron([4, 16, 2])(torch.zeros(8, 4)).shape
        torch.Size([8, 2])
    """

    def __init__(self, sizes: Sequence[int], activation: str = "tanh") -> None:
        super().__init__()
        fits = all(type(size) is int and 1 <= size <= MAX_UNITS for size in sizes)
        if not fits or not 2 <= len(sizes) <= MAX_LAYERS + 1:
            raise SubmissionError(f"got sizes {list(sizes)[:10]}; expected 2 to 6, of 1 to 256.")
        if activation not in ACTIVATIONS:
            raise SubmissionError(f"got {activation!r:.40}; expected one of {list(ACTIVATIONS)}.")
        self.sizes, self.activation = list(sizes), activation
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, observations: Tensor) -> Tensor:
        """Give outputs, (N, outputs), for observations, (N, inputs)."""
        outputs: Tensor = self.layers(observations)
        return outputs


def policy_text(network: Perceptron) -> str:
    """Write a network as text, to be put into an answer cell.

    Example:
        >>> read_policy(policy_text(Perceptron([4, 2])), 4, 2).sizes
        [4, 2]
    """
    weights = {name: value.detach() for name, value in network.state_dict().items()}
    told = {"sizes": network.sizes, "activation": network.activation, "weights": weights}
    return base64.b64encode(pack(told)).decode()


def read_policy(text: Any, inputs: int, outputs: int) -> Perceptron:
    """Make the network that a text holds; nothing in it is unpickled, imported or called.

    Args:
        text: of `policy_text`.
        inputs: numbers in an observation.
        outputs: numbers that the environment expects.

    Raises:
        SubmissionError: if it holds no such network.
    """
    if type(text) is not str or len(text) > MAX_TEXT:
        raise SubmissionError(
            f"got a {type(text).__name__}; expected what `policy_text` gives, of at most "
            f"{MAX_TEXT} characters."
        )
    try:
        told = unpack(base64.b64decode(text, validate=True))
        sizes, activation, weights = told["sizes"], told["activation"], dict(told["weights"])
        network = Perceptron(list(sizes), str(activation))
        network.load_state_dict(weights)
    except (WireError, binascii.Error, KeyError, TypeError, ValueError, RuntimeError) as error:
        if isinstance(error, SubmissionError):
            raise
        raise SubmissionError(
            f"the policy can't be read ({type(error).__name__}); hand in what `policy_text` gives."
        ) from error
    if (network.sizes[0], network.sizes[-1]) != (inputs, outputs):
        raise SubmissionError(f"got sizes {network.sizes}; expected [{inputs}, ..., {outputs}].")
    if not all(bool(torch.isfinite(value).all()) for value in network.parameters()):
        raise SubmissionError("the policy has weights that are no finite numbers.")
    return network.requires_grad_(False).eval()
