"""Environments of the old API, and infos that change: the error shows what to return."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from counting_env import CountingEnv, zeros
from gymnasium.vector import SyncVectorEnv, VectorEnv

from lightning_rl.envs.runner import EnvRunner
from lightning_rl.envs.vectorize import make_vector_env
from lightning_rl.errors import EnvError


class NoInfo(CountingEnv):
    def reset(self, **options: Any) -> Any:
        return super().reset(**options)[0]


class FourValues(CountingEnv):
    def step(self, action: Any) -> Any:
        observation, reward, terminated, _, info = super().step(action)
        return observation, reward, terminated, info


class NoSeed(CountingEnv):
    def reset(self) -> Any:  # type: ignore[override]
        return super().reset()


class NoneInfo(CountingEnv):
    def step(self, action: Any) -> Any:
        return (*super().step(action)[:-1], None)


def step_everywhere(env: VectorEnv, times: int) -> None:
    runner = EnvRunner(env)
    runner.reset(seed=0)
    for _ in range(times):
        runner.step(zeros(env))


@pytest.mark.parametrize("kind", [NoInfo, FourValues, NoSeed, NoneInfo])
def test_old_environments_are_shown_what_to_return(kind: Callable[[list[int]], Any]) -> None:
    message = r"sub-environment 0 raised.*\(observation, reward, terminated, truncated, info\)"
    with pytest.raises(EnvError, match=message):
        step_everywhere(make_vector_env(lambda: kind([3]), 2), times=1)


def test_an_unpacking_error_of_the_environments_own_is_not_explained_away() -> None:
    class Mistaken(CountingEnv):
        def step(self, action: Any) -> Any:
            _, _ = (1, 2, 3)  # type: ignore[misc]

    with pytest.raises(EnvError) as caught:
        step_everywhere(make_vector_env(lambda: Mistaken([3]), 1), times=1)
    assert "must return" not in str(caught.value)


def test_environment_without_spaces_is_told_to_have_some() -> None:
    class NoSpaces(CountingEnv):
        observation_space = None  # type: ignore[assignment]

    with pytest.raises(EnvError, match="NoSpaces has no observation_space"):
        make_vector_env(lambda: NoSpaces([3]), 2)


class Chatty(CountingEnv):
    def __init__(self, infos: list[Any]) -> None:
        super().__init__([9])
        self.infos = infos

    def step(self, action: Any) -> Any:
        return (*super().step(action)[:-1], {"goal": self.infos[(self.t - 1) % len(self.infos)]})


@pytest.mark.parametrize(
    "infos",
    [[1, None], [0.5, "far"], [np.zeros(2), np.zeros(3)], [{"x": 1}, 5], [{"x": 1}, {"x": "a"}]],
)
def test_an_info_that_changes_is_named(infos: list[Any]) -> None:
    env = SyncVectorEnv([lambda: Chatty(infos), lambda: Chatty(infos[::-1])])
    with pytest.raises(EnvError, match="The entry 'goal' of its info has another type or shape"):
        step_everywhere(env, times=2)
