"""What a copy may hold in common with its original, and what not."""

from __future__ import annotations

import copy
import random
from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from counting_env import CountingEnv

from lightning_rl.envs.handles import find_handle, find_shared, is_plain


class Single:
    """An object of which there is only one."""

    def __deepcopy__(self, memo: Any) -> Single:
        return self


class Connection:
    def __del__(self) -> None: ...


class CopiedConnection(Connection):
    def __deepcopy__(self, memo: Any) -> CopiedConnection:
        return CopiedConnection()


def holding(value: Any) -> CountingEnv:
    env = CountingEnv([3])
    env.held = value  # type: ignore[attr-defined]
    return env


NESTED: list[Any] = [
    lambda thing: thing,
    lambda thing: [1, {"a": (2, thing)}],
    lambda thing: SimpleNamespace(deep=SimpleNamespace(thing=thing)),
]


@pytest.mark.parametrize("nest", NESTED)
@pytest.mark.parametrize("thing", [Single(), random.Random(0).random])  # noqa: S311
def test_what_a_copy_shares_is_named_however_deep_it_is(nest: Any, thing: Any) -> None:
    env = holding(nest(thing))
    assert find_shared([env], [copy.deepcopy(env)]) == "CountingEnv.held"


@pytest.mark.parametrize("nest", NESTED)
@pytest.mark.parametrize("thing", [1.5, "text", None, np.zeros(2), len, int, np.float32(1), {1: 2}])
def test_what_is_copied_or_never_changes_is_not(nest: Any, thing: Any) -> None:
    env = holding(nest(thing))
    assert find_shared([env], [copy.deepcopy(env)]) is None


@pytest.mark.parametrize("nest", NESTED)
def test_what_ends_something_when_it_is_deleted_is_a_handle(nest: Any) -> None:
    assert find_handle([holding(nest(Connection()))]) == "CountingEnv.held"
    assert find_handle([holding(nest(CopiedConnection()))]) is None


def test_circles_are_gone_round_once() -> None:
    circle = SimpleNamespace()
    circle.next = [circle]
    assert find_handle([holding(circle)]) is None


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ([1, (2.0, {"a": np.zeros(2)})], True),
        (np.random.default_rng(0), True),
        (deque([True, None, "text"]), True),
        ([Single()], False),
        ({"a": len}, False),
    ],
)
def test_numbers_text_and_arrays_are_plain(value: Any, plain: bool) -> None:
    assert is_plain(value) == plain
