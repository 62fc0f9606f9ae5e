"""Promises of `lightning_rl.functional`: numbers checkable by hand, identities, loud shape errors.

The naive references below sum forwards, straight from the definitions, one environment at a time
in Python floats; the package sums backwards in tensors. The two share no code and no recursion.
"""

from __future__ import annotations

import doctest
import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from lightning_rl import functional
from lightning_rl.errors import ConfigError, ShapeError
from lightning_rl.functional import (
    approx_kl,
    clip_fraction,
    discounted_returns,
    explained_variance,
    gae,
    kl_k1,
    kl_k2,
    lambda_returns,
    n_step_returns,
    n_step_target,
    normalize,
    ppo_policy_loss,
    ppo_value_loss,
)

NAN = float("nan")
UNIT = st.one_of(st.sampled_from([0.0, 1.0]), st.floats(0.0, 1.0))  # γ and λ, ends included


def column(*numbers: float) -> Tensor:
    """One environment's numbers in time order as a (T, 1) array."""
    return torch.tensor(numbers, dtype=torch.float64).unsqueeze(1)


def flags(*bits: int) -> Tensor:
    """One environment's flags in time order as a (T, 1) bool array."""
    return torch.tensor(bits, dtype=torch.bool).unsqueeze(1)


@dataclass(frozen=True)
class Rollout:
    """Arrays (T, N) as a rollout collects them; values[t + 1] is next_values[t] in an episode."""

    rewards: Tensor
    values: Tensor
    next_values: Tensor
    terminated: Tensor
    truncated: Tensor
    valid: Tensor

    @property
    def ended(self) -> Tensor:
        return self.terminated | self.truncated

    def gae(self, gamma: float, lambda_: float) -> Tensor:
        arrays = (self.rewards, self.values, self.next_values, self.terminated, self.truncated)
        return gae(*arrays, gamma, lambda_, self.valid)

    def lambda_returns(self, gamma: float, lambda_: float) -> Tensor:
        arrays = (self.rewards, self.next_values, self.terminated, self.truncated)
        return lambda_returns(*arrays, gamma, lambda_)

    def n_step_returns(self, gamma: float, n: int) -> Tensor:
        arrays = (self.rewards, self.next_values, self.terminated, self.truncated)
        return n_step_returns(*arrays, gamma, n)

    def discounted_returns(self, gamma: float) -> Tensor:
        """Bootstrap from the last row's next values, as a rollout does."""
        arrays = (self.rewards, self.terminated, self.truncated, gamma, self.next_values[-1])
        return discounted_returns(*arrays)


def make_rollout(seed: int, steps: int, envs: int, end: float, resets: bool) -> Rollout:
    """Draw a rollout; with `resets` the row after each end is a reset row (NEXT_STEP autoreset)."""
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(3, steps, envs, generator=generator)
    terminated, truncated = uniform[0] < end, uniform[1] < end
    valid = torch.ones(steps, envs, dtype=torch.bool)
    if resets:
        valid[0] = uniform[2, 0] < 0.5  # an episode may have ended in the rollout before
        for t in range(steps):
            if t > 0:
                valid[t] = ~(terminated[t - 1] | truncated[t - 1])
            terminated[t] &= valid[t]
            truncated[t] &= valid[t]
    rewards, values = torch.randn(2, steps + 1, envs, generator=generator, dtype=torch.float64)
    return Rollout(rewards[:-1], values[:-1], values[1:], terminated, truncated, valid)


SIZES = {"seed": st.integers(0, 2**32 - 1), "steps": st.integers(1, 40), "envs": st.integers(1, 5)}
END = st.sampled_from([0.0, 0.05, 0.3, 1.0])
ROLLOUTS = st.builds(make_rollout, **SIZES, end=END, resets=st.booleans())
UNBROKEN = st.builds(make_rollout, **SIZES, end=st.just(0.0), resets=st.just(False))


# --- naive references ---------------------------------------------------------------------------


def naive_n_step(rollout: Rollout, t: int, env: int, gamma: float, n: int) -> float:
    """Add rewards forwards from row t until n steps, the episode's end or the rollout's end."""
    total, steps = 0.0, len(rollout.rewards)
    for k in range(n):
        row = t + k
        total += gamma**k * rollout.rewards[row, env].item()
        if rollout.terminated[row, env]:
            return total
        if rollout.truncated[row, env] or row == steps - 1 or k == n - 1:
            return total + gamma ** (k + 1) * rollout.next_values[row, env].item()
    raise AssertionError("unreachable")


def episode_rows(rollout: Rollout, t: int, env: int) -> range:
    """Rows from t to the end of its episode or of the rollout."""
    row = t
    while row < len(rollout.rewards) - 1 and not rollout.ended[row, env]:
        row += 1
    return range(t, row + 1)


def naive_lambda(rollout: Rollout, t: int, env: int, gamma: float, lambda_: float) -> float:
    """Weigh the n-step returns: (1-λ) λ^(n-1) each, the remaining λ^(L-1) for the longest."""
    longest = len(episode_rows(rollout, t, env))
    weights = [(1 - lambda_) * lambda_ ** (n - 1) for n in range(1, longest)]
    weights.append(lambda_ ** (longest - 1))
    returns = [naive_n_step(rollout, t, env, gamma, n) for n in range(1, longest + 1)]
    return sum(w * g for w, g in zip(weights, returns, strict=True))


def naive_gae(rollout: Rollout, t: int, env: int, gamma: float, lambda_: float) -> float:
    """Add the TD errors forwards, weighted (γλ)^l, up to the end of the episode."""
    if not rollout.valid[t, env]:
        return 0.0
    total = 0.0
    for power, row in enumerate(episode_rows(rollout, t, env)):
        target = rollout.rewards[row, env].item()
        if not rollout.terminated[row, env]:
            target += gamma * rollout.next_values[row, env].item()
        total += (gamma * lambda_) ** power * (target - rollout.values[row, env].item())
    return total


def naive_discounted(rollout: Rollout, t: int, env: int, gamma: float) -> float:
    """Add the rewards forwards; only an episode that is still running gets a bootstrap."""
    rows = episode_rows(rollout, t, env)
    total = sum(gamma**k * rollout.rewards[row, env].item() for k, row in enumerate(rows))
    if not rollout.ended[rows[-1], env]:
        total += gamma ** len(rows) * rollout.next_values[-1, env].item()
    return total


def assert_equals_naive(
    actual: Tensor, naive: Callable[..., float], rollout: Rollout, *arguments: float
) -> None:
    steps, envs = actual.shape
    expected = [[naive(rollout, t, env, *arguments) for env in range(envs)] for t in range(steps)]
    assert_close(actual, torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0.0)


# --- numbers checkable by hand ------------------------------------------------------------------

REWARDS = column(1.0, 2.0, 4.0)
VALUES = column(2.0, 4.0, 6.0)
NEXT_VALUES = column(4.0, 6.0, 8.0)
OPEN = flags(0, 0, 0)
LAST = flags(0, 0, 1)
MIDDLE = flags(0, 1, 0)

# Three steps, γ = λ = ½. An open end and a truncated end bootstrap from V(s_3) = 8.
# (terminated, truncated): TD target, λ-return, discounted return (last value 8), 2-step return
HAND = [
    pytest.param(OPEN, OPEN, (3, 5, 8), (3.375, 5.5, 8), (4, 6, 8), (3.5, 6, 8), id="running"),
    pytest.param(OPEN, LAST, (3, 5, 8), (3.375, 5.5, 8), (3, 4, 4), (3.5, 6, 8), id="truncated"),
    pytest.param(LAST, OPEN, (3, 5, 4), (3.125, 4.5, 4), (3, 4, 4), (3.5, 4, 4), id="terminated"),
    pytest.param(LAST, LAST, (3, 5, 4), (3.125, 4.5, 4), (3, 4, 4), (3.5, 4, 4), id="both"),
    pytest.param(OPEN, MIDDLE, (3, 5, 8), (3.25, 5, 8), (2, 2, 8), (3.5, 5, 8), id="cut inside"),
    pytest.param(MIDDLE, OPEN, (3, 2, 8), (2.5, 2, 8), (2, 2, 8), (2, 2, 8), id="end inside"),
]


@pytest.mark.parametrize(("terminated", "truncated", "td", "lam", "plain", "two"), HAND)
def test_three_step_mdp_by_hand(
    terminated: Tensor, truncated: Tensor, td: Any, lam: Any, plain: Any, two: Any
) -> None:
    """Truncation bootstraps, termination does not, and termination wins where both are set."""
    rollout = Rollout(REWARDS, VALUES, NEXT_VALUES, terminated, truncated, ~OPEN)
    assert_close(rollout.lambda_returns(0.5, 0.0), column(*td))
    assert_close(rollout.n_step_returns(0.5, 1), column(*td))
    assert_close(rollout.lambda_returns(0.5, 0.5), column(*lam))
    assert_close(rollout.gae(0.5, 0.5), column(*lam) - VALUES)
    assert_close(rollout.discounted_returns(0.5), column(*plain))
    assert_close(rollout.n_step_returns(0.5, 2), column(*two))


def test_gae_by_hand_with_a_reset_row() -> None:
    """δ is 2-1=1 and 3+½·6-2=4 before the reset row, 5-4=1 after it; the reset row gets 0."""
    rewards, values = column(2.0, 3.0, 99.0, 5.0), column(1.0, 2.0, 99.0, 4.0)
    next_values = column(0.0, 6.0, 99.0, 0.0)
    terminated, truncated = flags(0, 0, 0, 1), flags(0, 1, 0, 0)
    advantages = gae(
        rewards, values, next_values, terminated, truncated, 0.5, 0.5, valid=flags(1, 1, 0, 1)
    )
    assert_close(advantages, column(2.0, 4.0, 0.0, 1.0))


def test_no_trace_enters_an_invalid_row_even_when_no_end_was_flagged() -> None:
    rewards, zeros = column(1.0, NAN, 1.0), column(0.0, 0.0, 0.0)
    advantages = gae(rewards, zeros, zeros, OPEN, OPEN, 1.0, 1.0, valid=flags(1, 0, 1))
    assert_close(advantages, column(1.0, 0.0, 1.0))


def test_each_environment_is_its_own() -> None:
    """Two environments side by side give the two columns computed alone."""
    rewards = torch.tensor([[1.0, 10.0], [2.0, 20.0]])
    terminated = torch.tensor([[False, True], [False, False]])
    returns = discounted_returns(
        rewards, terminated, torch.zeros_like(terminated), 0.5, torch.tensor([4.0, 40.0])
    )
    assert returns.tolist() == [[3.0, 10.0], [4.0, 40.0]]


def test_discounted_returns_without_last_values_bootstrap_from_zero() -> None:
    assert_close(discounted_returns(REWARDS, OPEN, OPEN, 0.5), column(3.0, 4.0, 4.0))


def test_integer_rewards_are_discounted_as_floats() -> None:
    returns = discounted_returns(torch.tensor([[1], [2], [4]]), OPEN, OPEN, 0.5)
    assert returns.tolist() == [[3.0], [4.0], [4.0]]


def test_n_step_returns_refuse_to_sum_nothing() -> None:
    with pytest.raises(ConfigError, match="n is 0, expected at least 1"):
        n_step_returns(REWARDS, NEXT_VALUES, OPEN, OPEN, 0.5, 0)


# --- equal to the naive loop --------------------------------------------------------------------


@settings(deadline=None, max_examples=500)
@given(ROLLOUTS, UNIT, UNIT)
def test_gae_equals_naive_loop(rollout: Rollout, gamma: float, lambda_: float) -> None:
    assert_equals_naive(rollout.gae(gamma, lambda_), naive_gae, rollout, gamma, lambda_)


@settings(deadline=None, max_examples=150)
@given(ROLLOUTS, UNIT, UNIT)
def test_lambda_returns_equal_naive_mixture(rollout: Rollout, gamma: float, lambda_: float) -> None:
    returns = rollout.lambda_returns(gamma, lambda_)
    assert_equals_naive(returns, naive_lambda, rollout, gamma, lambda_)


@settings(deadline=None, max_examples=500)
@given(ROLLOUTS, UNIT, st.integers(1, 50))
def test_n_step_returns_equal_naive_loop(rollout: Rollout, gamma: float, n: int) -> None:
    assert_equals_naive(rollout.n_step_returns(gamma, n), naive_n_step, rollout, gamma, n)


@settings(deadline=None, max_examples=500)
@given(ROLLOUTS, UNIT)
def test_discounted_returns_equal_naive_loop(rollout: Rollout, gamma: float) -> None:
    assert_equals_naive(rollout.discounted_returns(gamma), naive_discounted, rollout, gamma)


# --- identities ---------------------------------------------------------------------------------

ESTIMATORS: dict[str, Callable[[Rollout, float], Tensor]] = {
    "gae": lambda rollout, gamma: rollout.gae(gamma, 0.7),
    "lambda_returns": lambda rollout, gamma: rollout.lambda_returns(gamma, 0.7),
    "n_step_returns": lambda rollout, gamma: rollout.n_step_returns(gamma, 3),
    "discounted_returns": lambda rollout, gamma: rollout.discounted_returns(gamma),
}
every_estimator = pytest.mark.parametrize("estimate", ESTIMATORS.values(), ids=ESTIMATORS.keys())
quick = settings(deadline=None, max_examples=50)


def on_env_steps(rollout: Rollout, numbers: Tensor) -> Tensor:
    """Zero at reset rows, where returns mean nothing."""
    return torch.where(rollout.valid, numbers, 0.0)


@quick
@given(ROLLOUTS, UNIT, UNIT)
def test_lambda_returns_are_gae_plus_values(rollout: Rollout, gamma: float, lam: float) -> None:
    expected = on_env_steps(rollout, rollout.lambda_returns(gamma, lam) - rollout.values)
    assert_close(rollout.gae(gamma, lam), expected)


@quick
@given(ROLLOUTS, UNIT)
def test_gae_with_lambda_one_is_monte_carlo_minus_value(rollout: Rollout, gamma: float) -> None:
    """Truncated episodes included: their last reward is given the bootstrap first."""
    cut = rollout.truncated & ~rollout.terminated
    rewards = rollout.rewards + torch.where(cut, gamma * rollout.next_values, 0.0)
    returns = replace(rollout, rewards=rewards).discounted_returns(gamma)
    assert_close(rollout.gae(gamma, 1.0), on_env_steps(rollout, returns - rollout.values))


@quick
@given(ROLLOUTS, UNIT)
def test_lambda_zero_is_the_td_error(rollout: Rollout, gamma: float) -> None:
    bootstrap = torch.where(rollout.terminated, 0.0, rollout.next_values)
    targets = rollout.rewards + gamma * bootstrap
    assert_close(rollout.lambda_returns(gamma, 0.0), targets)
    assert_close(rollout.n_step_returns(gamma, 1), targets)
    assert_close(rollout.gae(gamma, 0.0), on_env_steps(rollout, targets - rollout.values))


@quick
@given(ROLLOUTS)
def test_gamma_zero_sees_only_the_next_reward(rollout: Rollout) -> None:
    for name, estimate in ESTIMATORS.items():
        shift = rollout.values if name == "gae" else torch.zeros_like(rollout.values)
        estimated = on_env_steps(rollout, estimate(rollout, 0.0))
        assert_close(estimated, on_env_steps(rollout, rollout.rewards - shift))


@every_estimator
@quick
@given(ROLLOUTS, st.integers(0, 9), UNIT)
def test_separate_episodes_do_not_touch(
    estimate: Callable[..., Tensor], first: Rollout, seed: int, gamma: float
) -> None:
    """Two rollouts in one, the first ending with an episode, give the two results in one."""
    first.truncated[-1] = True
    second = make_rollout(seed, 7, first.rewards.shape[1], 0.2, resets=False)
    pairs = [(getattr(first, f.name), getattr(second, f.name)) for f in fields(Rollout)]
    both = Rollout(*(torch.cat(pair) for pair in pairs))
    separate = torch.cat([estimate(first, gamma), estimate(second, gamma)])
    assert_close(estimate(both, gamma), separate)


@quick
@given(UNBROKEN, st.floats(-5, 5), st.floats(0, 0.99), UNIT)
def test_shifted_rewards_shift_the_sums(
    rollout: Rollout, c: float, gamma: float, lam: float
) -> None:
    """Over k steps to the end, r + c adds c (1 - x^k) / (1 - x); x is γ for returns, γλ for GAE."""
    shifted = replace(rollout, rewards=rollout.rewards + c)
    k = torch.arange(len(rollout.rewards), 0, -1, dtype=torch.float64)[:, None]
    gain = shifted.discounted_returns(gamma) - rollout.discounted_returns(gamma)
    assert_close(gain, (c * (1 - gamma**k) / (1 - gamma)).expand_as(gain))
    gain = shifted.gae(gamma, lam) - rollout.gae(gamma, lam)
    assert_close(gain, (c * (1 - (gamma * lam) ** k) / (1 - gamma * lam)).expand_as(gain))


@quick
@given(UNBROKEN, st.floats(-5, 5), st.floats(0, 0.9), UNIT)
def test_reward_shift_matched_by_values_leaves_advantages(
    rollout: Rollout, c: float, gamma: float, lam: float
) -> None:
    """In an endless task r + c and V + c / (1 - γ) describe the same advantages."""
    offset = c / (1 - gamma)
    shifted = replace(
        rollout,
        rewards=rollout.rewards + c,
        values=rollout.values + offset,
        next_values=rollout.next_values + offset,
    )
    assert_close(shifted.gae(gamma, lam), rollout.gae(gamma, lam), atol=1e-6, rtol=0.0)


@every_estimator
@quick
@given(ROLLOUTS, UNIT, st.sampled_from([NAN, math.inf, -math.inf]))
def test_next_values_after_termination_are_ignored(
    estimate: Callable[..., Tensor], rollout: Rollout, gamma: float, junk: float
) -> None:
    poisoned = torch.where(rollout.terminated, junk, rollout.next_values)
    dirty = replace(rollout, next_values=poisoned)
    assert_close(estimate(dirty, gamma), estimate(rollout, gamma))


@every_estimator
@quick
@given(ROLLOUTS, UNIT, st.sampled_from([NAN, math.inf, 1e30]))
def test_content_of_reset_rows_is_irrelevant(
    estimate: Callable[..., Tensor], rollout: Rollout, gamma: float, junk: float
) -> None:
    names = ["rewards", "values", "next_values"]
    dirty = {n: torch.where(rollout.valid, getattr(rollout, n), junk) for n in names}
    if estimate is ESTIMATORS["discounted_returns"]:
        dirty["next_values"] = rollout.next_values  # its last row is the caller's bootstrap
    actual = on_env_steps(rollout, estimate(replace(rollout, **dirty), gamma))
    assert_close(actual, on_env_steps(rollout, estimate(rollout, gamma)))


@every_estimator
@pytest.mark.parametrize("ending", ["terminated", "truncated"])
def test_nan_in_one_episode_does_not_reach_the_one_before(
    estimate: Callable[..., Tensor], ending: str
) -> None:
    rollout = make_rollout(0, 6, 2, 0.0, resets=False)
    getattr(rollout, ending)[2] = True
    rollout.rewards[4] = NAN
    estimated = estimate(rollout, 0.9)
    assert estimated[:3].isfinite().all()
    assert estimated[4].isnan().all()


@quick
@given(ROLLOUTS, UNIT, st.integers(40, 99))
def test_large_n_is_the_lambda_return_with_lambda_one(
    rollout: Rollout, gamma: float, n: int
) -> None:
    assert_close(rollout.n_step_returns(gamma, n), rollout.lambda_returns(gamma, 1.0))


@every_estimator
def test_inputs_are_left_as_they_were(estimate: Callable[..., Tensor]) -> None:
    rollout = make_rollout(3, 12, 3, 0.3, resets=True)
    before = [getattr(rollout, f.name).clone() for f in fields(Rollout)]
    estimate(rollout, 0.9)
    after = [getattr(rollout, f.name) for f in fields(Rollout)]
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))


@every_estimator
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept(estimate: Callable[..., Tensor], dtype: torch.dtype) -> None:
    rollout = make_rollout(3, 12, 3, 0.3, resets=True)
    names = ["rewards", "values", "next_values"]
    cast = replace(rollout, **{n: getattr(rollout, n).to(dtype) for n in names})
    assert estimate(cast, 0.9).dtype == dtype


@every_estimator
def test_gradients_are_finite_and_skip_what_a_termination_hides(
    estimate: Callable[..., Tensor],
) -> None:
    rollout = make_rollout(3, 12, 3, 0.3, resets=False)
    next_values = torch.where(rollout.terminated, NAN, rollout.next_values).requires_grad_()
    estimated = estimate(replace(rollout, next_values=next_values), 0.9)
    (gradient,) = torch.autograd.grad(estimated.sum(), next_values)
    assert gradient.isfinite().all()
    assert not gradient[rollout.terminated].any()


# --- PPO losses ---------------------------------------------------------------------------------

RATIOS = torch.tensor([1.5, 1.5, 0.5, 0.5, 1.1], dtype=torch.float64)
ADVANTAGES = torch.tensor([2.0, -2.0, 2.0, -2.0, 4.0], dtype=torch.float64)


def test_policy_loss_by_hand() -> None:
    """min(ρA, clip(ρ)A) at ε = 0.2 is 2.4, -3, 1, -1.6 and 4.4, whose mean is 0.64."""
    loss = ppo_policy_loss(RATIOS.log(), torch.zeros_like(RATIOS), ADVANTAGES, 0.2)
    assert loss.item() == pytest.approx(-0.64)


def test_policy_loss_gradient_vanishes_exactly_where_the_clip_binds() -> None:
    """dL/d log π is -ρA/B, or 0 where ρ left the range in the direction the advantage pushes."""
    log_probs = RATIOS.log().requires_grad_()
    loss = ppo_policy_loss(log_probs, torch.zeros_like(RATIOS), ADVANTAGES, 0.2)
    (gradient,) = torch.autograd.grad(loss, log_probs)
    clipped = torch.tensor([True, False, False, True, False])
    assert_close(gradient, torch.where(clipped, 0.0, -RATIOS * ADVANTAGES / 5))


def test_policy_loss_at_ratio_one_is_minus_mean_advantage_with_the_policy_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    actions = torch.tensor([[0], [1], [2], [0], [1], [2]])
    advantages = torch.randn(6, generator=generator, dtype=torch.float64)
    log_probs = logits.log_softmax(-1).gather(1, actions).squeeze(1)
    loss = ppo_policy_loss(log_probs, log_probs.detach(), advantages, 0.2)
    assert_close(loss, -advantages.mean())
    (surrogate,) = torch.autograd.grad(loss, logits, retain_graph=True)
    (reinforce,) = torch.autograd.grad(-(log_probs * advantages).mean(), logits)
    assert_close(surrogate, reinforce)


def test_value_loss_by_hand() -> None:
    """Errors 1, 3 and 2: ½ (1 + 9 + 4) / 3. Clipped to ±1 around the old value 4: 3 becomes 4-1."""
    values, returns = torch.tensor([1.0, 3.0, 6.0]), torch.tensor([0.0, 0.0, 4.0])
    old_values = torch.tensor([1.0, 5.0, 4.0])
    assert ppo_value_loss(values, returns).item() == pytest.approx(14 / 6)
    # clipped predictions 1, 4, 5 have errors 1, 4, 1: the larger ones are 1, 4, 2
    assert ppo_value_loss(values, returns, old_values, 1.0).item() == pytest.approx(21 / 6)


def test_value_loss_keeps_its_coefficient_when_the_clip_is_switched_on() -> None:
    values, returns, old_values = torch.randn(3, 64, generator=torch.Generator().manual_seed(1))
    plain = ppo_value_loss(values, returns)
    assert_close(ppo_value_loss(values, returns, old_values, 1e6), plain)
    assert_close(ppo_value_loss(values, returns, old_values), plain)
    assert_close(plain, 0.5 * ((values - returns) ** 2).mean())


def test_value_loss_gradient_vanishes_where_the_value_moved_too_far_towards_its_target() -> None:
    values = torch.tensor([2.0, 0.1, -2.0], requires_grad=True)
    loss = ppo_value_loss(values, torch.full((3,), 3.0), torch.zeros(3), 0.5)
    (gradient,) = torch.autograd.grad(loss, values)
    assert_close(gradient, torch.tensor([0.0, -2.9 / 3, -5.0 / 3]))


def test_value_loss_refuses_a_clip_without_old_values() -> None:
    with pytest.raises(ConfigError, match="pass both"):
        ppo_value_loss(torch.zeros(2), torch.zeros(2), clip_range=0.2)


# --- diagnostics --------------------------------------------------------------------------------

OLD = torch.tensor([0.5, 0.25, 0.25], dtype=torch.float64)
NEW = torch.tensor([0.25, 0.25, 0.5], dtype=torch.float64)
DRAWN = torch.tensor([0, 0, 1, 2])  # each action as often as the old policy takes it: no noise


def test_k1_and_k3_are_unbiased_for_the_kl_of_old_from_new() -> None:
    """Their mean over the old policy's actions is Σ old log(old / new), not the reverse KL."""
    new = torch.tensor([0.125, 0.25, 0.625], dtype=torch.float64)
    exact = (OLD * (OLD / new).log()).sum()
    assert abs(exact - (new * (new / OLD).log()).sum()) > 0.01
    assert_close(kl_k1(new.log()[DRAWN], OLD.log()[DRAWN]), exact)
    assert_close(approx_kl(new.log()[DRAWN], OLD.log()[DRAWN]), exact)


def test_kl_estimators_by_hand() -> None:
    """KL(old ‖ new) = ½ log 2 - ¼ log 2; k2 = (2 + 0 + 1) / 4 · ½ (log 2)²."""
    log_probs, old_log_probs = NEW.log()[DRAWN], OLD.log()[DRAWN]
    assert kl_k1(log_probs, old_log_probs).item() == pytest.approx(0.25 * math.log(2))
    assert kl_k2(log_probs, old_log_probs).item() == pytest.approx(0.375 * math.log(2) ** 2)
    assert approx_kl(log_probs, old_log_probs).item() == pytest.approx(0.25 * math.log(2))


def test_k2_is_nearly_unbiased_for_close_policies() -> None:
    """The relative bias is of the first order in the distance, so it shrinks with it."""
    biases = []
    for distance in (0.01, 0.001):
        new = OLD + distance * torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
        exact = (OLD * (OLD / new).log()).sum()
        biases.append(abs(kl_k2(new.log()[DRAWN], OLD.log()[DRAWN]) / exact - 1))
    assert biases[0] > 5 * biases[1] > 0
    assert biases[1] < 0.005


@quick
@given(st.lists(st.tuples(st.floats(-8, 0), st.floats(-8, 0)), min_size=1, max_size=9))
def test_k2_and_k3_are_never_negative_and_zero_for_equal_policies(pairs: Any) -> None:
    log_probs, old_log_probs = torch.tensor(pairs, dtype=torch.float64).unbind(1)
    for estimator in (kl_k2, approx_kl):
        assert estimator(log_probs, old_log_probs) >= 0
        assert estimator(log_probs, log_probs) == 0


def test_k3_keeps_its_precision_for_tiny_steps() -> None:
    """At log ρ = 1e-3 in float32, exp(x) - 1 - x would be lost in rounding; it is x²/2."""
    estimate = approx_kl(torch.full((4,), -1.001), torch.full((4,), -1.0))
    assert estimate.item() == pytest.approx(5e-7, rel=1e-2)


def test_clip_fraction_counts_both_sides() -> None:
    assert clip_fraction(RATIOS.log(), torch.zeros_like(RATIOS), 0.2).item() == pytest.approx(0.8)
    assert clip_fraction(RATIOS.log(), torch.zeros_like(RATIOS), 0.6) == 0
    assert clip_fraction(RATIOS.log(), torch.zeros_like(RATIOS), 0.05) == 1


def test_explained_variance_by_hand() -> None:
    """Residuals 0, 1, -1, 0 have variance ½; targets 0, 2, 4, 6 have variance 5."""
    targets = torch.tensor([0.0, 2.0, 4.0, 6.0])
    residuals = torch.tensor([0.0, 1.0, -1.0, 0.0])
    assert explained_variance(targets - residuals, targets).item() == pytest.approx(0.9)
    assert explained_variance(targets + 3.0, targets) == 1
    assert explained_variance(torch.ones(4), targets) == 0
    assert explained_variance(-targets, targets) == -3


@pytest.mark.parametrize("size", [1, 2, 9, 1001])
def test_explained_variance_of_constant_targets_is_nan(size: int) -> None:
    """Also where rounding leaves a variance that is tiny but not zero."""
    assert explained_variance(torch.arange(float(size)), torch.full((size,), 0.1)).isnan()


def test_normalize_by_hand() -> None:
    """1, 2, 3, 6 have mean 3 and standard deviation √(14 / 3)."""
    advantages = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    assert_close(normalize(advantages), (advantages - 3) / (math.sqrt(14 / 3) + 1e-8))
    assert_close(normalize(advantages).mean(), torch.tensor(0.0, dtype=torch.float64))
    assert_close(normalize(advantages).std(), torch.tensor(1.0, dtype=torch.float64))
    assert_close(normalize(advantages, eps=1.0), (advantages - 3) / (math.sqrt(14 / 3) + 1))


@pytest.mark.parametrize("size", [1, 2, 9, 1001])
def test_normalize_turns_equal_advantages_into_zeros(size: int) -> None:
    assert torch.equal(normalize(torch.full((size,), 100.1)), torch.zeros(size))


# --- n-step targets of minibatches ------------------------------------------------------------


def test_a_terminated_state_may_have_no_value_at_all() -> None:
    one = torch.ones(2)
    target = n_step_target(one, torch.tensor([torch.nan, 2.0]), torch.tensor([True, False]), one)
    assert target.tolist() == [1.0, 3.0]


def test_a_column_of_values_is_refused() -> None:
    """It would broadcast to (B, B), as in the template of Lightning and in pl_bolts."""
    one = torch.ones(4)
    with pytest.raises(ShapeError, match=r"next_values has shape \(4, 1\), expected \(4,\)"):
        n_step_target(one, torch.ones(4, 1), one > 1, one)


# --- shapes -------------------------------------------------------------------------------------

TIME = {name: torch.zeros(4, 3) for name in ("rewards", "values", "next_values")}
FLAG = {name: torch.zeros(4, 3, dtype=torch.bool) for name in ("terminated", "truncated")}
VALID = {"valid": torch.ones(4, 3, dtype=torch.bool)}
NEXT = {name: TIME[name] for name in ("rewards", "next_values")}
PROBS = {"log_probs": torch.zeros(5), "old_log_probs": torch.zeros(5)}
GOOD: dict[Callable[..., Tensor], dict[str, Any]] = {
    discounted_returns: {
        "rewards": TIME["rewards"],
        **FLAG,
        "gamma": 0.9,
        "last_values": torch.zeros(3),
    },
    gae: {**TIME, **FLAG, **VALID, "gamma": 0.9, "gae_lambda": 0.9},
    lambda_returns: {**NEXT, **FLAG, "gamma": 0.9, "lambda_": 0.9},
    n_step_returns: {**NEXT, **FLAG, "gamma": 0.9, "n": 2},
    n_step_target: {
        "rewards": torch.zeros(5),
        "next_values": torch.zeros(5),
        "terminated": torch.zeros(5, dtype=torch.bool),
        "discounts": torch.zeros(5),
    },
    ppo_policy_loss: {**PROBS, "advantages": torch.zeros(5), "clip_range": 0.2},
    ppo_value_loss: {
        "values": torch.zeros(5),
        "returns": torch.zeros(5),
        "old_values": torch.zeros(5),
        "clip_range": 0.2,
    },
    approx_kl: PROBS,
    kl_k1: PROBS,
    kl_k2: PROBS,
    clip_fraction: {**PROBS, "clip_range": 0.2},
    explained_variance: {"predictions": torch.zeros(5), "targets": torch.zeros(5)},
    normalize: {"advantages": torch.zeros(5)},
}
WRONG = {
    (4, 3): [(4,), (3,), (4, 1), (1, 3), (3, 4), (5, 3), (4, 3, 1), (), (0, 3)],
    (3,): [(3, 1), (1, 3), (1,), (4,), (), (0,)],
    (5,): [(5, 1), (1, 5), (1,), (4,), (5, 5), (), (0,)],
}
WRONG_SHAPES = [
    pytest.param(function, name, shape, id=f"{function.__name__}-{name}-{shape}")
    for function, arguments in GOOD.items()
    for name, array in arguments.items()
    if isinstance(array, Tensor) and function is not normalize
    for shape in WRONG[tuple(array.shape)]
]


@pytest.mark.parametrize(("function", "name", "shape"), WRONG_SHAPES)
def test_wrong_shape_raises_instead_of_broadcasting(
    function: Callable[..., Tensor], name: str, shape: tuple[int, ...]
) -> None:
    arguments = GOOD[function]
    wrong = torch.zeros(shape, dtype=arguments[name].dtype)
    with pytest.raises(ShapeError, match=r"has shape \(.*\), expected"):
        function(**{**arguments, name: wrong})


def test_shape_error_says_which_argument_what_was_got_what_was_expected_and_what_to_do() -> None:
    message = (
        r"^advantages has shape \(5, 1\), expected \(5,\) like log_probs: reshape advantages, "
        r"as with squeeze or unsqueeze; nothing is broadcast\.$"
    )
    with pytest.raises(ShapeError, match=message):
        ppo_policy_loss(**PROBS, advantages=torch.zeros(5, 1), clip_range=0.2)
    with pytest.raises(
        ShapeError, match=r"^rewards has shape \(4,\), expected \(T, N\): .*reshape"
    ):
        discounted_returns(torch.zeros(4), torch.zeros(4), torch.zeros(4), 0.9)
    with pytest.raises(ShapeError, match=r"^last_values has shape \(3, 1\), expected \(3,\)"):
        discounted_returns(TIME["rewards"], **FLAG, gamma=0.9, last_values=torch.zeros(3, 1))


@pytest.mark.parametrize("function", GOOD, ids=lambda function: function.__name__)
def test_nothing_to_compute_raises_instead_of_nan(function: Callable[..., Tensor]) -> None:
    empty = {
        name: value[:0] if isinstance(value, Tensor) and name != "last_values" else value
        for name, value in GOOD[function].items()
    }
    with pytest.raises(ShapeError, match=r"has shape \(0.*\), expected at least one element"):
        function(**empty)


# --- documentation ------------------------------------------------------------------------------


def test_every_public_function_is_in_the_shape_table_and_has_an_example_that_runs() -> None:
    functions = inspect.getmembers(functional, inspect.isfunction)
    own = [f for name, f in functions if f.__module__ == functional.__name__ and name[0] != "_"]
    assert set(own) == set(GOOD)
    assert all(">>>" in (inspect.getdoc(function) or "") for function in own)
    result = doctest.testmod(functional)
    assert result.attempted >= len(own)
    assert result.failed == 0


def test_no_argument_is_called_done() -> None:
    assert all("done" not in inspect.signature(function).parameters for function in GOOD)


def test_the_clip_fraction_counts_what_is_beyond_the_range_and_not_what_is_on_it() -> None:
    old = torch.full((4,), -1.0)
    ratios = torch.tensor([1.0, 1.5, 1.6, 0.4])
    got = clip_fraction(old + ratios.log(), old, 0.5 + 1e-6)
    assert got == 0.5
    assert clip_fraction(torch.zeros(2), torch.zeros(2), 0.0) == 0.0  # on it


def test_a_clip_range_without_old_values_says_so() -> None:
    message = r"^clip_range is given, old_values is None: pass both, or neither\.$"
    with pytest.raises(ConfigError, match=message):
        ppo_value_loss(torch.zeros(2), torch.zeros(2), clip_range=0.1)


def test_a_rollout_of_one_step_has_its_reward_for_a_return() -> None:
    running = torch.zeros(1, 1, dtype=torch.bool)
    assert discounted_returns(torch.tensor([[2.0]]), running, running, 0.9).tolist() == [[2.0]]


def test_wrong_shapes_are_told_by_name_in_full_sentences() -> None:
    rewards, running = torch.zeros(3, 2), torch.zeros(3, 2, dtype=torch.bool)
    flat = (
        "rewards has shape (3,), expected (T, N): time first; for a single environment use "
        "rewards.reshape(-1, 1)."
    )
    with pytest.raises(ShapeError, match=f"^{re.escape(flat)}$"):
        discounted_returns(rewards[:, 0], running[:, 0], running[:, 0], 0.9)
    column = (
        "last_values has shape (2, 1), expected (2,) like rewards[-1]: reshape last_values, as "
        "with squeeze or unsqueeze; nothing is broadcast."
    )
    with pytest.raises(ShapeError, match=f"^{re.escape(column)}$"):
        discounted_returns(rewards, running, running, 0.9, torch.zeros(2, 1))
