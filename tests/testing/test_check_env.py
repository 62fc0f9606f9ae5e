"""An environment's author learns what is wrong, from two short rollouts."""

from __future__ import annotations

import random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from lightning_rl.errors import EnvError, NonFiniteError
from lightning_rl.testing import check_env


class Noisy(gym.Env):
    """Observes and pays a random number, drawn as it should be."""

    observation_space = spaces.Box(0, 1, (1,))
    action_space = spaces.Discrete(2)

    def draw(self) -> float:
        return float(self.np_random.random())

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        return np.full(1, self.draw(), np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.t += 1
        return np.full(1, self.draw(), np.float32), self.draw(), False, self.t == 5, {}


class FromNumpy(Noisy):
    def draw(self) -> float:
        return float(np.random.random())  # noqa: NPY002 (the fault)


class FromPython(Noisy):
    def draw(self) -> float:
        return random.random()  # noqa: S311 (the fault)


class FromTorch(Noisy):
    def draw(self) -> float:
        return float(torch.rand(()))


class FromItsSpace(Noisy):
    def __init__(self) -> None:
        self.unseeded = spaces.Box(0, 1, (1,))

    def draw(self) -> float:
        return float(self.unseeded.sample()[0])


class Counting(Noisy):
    made = 0

    def draw(self) -> float:
        Counting.made += 1
        return Counting.made % 7 / 7


class NotANumber(Noisy):
    def draw(self) -> float:
        return float("nan") if getattr(self, "t", 0) == 3 else 0.5


class FourValues(Noisy):
    def step(self, action: Any) -> Any:
        return super().step(action)[:4]


@pytest.mark.parametrize("env", [Noisy, Noisy(), "CartPole-v1", "Blackjack-v1", "FrozenLake-v1"])
def test_an_environment_that_can_be_repeated_passes(env: Any) -> None:
    check_env(env)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (FromNumpy, "global random numbers of numpy.random, which"),
        (FromPython, "global random numbers of random, which"),
        (FromTorch, "global random numbers of torch, which"),
        (
            FromItsSpace,
            "(?s)two copies with the same seed.* in reset.*spaces that you seed",
        ),
        (Counting, "two copies with the same seed"),
        (FourValues, "must return five"),
    ],
)
def test_a_fault_is_named_and_random_numbers_are_put_back(kind: Any, message: str) -> None:
    before = random.getstate(), torch.get_rng_state().tolist()
    with pytest.raises(EnvError, match=message):
        check_env(kind)
    assert (random.getstate(), torch.get_rng_state().tolist()) == before


def test_what_is_not_finite_is_named() -> None:
    with pytest.raises(NonFiniteError, match=r"nan.* as rewards in step 3|nan.* in step 3"):
        check_env(NotANumber)
