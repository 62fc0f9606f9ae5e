"""Expectations: what counts as equal, and what is said if it isn't."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from lightning_rl.classroom.expectations import MismatchError, expect


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (1, 1.0),
        (torch.tensor(1.0), 1),
        (np.array([1.0, 2.0]), torch.tensor([1.0, 2.0])),
        (torch.tensor([True, False]), [True, False]),
        (torch.ones(2, 3, requires_grad=True), np.ones((2, 3))),
        (float("inf"), float("inf")),
        ("a", "a"),
        (None, None),
        ({"a": torch.ones(2), "b": 1}, {"b": 1, "a": [1.0, 1.0]}),
        ([torch.ones(2), "a"], (torch.ones(2), "a")),
        (1.0 + 1e-7, 1.0),
    ],
)
def test_alike_values_pass(got: Any, expected: Any) -> None:
    expect(got, expected)


@pytest.mark.parametrize(
    ("got", "expected", "words"),
    [
        (2.0, 3.0, "got 2.0; expected 3.0"),
        (torch.ones(3, 1), torch.ones(3), r"got shape \(3, 1\); expected \(3,\)"),
        (torch.tensor([1.0, float("nan")]), [1.0, float("nan")], r"at \[1\]: nan"),
        (None, 3.0, "got None"),
        (3.0, None, "expected None"),
        ("a", "b", "got 'a'; expected 'b'"),
        ({"a": 1}, {"b": 1}, r"expected a dict with keys \['b'\]"),
        ({"a": 1}, {"a": 2}, "'a': got 1.0; expected 2.0"),
        ([torch.ones(2)], [torch.ones(2), torch.ones(2)], "got 1; expected 2 values"),
        ([torch.ones(2)], [torch.zeros(2)], "value 0"),
        ("many", [1.0], "got 'many'"),
        ([[1], [2, 3]], [1.0, 2.0], "got"),
        (object(), 1.0, "got <object"),
    ],
)
def test_others_are_told_in_words(got: Any, expected: Any, words: str) -> None:
    with pytest.raises(MismatchError, match=words):
        expect(got, expected)


def test_an_object_that_says_it_equals_everything_equals_nothing() -> None:
    class Liar:
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

    for expected in (1.0, "a", None, [1.0], {"a": 1}, [torch.ones(1)]):
        with pytest.raises(MismatchError):
            expect(Liar(), expected)


def test_the_promise_stands_before_the_difference_and_long_values_are_cut() -> None:
    with pytest.raises(MismatchError, match=r"^the sum: got shape"):
        expect(torch.ones(2), torch.ones(3), "the sum")
    with pytest.raises(MismatchError) as caught:
        expect(torch.ones(5000), torch.zeros(5000))
    assert len(str(caught.value)) < 600


def test_a_teachers_expectation_that_can_not_be_compared_is_an_error() -> None:
    with pytest.raises(TypeError, match="can't compare with object"):
        expect(1, object())
