"""Many runs in one number: as rliable defines it."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_rl.stats.aggregates import bootstrap_interval, interquartile_mean


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([1.0], 1.0),
        ([1.0, 2.0, 6.0], 3.0),  # fewer than four are averaged
        ([9.0, 0.0, 4.0, 2.0], 3.0),
        ([*range(10)], 4.5),  # two are cut at either end
        ([0, 0, 0, 1, 2, 3, 100, 1000, 1e6, 1e9], (0 + 1 + 2 + 3 + 100 + 1000) / 6),
    ],
)
def test_the_interquartile_mean_cuts_a_quarter_at_either_end(
    scores: list[float], expected: float
) -> None:
    assert interquartile_mean(np.array(scores, dtype=float)) == pytest.approx(expected)


def test_curves_are_averaged_point_by_point() -> None:
    curves = np.array([[0.0, 0.0], [1.0, 10.0], [2.0, 20.0], [99.0, 30.0]])
    assert interquartile_mean(curves).tolist() == [1.5, 15.0]


def test_a_mean_is_as_uncertain_as_the_bootstrap_says() -> None:
    """Of fewer than four runs it is the mean: all 27 samples of three can be counted."""
    low, high = bootstrap_interval([np.array([0.0, 1.0, 2.0])], confidence=0.9, resamples=20_000)
    assert (low, high) == pytest.approx((1 / 3, 5 / 3))  # 1 and 4 of 27 are at most 0 and 1/3


def test_runs_are_drawn_within_their_own_environment() -> None:
    """Each draws as many as it has: the mean of 0 0 and 1 1 never moves, pooled it would."""
    low, high = bootstrap_interval([np.zeros(2), np.ones(2)])
    assert low == high == 0.5


def test_an_interval_of_equal_runs_has_no_width_and_a_seed_repeats_one() -> None:
    assert bootstrap_interval([np.full((5, 3), 7.0)])[0].tolist() == [7.0, 7.0, 7.0]
    runs = np.random.default_rng(0).normal(size=10)
    assert bootstrap_interval([runs]) == bootstrap_interval([runs])
