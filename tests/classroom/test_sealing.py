"""The package's formulas in a process of answers: gone, unless a problem set gives them."""

from __future__ import annotations

from collections.abc import Iterator
from types import FunctionType

import pytest
import torch

from lightning_rl import functional
from lightning_rl.agents import ppo
from lightning_rl.classroom.sealing import seal

OFF = torch.zeros(2, 1, dtype=torch.bool)
ROLLOUT = (torch.ones(2, 1), torch.zeros(2, 1), torch.zeros(2, 1), OFF, OFF, 0.5, 1.0)


@pytest.fixture(autouse=True)
def unsealed() -> Iterator[None]:
    """Put the functions back, which a process of answers never does."""
    own = [one for one in vars(functional).values() if isinstance(one, FunctionType)]
    parts = [(one, one.__code__, one.__defaults__, one.__kwdefaults__) for one in own]
    yield
    for one, *before in parts:
        one.__code__, one.__defaults__, one.__kwdefaults__ = before


def test_a_formula_is_gone_also_where_it_was_imported_before() -> None:
    seal([torch, "student"])
    for gae in (functional.gae, ppo.gae):
        with pytest.raises(NotImplementedError, match="write the formula yourself"):
            gae(*ROLLOUT)


def test_no_function_is_forgotten() -> None:
    seal([])
    own = [one for one in vars(functional).values() if isinstance(one, FunctionType)]
    assert len({one.__code__ for one in own if one.__module__ == functional.__name__}) == 1


def test_what_the_setup_gives_stays_with_what_it_calls_and_nothing_else() -> None:
    seal([functional.gae])
    assert functional.gae(*ROLLOUT).tolist() == [[1.5], [1.0]]
    with pytest.raises(NotImplementedError):
        functional.discounted_returns(torch.ones(2, 1), OFF, OFF, 0.5)


def test_a_setup_that_gives_the_module_gives_all_of_it() -> None:
    seal([functional])
    assert functional.gae(*ROLLOUT).tolist() == [[1.5], [1.0]]
