"""Action distributions: torch's numbers, from a generator of one's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import Space, spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch import distributions as reference
from torch.testing import assert_close

from lightning_rl.errors import SpaceError
from lightning_rl.networks.distributions import (
    ActionDistribution,
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    MultiCategorical,
    action_distribution,
    num_action_parameters,
)

DRAWS = 100_000


@dataclass(frozen=True)
class Kind:
    """One of our distributions beside torch's, both made from parameters (B, 6)."""

    ours: Callable[[Tensor], ActionDistribution]
    theirs: Callable[[Tensor], list[Any]]  # torch's, one for each part of an action


KINDS = {
    "categorical": Kind(Categorical, lambda p: [reference.Categorical(logits=p)]),
    "multi_categorical": Kind(
        lambda p: MultiCategorical(p, [2, 1, 3]),
        lambda p: [reference.Categorical(logits=part) for part in p.split([2, 1, 3], -1)],
    ),
    "bernoulli": Kind(
        Bernoulli, lambda p: [reference.Bernoulli(logits=column) for column in p.unbind(-1)]
    ),
    "gaussian": Kind(
        lambda p: DiagonalGaussian(p[:, :3], p[:, 3:] / 10),
        lambda p: [reference.Normal(p[:, i], (p[:, i + 3] / 10).exp()) for i in range(3)],
    ),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS.keys())
PARAMETERS = st.integers(1, 4).flatmap(
    lambda rows: arrays(np.float64, (rows, 6), elements=st.floats(-30, 30))
).map(torch.from_numpy)  # fmt: skip


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parts_of(actions: Tensor) -> list[Tensor]:
    """The parts of (B,) or (B, A) actions, as torch's one-part distributions take them."""
    return list(actions.unbind(-1)) if actions.ndim == 2 else [actions]


@every_kind
@settings(deadline=None, max_examples=60)
@given(PARAMETERS, st.integers(0, 2**31))
def test_log_prob_equals_torch(kind: Kind, parameters: Tensor, seed: int) -> None:
    ours, theirs = kind.ours(parameters), kind.theirs(parameters)
    actions = ours.sample(seeded(seed))
    expected = sum(d.log_prob(a) for d, a in zip(theirs, parts_of(actions), strict=True))
    assert_close(ours.log_prob(actions), expected)


@every_kind
@settings(deadline=None, max_examples=60)
@given(PARAMETERS)
def test_entropy_equals_torch(kind: Kind, parameters: Tensor) -> None:
    expected = sum(distribution.entropy() for distribution in kind.theirs(parameters))
    assert_close(kind.ours(parameters).entropy(), expected)


@every_kind
@settings(deadline=None, max_examples=60)
@given(PARAMETERS, st.integers(0, 2**31))
def test_no_action_is_likelier_than_the_mode(kind: Kind, parameters: Tensor, seed: int) -> None:
    ours = kind.ours(parameters)
    assert (ours.log_prob(ours.mode) >= ours.log_prob(ours.sample(seeded(seed))) - 1e-12).all()


@every_kind
def test_one_log_prob_and_entropy_a_row(kind: Kind) -> None:
    ours = kind.ours(torch.zeros(5, 6))
    assert ours.sample().shape == ours.mode.shape
    assert ours.log_prob(ours.sample()).shape == ours.entropy().shape == (5,)


@every_kind
def test_same_generator_gives_same_samples(kind: Kind) -> None:
    ours = kind.ours(torch.zeros(50, 6))
    assert torch.equal(ours.sample(seeded(1)), ours.sample(seeded(1)))
    assert not torch.equal(ours.sample(seeded(1)), ours.sample(seeded(2)))


@every_kind
def test_sampling_with_a_generator_leaves_the_global_one_alone(kind: Kind) -> None:
    before = torch.get_rng_state()
    kind.ours(torch.zeros(50, 6)).sample(seeded())
    assert torch.equal(torch.get_rng_state(), before)


def assert_frequencies(counts: Tensor, probabilities: Tensor) -> None:
    """Within five standard deviations of a binomial count."""
    p = probabilities.double()
    deviation = (p * (1 - p) / DRAWS).sqrt()
    assert ((counts / DRAWS - p).abs() <= 5 * deviation + 1e-9).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("p", [[1.0], [0.5, 0.5], [0.7, 0.2, 0.1], [0.001, 0.0, 0.999]])
def test_categorical_draws_as_often_as_it_says(p: list[float], dtype: torch.dtype) -> None:
    logits = torch.tensor(p).log().to(dtype)  # a probability of 0 is a masked action
    samples = Categorical(logits.expand(DRAWS, -1)).sample(seeded())
    assert_frequencies(torch.bincount(samples, minlength=len(p)), logits.double().softmax(-1))


def test_multi_categorical_draws_independent_choices() -> None:
    first, second = torch.tensor([0.9, 0.1]), torch.tensor([0.2, 0.3, 0.5])
    logits = torch.cat([first, second]).log().expand(DRAWS, -1)
    samples = MultiCategorical(logits, [2, 3]).sample(seeded())
    pairs = torch.bincount(3 * samples[:, 0] + samples[:, 1], minlength=6)
    assert_frequencies(pairs, torch.outer(first, second).flatten())


def test_bernoulli_switches_on_as_often_as_it_says() -> None:
    logits = torch.tensor([-40.0, -3.0, 0.0, 1.0, 40.0])
    samples = Bernoulli(logits.expand(DRAWS, -1)).sample(seeded())
    assert set(samples.unique().tolist()) == {0.0, 1.0}
    assert_frequencies(samples.sum(0), logits.sigmoid())


def test_gaussian_draws_its_mean_and_deviation() -> None:
    mean, log_std = torch.tensor([-3.0, 100.0]), torch.tensor([0.0, 2.0])
    gaussian = DiagonalGaussian(mean.expand(DRAWS, -1), log_std.expand(DRAWS, -1))
    z = (gaussian.sample(seeded()) - mean) / log_std.exp()
    assert_close(z.mean(0), torch.zeros(2), atol=5 / math.sqrt(DRAWS), rtol=0)
    assert_close(z.std(0), torch.ones(2), atol=5 / math.sqrt(2 * DRAWS), rtol=0)
    assert_frequencies((z.abs() < 1).sum(0), torch.full((2,), 0.682689))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_samples_have_the_policys_dtype_or_are_indices(dtype: torch.dtype) -> None:
    sampled = {
        name: kind.ours(torch.zeros(2, 6, dtype=dtype)).sample().dtype
        for name, kind in KINDS.items()
    }
    integers = dict.fromkeys(("categorical", "multi_categorical"), torch.int64)
    assert sampled == integers | {"bernoulli": dtype, "gaussian": dtype}


def test_column_of_actions_is_refused_instead_of_broadcast() -> None:
    with pytest.raises(RuntimeError):
        Categorical(torch.zeros(5, 2)).log_prob(torch.zeros(5, 1, dtype=torch.int64))


SUPPORTED: list[tuple[Space, int, type]] = [
    (spaces.Discrete(4), 4, Categorical),
    (spaces.Discrete(4, start=-2), 4, Categorical),
    (spaces.MultiDiscrete([3, 2]), 5, MultiCategorical),
    (spaces.MultiBinary(3), 3, Bernoulli),
    (spaces.MultiBinary([3]), 3, Bernoulli),
    (spaces.Box(-1, 1, (3,)), 6, DiagonalGaussian),
]


@pytest.mark.parametrize(("space", "count", "kind"), SUPPORTED, ids=str)
def test_every_space_has_its_distribution(space: Space, count: int, kind: type) -> None:
    assert num_action_parameters(space) == count
    distribution = action_distribution(torch.zeros(7, count), space)
    assert isinstance(distribution, kind)
    assert distribution.sample().shape == (7, *(space.shape or ()))


UNSUPPORTED: list[Space] = [
    spaces.Dict({"a": spaces.Discrete(2)}),
    spaces.Tuple([spaces.Discrete(2)]),
    spaces.Box(-1, 1, (2, 2)),
    spaces.Box(-1, 1, ()),
    spaces.MultiDiscrete([[2, 2], [2, 2]]),
    spaces.MultiBinary([2, 2]),
    spaces.Text(5),
]


@pytest.mark.parametrize("space", UNSUPPORTED, ids=str)
def test_unsupported_action_space_is_named(space: Space) -> None:
    with pytest.raises(SpaceError, match="is not supported; expected Discrete"):
        num_action_parameters(space)
