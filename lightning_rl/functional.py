"""The mathematics of reinforcement learning as pure functions of tensors.

Return functions take arrays time first, (T, N): T rows of N sub-environments, where row t holds
one transition s_t → s_{t+1} and its reward r_t (Sutton and Barto write R_{t+1}). `terminated`
(a real end) stops the bootstrap; `terminated | truncated` (truncated: cut, as by a time limit)
stops the trace. Termination wins where both are set. Nothing behind a stop, not even a NaN,
reaches the rows before it. A reset row follows a row that ended, so it never changes real rows;
what a function returns at the reset row itself means nothing (`gae` can set it to 0).

Returns and advantages are in units of reward, log-probabilities in nats. Shapes are checked
first and never broadcast. Gradients flow through every function except `clip_fraction`.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from lightning_rl.errors import ConfigError, ShapeError


def discounted_returns(
    rewards: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    last_values: Tensor | None = None,
) -> Tensor:
    """Sum the discounted rewards that follow each step of an episode.

        G_t = r_t + γ G_{t+1}   within an episode, G_t = r_t at its last step
        G_{T-1} = r_{T-1} + γ last_values   where the episode is still running

    A truncated episode gets no bootstrap here: its return counts only rewards that were seen.
    Use `lambda_returns` with `lambda_=1` where the value after a time limit must count.

    Args:
        rewards: (T, N) reward received after each action.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        gamma: discount factor γ in [0, 1].
        last_values: (N,) V of the state after the last row, unused if it ended. Default: zeros.
    Returns: (T, N) returns.
    Raises: ShapeError: if an array is not (T, N) like `rewards`, or `last_values` not (N,).
    Reference: Sutton and Barto 2018, Reinforcement Learning, eq. 3.9.
    >>> rewards = torch.tensor([[1.0], [2.0], [4.0]])
    >>> running = torch.zeros(3, 1, dtype=torch.bool)
    >>> discounted_returns(rewards, running, running, 0.5, torch.tensor([8.0])).tolist()
    [[4.0], [6.0], [8.0]]
    """
    _check_time_first(rewards, terminated=terminated, truncated=truncated)
    _check_same_shape(**{"rewards[-1]": rewards[-1], "last_values": last_values})
    ended = terminated | truncated
    if last_values is None:
        last_values = torch.zeros_like(rewards[-1])
    last_returns = rewards[-1] + torch.where(ended[-1], 0.0, gamma * last_values)
    return _discounted_sums(torch.cat([rewards[:-1], last_returns[None]]), ended, gamma)


def gae(
    rewards: Tensor,
    values: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    gae_lambda: float,
    valid: Tensor | None = None,
) -> Tensor:
    """Estimate advantages with generalised advantage estimation.

        δ_t = r_t + γ (1 - terminated_t) V(s_{t+1}) - V(s_t)
        A_t = δ_t + γ λ (1 - (terminated_t | truncated_t)) A_{t+1},   A_T = 0

    A time limit truncates without terminating, so the value after it still counts. λ = 0 gives
    the TD error, λ = 1 the Monte Carlo return minus V. Add `values` to get the λ-return target.

    Args:
        rewards: (T, N) float, reward received after each action.
        values: (T, N) float, V(s_t).
        next_values: (T, N) float, V of the *real* next state, before a reset. Unused if terminated.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        gamma: discount factor γ in [0, 1].
        gae_lambda: trace decay λ in [0, 1].
        valid: (T, N) bool, False on reset rows: their advantage is 0, their content is ignored
            (may be NaN), and no trace enters them. Default: every row is an env step.
    Returns: (T, N) advantages.
    Raises: ShapeError: if an array is not (T, N) like `rewards`.
    Reference: Schulman et al. 2016, eq. 16, https://arxiv.org/abs/1506.02438
    >>> rewards, values, next_values = torch.tensor([1.0, 2.0, 2.0]).expand(3, 1, 3).unbind(2)
    >>> truncated = torch.zeros(3, 1, dtype=torch.bool)
    >>> terminated = torch.tensor([[False], [False], [True]])  # δ = [0, 0, -1]
    >>> gae(rewards, values, next_values, terminated, truncated, 0.5, 0.5).tolist()
    [[-0.0625], [-0.25], [-1.0]]
    """
    _check_time_first(rewards, values=values, next_values=next_values, valid=valid)
    _check_time_first(rewards, terminated=terminated, truncated=truncated)
    deltas = rewards + torch.where(terminated, 0.0, gamma * next_values) - values
    stop = terminated | truncated
    if valid is not None:
        deltas = torch.where(valid, deltas, 0.0)  # a reset row holds A = 0, so no trace enters it
        stop = stop | ~valid
    return _discounted_sums(deltas, stop, gamma * gae_lambda)


def lambda_returns(
    rewards: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    lambda_: float,
) -> Tensor:
    """Mix n-step returns of all lengths into λ-returns.

        G_t = r_t + γ (1 - terminated_t) [(1 - λ) V(s_{t+1}) + λ G_{t+1}]
        where the bracket is V(s_{t+1}) if truncated_t, and at the last row

    λ = 0 gives the TD target, λ = 1 the Monte Carlo return with a bootstrap where an episode is
    cut. Equals `gae` + `values` when `next_values[t]` is `values[t + 1]` within each episode.

    Args:
        rewards: (T, N) float, reward received after each action.
        next_values: (T, N) float, V of the *real* next state, before a reset. Unused if terminated.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        gamma: discount factor γ in [0, 1].
        lambda_: trace decay λ in [0, 1].
    Returns: (T, N) λ-returns.
    Raises: ShapeError: if an array is not (T, N) like `rewards`.
    Reference: Sutton and Barto 2018, Reinforcement Learning, eq. 12.2, written as a recursion.
    >>> rewards, next_values = torch.tensor([1.0, 4.0]).expand(3, 1, 2).unbind(2)
    >>> terminated = torch.zeros(3, 1, dtype=torch.bool)
    >>> truncated = torch.tensor([[False], [False], [True]])
    >>> lambda_returns(rewards, next_values, terminated, truncated, 0.5, 0.5).tolist()
    [[2.6875], [2.75], [3.0]]
    """
    _check_time_first(rewards, next_values=next_values, terminated=terminated, truncated=truncated)
    stop = terminated | truncated
    stop[-1] = True
    bootstraps = torch.where(stop, next_values, (1.0 - lambda_) * next_values)
    terms = rewards + torch.where(terminated, 0.0, gamma * bootstraps)
    return _discounted_sums(terms, stop, gamma * lambda_)


def n_step_returns(
    rewards: Tensor,
    next_values: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    n: int,
) -> Tensor:
    """Sum up to n rewards and bootstrap from the value of the state where the sum stops.

        G_t = r_t + γ r_{t+1} + … + γ^{k-1} r_{t+k-1} + γ^k V(s_{t+k})

    k is n, or less where the episode or the rollout ends earlier. A terminated episode has no
    bootstrap; a truncated one and the end of the rollout bootstrap after the k steps there are.

    Args:
        rewards: (T, N) float, reward received after each action.
        next_values: (T, N) float, V of the *real* next state, before a reset. Unused if terminated.
        terminated: (T, N) bool.
        truncated: (T, N) bool.
        gamma: discount factor γ in [0, 1].
        n: number of env steps to sum, at least 1; 1 gives the TD target.
    Returns: (T, N) n-step returns.
    Raises: ShapeError: if an array is not (T, N) like `rewards`. ConfigError: if `n` < 1.
    Reference: Sutton and Barto 2018, Reinforcement Learning, eq. 7.1.
    >>> rewards, next_values = torch.tensor([[[1.0], [2.0], [4.0]], [[8.0], [8.0], [8.0]]])
    >>> running = torch.zeros(3, 1, dtype=torch.bool)
    >>> n_step_returns(rewards, next_values, running, running, 0.5, n=2).tolist()
    [[4.0], [6.0], [8.0]]
    """
    _check_time_first(rewards, next_values=next_values, terminated=terminated, truncated=truncated)
    if n < 1:
        raise ConfigError(f"n is {n}, expected at least 1: use n=1 for the one-step TD target.")
    td_targets = rewards + torch.where(terminated, 0.0, gamma * next_values)
    stop = terminated | truncated
    stop[-1] = True
    returns = td_targets
    for _ in range(min(n, len(rewards)) - 1):  # each pass makes the sums one step longer
        longer = rewards + gamma * returns.roll(-1, dims=0)
        returns = torch.where(stop, td_targets, longer)
    return returns


def n_step_target(
    rewards: Tensor, next_values: Tensor, terminated: Tensor, discounts: Tensor
) -> Tensor:
    """Compute the n-step TD target of B transitions.

        y = r_0 + γ r_1 + ... + γ^(k-1) r_(k-1) + γ^k V(s_k),  without V where terminated

    Args:
        rewards: (B,) float, the discounted sum of k ≤ n rewards.
        next_values: (B,) float, V of the state after them; ignored (may be NaN) where terminated.
        terminated: (B,) bool.
        discounts: (B,) float, γ^k.

    Raises:
        ShapeError: if the shapes differ: (B, 1) against (B,) would broadcast to (B, B).

    Example:
        >>> one = torch.ones(2)
        >>> n_step_target(one, 10 * one, torch.tensor([False, True]), 0.5 * one)
        tensor([6., 1.])

    Reference: Sutton and Barto 2018, eq. 7.1.
    """
    _check_same_shape(
        rewards=rewards, next_values=next_values, terminated=terminated, discounts=discounts
    )
    return torch.addcmul(rewards, discounts, next_values.masked_fill(terminated, 0.0))


def ppo_policy_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_range: float
) -> Tensor:
    """Compute PPO's clipped surrogate objective as a loss to minimise.

        L = -mean(min(ρ A, clip(ρ, 1-ε, 1+ε) A)),   ρ = π(a|s) / π_old(a|s)

    Args:
        log_probs: (B,) float, log π(a|s) of the policy being trained.
        old_log_probs: (B,) float, log π_old(a|s) when the action was taken.
        advantages: (B,) float, A.
        clip_range: ε > 0, usually 0.2.
    Returns: scalar loss.
    Raises: ShapeError: if the shapes differ or hold no element.
    Reference: Schulman et al. 2017, eq. 7, https://arxiv.org/abs/1707.06347
    >>> ppo_policy_loss(torch.tensor([2.0, 0.5]).log(), torch.zeros(2), torch.ones(2), 0.25)
    tensor(-0.8750)
    """
    _check_same_shape(log_probs=log_probs, old_log_probs=old_log_probs, advantages=advantages)
    ratios = (log_probs - old_log_probs).exp()
    clipped = ratios.clamp(1.0 - clip_range, 1.0 + clip_range)
    return -torch.minimum(ratios * advantages, clipped * advantages).mean()


def ppo_value_loss(
    values: Tensor,
    returns: Tensor,
    old_values: Tensor | None = None,
    clip_range: float | None = None,
) -> Tensor:
    """Compute half the mean squared error of the values, clipped if a clip range is given.

        L = ½ mean((V - R)²)                                            without clip_range
        L = ½ mean(max((V - R)², (V_old + clip(V - V_old, -ε, ε) - R)²))   with clip_range

    The ½ is in both, so that switching the clip keeps the meaning of the value coefficient.

    Args:
        values: (B,) float, V of the network being trained.
        returns: (B,) float, the targets R.
        old_values: (B,) float, V when the rollout was collected; needed with `clip_range`.
        clip_range: ε > 0 in units of value. Default: no clipping.
    Returns: scalar loss, in units of reward squared.
    Raises: ShapeError: if the shapes differ or hold no element.
        ConfigError: if `clip_range` is given without `old_values`.
    Reference: Schulman et al. 2017, eq. 9, https://arxiv.org/abs/1707.06347, has no clip; that is
        detail 9 of https://iclr-blog-track.github.io/2022/03/25/ppo-implementation-details/
    >>> ppo_value_loss(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 0.0]))  # ½ (1 + 9) / 2
    tensor(2.5000)
    """
    _check_same_shape(values=values, returns=returns, old_values=old_values)
    if clip_range is None:
        return 0.5 * mse_loss(values, returns)
    if old_values is None:
        raise ConfigError("clip_range is given, old_values is None: pass both, or neither.")
    clipped = old_values + (values - old_values).clamp(-clip_range, clip_range)
    errors = mse_loss(values, returns, reduction="none")
    return 0.5 * torch.maximum(errors, mse_loss(clipped, returns, reduction="none")).mean()


def kl_k1(log_probs: Tensor, old_log_probs: Tensor) -> Tensor:
    """Estimate KL(old ‖ new) without bias but with high variance; can be negative.

        k1 = mean(-log ρ),   ρ = π(a|s) / π_old(a|s),   a drawn from π_old

    Args:
        log_probs: (B,) float, log π(a|s) of the new policy.
        old_log_probs: (B,) float, log π_old(a|s) of the policy that drew the actions.
    Returns: scalar, nats.
    Raises: ShapeError: if the shapes differ or hold no element.
    Reference: Schulman 2020, Approximating KL Divergence, http://joschu.net/blog/kl-approx.html
    >>> kl_k1(torch.tensor([-1.0, -2.0]), torch.tensor([-0.5, -1.5]))
    tensor(0.5000)
    """
    _check_same_shape(log_probs=log_probs, old_log_probs=old_log_probs)
    return (old_log_probs - log_probs).mean()


def kl_k2(log_probs: Tensor, old_log_probs: Tensor) -> Tensor:
    """Estimate KL(old ‖ new) with low variance and a small bias; never negative.

        k2 = mean(½ (log ρ)²),   ρ = π(a|s) / π_old(a|s),   a drawn from π_old

    Args:
        log_probs: (B,) float, log π(a|s) of the new policy.
        old_log_probs: (B,) float, log π_old(a|s) of the policy that drew the actions.
    Returns: scalar, nats.
    Raises: ShapeError: if the shapes differ or hold no element.
    Reference: Schulman 2020, Approximating KL Divergence, http://joschu.net/blog/kl-approx.html
    >>> kl_k2(torch.tensor([-1.0, -2.0]), torch.tensor([-0.5, -1.5]))
    tensor(0.1250)
    """
    _check_same_shape(log_probs=log_probs, old_log_probs=old_log_probs)
    return 0.5 * mse_loss(log_probs, old_log_probs)


def approx_kl(log_probs: Tensor, old_log_probs: Tensor) -> Tensor:
    """Estimate KL(old ‖ new) without bias and with low variance (Schulman's k3); never negative.

        k3 = mean((ρ - 1) - log ρ),   ρ = π(a|s) / π_old(a|s),   a drawn from π_old

    Args:
        log_probs: (B,) float, log π(a|s) of the new policy.
        old_log_probs: (B,) float, log π_old(a|s) of the policy that drew the actions.
    Returns: scalar, nats.
    Raises: ShapeError: if the shapes differ or hold no element.
    Reference: Schulman 2020, Approximating KL Divergence, http://joschu.net/blog/kl-approx.html
    >>> approx_kl(torch.tensor([2.0]).log(), torch.zeros(1))  # 2 - 1 - log 2
    tensor(0.3069)
    """
    _check_same_shape(log_probs=log_probs, old_log_probs=old_log_probs)
    log_ratios = log_probs - old_log_probs
    return (log_ratios.expm1() - log_ratios).mean()


def clip_fraction(log_probs: Tensor, old_log_probs: Tensor, clip_range: float) -> Tensor:
    """Measure the share of actions whose probability ratio left the clip range.

        mean(|ρ - 1| > ε),   ρ = π(a|s) / π_old(a|s)

    Args:
        log_probs: (B,) float, log π(a|s) of the policy being trained.
        old_log_probs: (B,) float, log π_old(a|s) when the action was taken.
        clip_range: ε > 0.
    Returns: float32 scalar in [0, 1].
    Raises: ShapeError: if the shapes differ or hold no element.
    Reference: https://iclr-blog-track.github.io/2022/03/25/ppo-implementation-details/, detail 12.
    >>> clip_fraction(torch.tensor([1.0, 1.1, 1.3, 0.5]).log(), torch.zeros(4), 0.2)
    tensor(0.5000)
    """
    _check_same_shape(log_probs=log_probs, old_log_probs=old_log_probs)
    return ((log_probs - old_log_probs).expm1().abs() > clip_range).mean(dtype=torch.float32)


def explained_variance(predictions: Tensor, targets: Tensor) -> Tensor:
    """Measure how much of the targets' variance the predictions explain.

        1 - Var(targets - predictions) / Var(targets)

    1 is perfect, 0 as good as a constant, below 0 worse than a constant. NaN where the targets
    are constant (a single target is), because there is no variance to explain.

    Args:
        predictions: (B,) float, for example values.
        targets: (B,) float, for example returns.
    Returns: scalar without unit.
    Raises: ShapeError: if the shapes differ or hold no element.
    Reference: https://iclr-blog-track.github.io/2022/03/25/ppo-implementation-details/, detail 12.
    >>> explained_variance(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 2.0]))
    tensor(0.7500)
    """
    _check_same_shape(predictions=predictions, targets=targets)
    # var_mean, not var: it is exactly 0 for equal numbers, where var leaves a rounding error.
    residual, _ = torch.var_mean(targets - predictions, correction=0)
    total, _ = torch.var_mean(targets, correction=0)
    return 1.0 - residual / total.masked_fill(total == 0.0, torch.nan)


def normalize(advantages: Tensor, eps: float = 1e-8) -> Tensor:
    """Shift to zero mean and scale to unit standard deviation.

        (A - mean(A)) / (std(A) + eps),   std with B - 1 in its denominator

    Args:
        advantages: (B,) float. Equal ones, and a single one, become zeros rather than NaN.
        eps: keeps the division finite, in units of the advantages. Default 1e-8.
    Returns: (B,) normalised advantages, without unit.
    Raises: ShapeError: if there is no element.
    Reference: https://iclr-blog-track.github.io/2022/03/25/ppo-implementation-details/, detail 7.
    >>> normalize(torch.tensor([1.0, 2.0, 3.0])).tolist()
    [-1.0, 0.0, 1.0]
    """
    _check_same_shape(advantages=advantages)
    if advantages.numel() == 1:
        return torch.zeros_like(advantages)
    std, mean = torch.std_mean(advantages)  # exact for equal numbers, which .std() is not
    return (advantages - mean) / (std + eps)


def _discounted_sums(terms: Tensor, stop: Tensor, factor: float) -> Tensor:
    """Sum y_t = terms_t + factor y_{t+1} backwards over (T, N), with y_t = terms_t at a stop."""
    factors = torch.full_like(terms, factor).masked_fill_(stop, 0.0)
    all_finite = bool(terms.isfinite().all())  # 0 * NaN is NaN: only then is a stop worth a where
    sums = [terms[-1]]
    for term, row_factor in zip(terms.unbind()[-2::-1], factors.unbind()[-2::-1], strict=True):
        total = torch.addcmul(term, row_factor, sums[-1])
        sums.append(total if all_finite else torch.where(row_factor == 0.0, term, total))
    return torch.stack(sums[::-1])


def _check_time_first(rewards: Tensor, **arrays: Tensor | None) -> None:
    """Raise ShapeError unless all arrays have one shape (T, N), T and N at least 1."""
    if rewards.ndim != 2:
        hint = "time first; for a single environment use rewards.reshape(-1, 1)."
        raise ShapeError(f"rewards has shape {tuple(rewards.shape)}, expected (T, N): {hint}")
    _check_same_shape(rewards=rewards, **arrays)


def _check_same_shape(**arrays: Tensor | None) -> None:
    """Raise ShapeError unless all arrays have the shape of the first, and hold something."""
    (first, expected), *others = [(k, tuple(v.shape)) for k, v in arrays.items() if v is not None]
    if 0 in expected:
        raise ShapeError(f"{first} has shape {expected}, expected at least one element: skip it.")
    for name, shape in others:
        if shape != expected:
            hint = f"reshape {name}, as with squeeze or unsqueeze; nothing is broadcast."
            raise ShapeError(f"{name} has shape {shape}, expected {expected} like {first}: {hint}")
