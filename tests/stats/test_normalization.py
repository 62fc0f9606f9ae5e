"""Normalisers: numpy's statistics, frozen while a policy acts."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import Space, spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lightning_rl.errors import SpaceError
from lightning_rl.stats.normalization import (
    ObservationNormalizer,
    RewardScaler,
    RunningMoments,
)

ITEMS = st.tuples(st.integers(1, 30), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.float64, shape, elements=st.floats(-1e3, 1e3))
)
quick = settings(deadline=None, max_examples=80)


def reloaded(state: Any) -> Any:
    """A state after a trip through a checkpoint file."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


# ---- RunningMoments ------------------------------------------------------------------------------


@quick
@given(ITEMS, st.lists(st.integers(0, 30), max_size=5))
def test_moments_equal_numpy_over_any_split(items: Any, cuts: list[int]) -> None:
    moments = RunningMoments(items.shape[1:])
    for part in np.split(items, sorted(cuts)):  # some parts are empty
        moments.update(part)
    assert moments.count == len(items)
    np.testing.assert_allclose(moments.mean, items.mean(0), atol=1e-9)
    np.testing.assert_allclose(moments.variance, items.var(0), atol=1e-6)


def test_moments_of_a_small_spread_around_a_large_mean() -> None:
    """Where a sum of squares has lost every digit."""
    items = 1e8 + np.random.default_rng(0).normal(size=(1000, 1))
    moments = RunningMoments((1,))
    for part in np.split(items, 10):
        moments.update(part)
    np.testing.assert_allclose(moments.variance, items.var(0), rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
def test_moments_are_computed_in_float64(dtype: Any) -> None:
    items = (np.arange(1000)[:, None] % 200).astype(dtype)
    moments = RunningMoments((1,))
    moments.update(items)
    np.testing.assert_allclose(moments.variance, items.astype(np.float64).var(0), rtol=1e-12)


@quick
@given(ITEMS)
def test_moments_go_on_from_a_checkpoint(items: Any) -> None:
    whole, resumed = RunningMoments(items.shape[1:]), RunningMoments(items.shape[1:])
    whole.update(items)
    resumed.load_state_dict(reloaded(whole.state_dict()))
    for moments in (whole, resumed):
        moments.update(2 * items)
    assert np.array_equal(whole.mean, resumed.mean)
    assert np.array_equal(whole.variance, resumed.variance)
    assert whole.count == resumed.count


def test_saved_moments_do_not_change_with_the_live_ones() -> None:
    moments = RunningMoments((2,))
    moments.update(np.ones((3, 2)))
    state = moments.state_dict()
    moments.update(np.full((3, 2), 9.0))
    assert state["mean"].tolist() == [1, 1]


# ---- ObservationNormalizer -----------------------------------------------------------------------

BOX = spaces.Box(-np.inf, np.inf, (3,))


def observations(rows: int = 200) -> Any:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(rows, 3)) * [1, 10, 0.1] + [5, 0, -2]).astype(np.float32)


def test_normaliser_changes_only_in_update() -> None:
    """The policy that acted and the policy that is trained see the same numbers."""
    normalizer, raw = ObservationNormalizer(BOX), observations()
    before = normalizer(raw)
    normalizer.collect(raw)
    assert np.array_equal(normalizer(raw), before)
    normalizer.update()
    assert not np.array_equal(normalizer(raw), before)


def test_normalised_observations_have_mean_0_and_variance_1() -> None:
    normalizer, raw = ObservationNormalizer(BOX), observations()
    for part in np.split(raw, 4):
        normalizer.collect(part)
    normalizer.update()
    scaled = normalizer(raw)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(scaled.std(0), 1, atol=1e-3)


def test_each_observation_is_merged_once() -> None:
    normalizer = ObservationNormalizer(BOX)
    normalizer.collect(observations(7))
    normalizer.update()
    normalizer.update()
    assert normalizer.moments.count == 7


def test_collected_observations_are_copied() -> None:
    """An environment may return the same array from every step."""
    normalizer, shared = ObservationNormalizer(BOX), np.ones((4, 3))
    normalizer.collect(shared)
    shared[:] = 100
    normalizer.update()
    assert normalizer.moments.mean.tolist() == [1, 1, 1]


@pytest.mark.parametrize("far", [1e9, -1e9])
def test_outliers_are_clipped(far: float) -> None:
    normalizer = ObservationNormalizer(BOX)
    assert normalizer(np.full((1, 3), far)).tolist() == [[np.sign(far) * 10] * 3]


def test_constant_observation_becomes_zero() -> None:
    normalizer, constant = ObservationNormalizer(BOX), np.full((5, 3), 4.2, np.float32)
    normalizer.collect(constant)
    normalizer.update()
    assert not normalizer(constant).any()


NOT_NORMALISED: list[Space] = [
    spaces.Discrete(2),
    spaces.Dict({"a": BOX}),
    spaces.Box(0, 255, (8, 8, 3), np.uint8),
]


@pytest.mark.parametrize("space", NOT_NORMALISED, ids=str)
def test_what_can_not_be_normalised_says_which_setting(space: Space) -> None:
    with pytest.raises(SpaceError, match="normalize_observations=False"):
        ObservationNormalizer(space)


# ---- RewardScaler --------------------------------------------------------------------------------


def scaled_by_hand(episodes: list[list[float]], gamma: float) -> float:
    """The deviation of all discounted running returns R_t = γ R_{t-1} + r_t, episode by episode."""
    seen = []
    for rewards in episodes:
        running = 0.0
        for reward in rewards:
            running = gamma * running + reward
            seen.append(running)
    return float(np.sqrt(np.var(seen) + 1e-8))


def column(*numbers: float) -> Any:
    return np.array(numbers)[:, None]


def flags(*bits: int) -> Any:
    return np.array(bits, dtype=np.bool_)[:, None]


def test_rewards_are_divided_by_the_deviation_of_the_return() -> None:
    scaled = RewardScaler(1, 0.5)(column(1, 2, 3), flags(0, 0, 0), flags(1, 1, 1))
    np.testing.assert_allclose(
        scaled, column(1, 2, 3) / scaled_by_hand([[1, 2, 3]], 0.5), rtol=1e-6
    )
    assert scaled.dtype == np.float32


def test_return_starts_again_at_an_episodes_end() -> None:
    scaled = RewardScaler(1, 0.5)(column(1, 2, 3), flags(0, 1, 0), flags(1, 1, 1))
    assert scaled[0, 0] == pytest.approx(1 / scaled_by_hand([[1, 2], [3]], 0.5))


@pytest.mark.parametrize("junk", [0.0, 1e6, np.nan])
def test_reset_rows_do_not_count(junk: float) -> None:
    """Whatever reward an environment gives in a row that is no env step."""
    scaler = RewardScaler(1, 0.5)
    scaled = scaler(column(1, 2, junk, 3), flags(0, 1, 0, 0), flags(1, 1, 0, 1))
    assert scaler.moments.count == 3
    assert scaled[0, 0] == pytest.approx(1 / scaled_by_hand([[1, 2], [3]], 0.5))


@quick
@given(st.lists(st.floats(-10, 10), min_size=2, max_size=12), st.integers(0, 12), st.booleans())
def test_returns_are_carried_from_rollout_to_rollout(
    rewards: list[float], cut: int, through_checkpoint: bool
) -> None:
    """Two rollouts leave the statistics that one of both would, also across a checkpoint."""
    whole, parts = RewardScaler(1, 0.9), RewardScaler(1, 0.9)
    ended = flags(*(i % 5 == 4 for i in range(len(rewards))))
    whole(column(*rewards), ended, np.ones_like(ended))
    for part in (slice(None, cut), slice(cut, None)):
        if len(rewards[part]):
            parts(column(*rewards)[part], ended[part], np.ones_like(ended)[part])
        if through_checkpoint:
            state = reloaded(parts.state_dict())
            parts = RewardScaler(1, 0.9)
            parts.load_state_dict(state)
    np.testing.assert_allclose(parts.moments.variance, whole.moments.variance, atol=1e-9)
    np.testing.assert_allclose(parts.returns, whole.returns)


def test_environments_have_returns_of_their_own() -> None:
    scaler = RewardScaler(2, 1.0)
    real = np.ones((2, 2), np.bool_)
    scaler(np.array([[1.0, 10.0], [1.0, 10.0]]), np.array([[True, False], [False, False]]), real)
    assert scaler.returns.tolist() == [1, 20]


def test_signs_and_order_of_rewards_are_kept() -> None:
    """Only the scale changes: subtracting a mean would change what the best policy is."""
    rewards = column(-2, 0, 5)
    scaled = RewardScaler(1, 0.99)(rewards, flags(0, 0, 1), flags(1, 1, 1))
    np.testing.assert_allclose(scaled / scaled[2], rewards / 5, rtol=1e-6)


def test_batches_of_all_processes_are_merged_as_if_they_were_one() -> None:
    """Each process merges what all have told, in the same order: the same bits everywhere."""
    generator = np.random.default_rng(0)
    batches = [generator.normal(3.0, 2.0, (size, 2)) for size in (5, 0, 7)]  # three processes
    told: list[Any] = []
    for batch in batches:  # what each tells
        RunningMoments((2,)).update(batch, lambda own: told.append(own) or own[None])
    merged = []
    for batch in batches:
        moments = RunningMoments((2,))
        moments.update(np.ones((1, 2)))  # something from before
        moments.update(batch, lambda own: np.stack(told))
        merged.append(moments)
    whole = np.concatenate([np.ones((1, 2)), *batches])
    assert [moments.count for moments in merged] == [13, 13, 13]
    np.testing.assert_allclose(merged[0].mean, whole.mean(0))
    np.testing.assert_allclose(merged[0].variance, whole.var(0))
    for moments in merged[1:]:
        assert (moments.mean == merged[0].mean).all()
        assert (moments.variance == merged[0].variance).all()
