"""Formulas against loops in float64, and against Stable-Baselines3 where it is installed."""

from __future__ import annotations

import importlib.util

import numpy as np
import torch
from torch import Tensor

from lightning_rl.functional import discounted_returns, gae, lambda_returns, n_step_returns
from tests.reliability.goals import Checks, Figure

CASES, SHORT_CASES = 500, 50
TOLERANCE = 1e-5


class Case:
    """A random rollout (T, N), whose `values[t + 1]` is the value after row t."""

    def __init__(self, seed: int) -> None:
        draw = np.random.default_rng(seed)
        self.T, self.N = int(draw.integers(1, 41)), int(draw.integers(1, 6))
        self.gamma, self.lambda_ = (float(draw.choice([0.0, 1.0, draw.random()])) for _ in "gl")
        self.n = int(draw.integers(1, 8))
        self.rewards = draw.normal(size=(self.T, self.N))
        self.values = draw.normal(size=(self.T + 1, self.N))
        end = draw.choice([0.0, 0.1, 0.5])
        self.terminated, self.truncated = draw.random((2, self.T, self.N)) < end

    def tensors(self, *names: str) -> list[Tensor]:
        return [torch.from_numpy(getattr(self, name).copy()) for name in names]


def loop_errors(case: Case) -> list[float]:
    """Give the largest error of each formula against sums written out in Python's floats."""
    rewards, terminated, truncated = case.tensors("rewards", "terminated", "truncated")
    values, after = torch.from_numpy(case.values[:-1]), torch.from_numpy(case.values[1:])
    ends, gamma, lambda_ = (terminated, truncated), case.gamma, case.lambda_
    got = (
        gae(rewards, values, after, *ends, gamma, lambda_),
        lambda_returns(rewards, after, *ends, gamma, lambda_),
        n_step_returns(rewards, after, *ends, gamma, case.n),
        discounted_returns(rewards, *ends, gamma, after[-1]),
    )
    expected = np.array(
        [[_loops(case, t, i) for i in range(case.N)] for t in range(case.T)]
    )  # (T, N, 4)
    return [float((g - torch.from_numpy(expected[..., k])).abs().max()) for k, g in enumerate(got)]


def _loops(case: Case, t: int, i: int) -> tuple[float, float, float, float]:
    """Sum forwards from row t: GAE, the λ-return, the n-step return, the discounted return."""
    gamma, lambda_, values = case.gamma, case.lambda_, case.values[:, i]
    advantage = n_step = total = 0.0
    for k in range(case.T - t):
        row = t + k
        reward, terminated = case.rewards[row, i], case.terminated[row, i]
        ended = terminated or case.truncated[row, i]
        bootstrap = 0.0 if terminated else values[row + 1]
        advantage += (gamma * lambda_) ** k * (reward + gamma * bootstrap - values[row])
        total += gamma**k * reward
        is_last = ended or row == case.T - 1
        if k < case.n:
            n_step += gamma**k * reward
            if is_last or k == case.n - 1:
                n_step += gamma ** (k + 1) * bootstrap
        if is_last:
            total += 0.0 if ended else gamma ** (k + 1) * values[row + 1]
            break
    return advantage, advantage + values[t], n_step, total


def formulas_against_loops(short: bool) -> Figure:
    """Compare the four returns in float64."""
    cases = SHORT_CASES if short else CASES
    worst = max(max(loop_errors(Case(seed))) for seed in range(cases))
    return Figure(f"{cases} cases in float64, largest error {worst:.1e}", worst <= 1e-6)


def peer_error(case: Case) -> float:
    """Give the largest error of GAE against Stable-Baselines3's buffer, which is in float32."""
    from gymnasium import spaces
    from stable_baselines3.common.buffers import RolloutBuffer

    box = spaces.Box(-1, 1, (1,), np.float32)
    options = {"gamma": case.gamma, "gae_lambda": case.lambda_, "n_envs": case.N}
    peer = RolloutBuffer(case.T, box, box, "cpu", **options)
    peer.reset()
    # It knows of no truncation here: the caller adds the value after a time limit to the reward.
    bonus = np.where(case.truncated & ~case.terminated, case.gamma * case.values[1:], 0.0)
    ended = case.terminated | case.truncated
    starts = np.vstack([np.zeros((1, case.N), bool), ended])
    peer.rewards[:] = case.rewards + bonus
    peer.values[:] = case.values[:-1]
    peer.episode_starts[:] = starts[:-1]
    last = torch.from_numpy(case.values[-1]).float()
    peer.compute_returns_and_advantage(last, starts[-1])
    rewards, terminated, truncated = case.tensors("rewards", "terminated", "truncated")
    values, after = torch.from_numpy(case.values[:-1]), torch.from_numpy(case.values[1:])
    numbers = [array.float() for array in (rewards, values, after)]
    ours = gae(*numbers, terminated, truncated, case.gamma, case.lambda_)
    return float(np.abs(ours.numpy() - peer.advantages).max())


def gae_against_a_peer(short: bool) -> Figure:
    """Compare GAE in float32, case by case."""
    if importlib.util.find_spec("stable_baselines3") is None:
        return Figure("Stable-Baselines3 is not installed (the extra `bench`): not compared", True)
    cases = SHORT_CASES if short else CASES
    worst = max(peer_error(Case(seed)) for seed in range(cases))
    words = f"GAE against Stable-Baselines3, {cases} cases in float32: largest error {worst:.1e}"
    return Figure(words, worst <= TOLERANCE)


CHECKS: Checks = [(6, formulas_against_loops), (8, gae_against_a_peer)]
