"""Policies handed in as text: what is read is a network of the known kind, or a clear error."""

from __future__ import annotations

import base64
import pickle
from typing import Any

import pytest
import torch

from lightning_rl.classroom.policies import Perceptron, policy_text, read_policy
from lightning_rl.classroom.wire import pack
from lightning_rl.errors import SubmissionError


class Bomb:
    """Would end the process that unpickles it."""

    def __reduce__(self) -> Any:
        return (exit, (1,))


def text_of(**changes: Any) -> str:
    weights = dict(Perceptron([4, 3, 2]).state_dict())
    told = {"sizes": [4, 3, 2], "activation": "tanh", "weights": weights} | changes
    return base64.b64encode(pack(told)).decode()


@pytest.mark.parametrize("activation", ["tanh", "relu", "silu"])
def test_a_network_comes_back_the_same(activation: str) -> None:
    network = Perceptron([4, 8, 2], activation)
    observations = torch.randn(5, 4)
    again = read_policy(policy_text(network), 4, 2)
    assert torch.equal(again(observations), network(observations))
    assert not any(one.requires_grad for one in again.parameters())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "got a NoneType"),
        ("A" * 2**20 + "A", "at most"),
        ("not base64!", "can't be read"),
        ("", "can't be read"),
        (base64.b64encode(pickle.dumps(Bomb())).decode(), "can't be read"),
        (base64.b64encode(pack([1, 2])).decode(), "can't be read"),
        (text_of(sizes=[4, 5, 2]), "can't be read"),
        (text_of(sizes=[10**9, 2]), "expected 2 to 6, of 1 to 256"),
        (text_of(sizes=[4, True, 2]), "expected 2 to 6"),
        (text_of(sizes=[4]), "expected 2 to 6"),
        (text_of(activation="os.system"), "expected one of"),
        (text_of(weights={}), "can't be read"),
        (policy_text(Perceptron([5, 2])), r"expected \[4, ..., 2\]"),
        (policy_text(Perceptron([4, 3])), r"expected \[4, ..., 2\]"),
    ],
)
def test_anything_else_is_refused_in_words(text: Any, words: str) -> None:
    with pytest.raises(SubmissionError, match=words):
        read_policy(text, 4, 2)


def test_weights_that_are_no_numbers_are_refused() -> None:
    network = Perceptron([4, 2])
    with torch.no_grad():
        network.layers[0].bias.fill_(torch.nan)
    with pytest.raises(SubmissionError, match="finite"):
        read_policy(policy_text(network), 4, 2)
