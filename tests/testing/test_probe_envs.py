"""Probe environments: their values are what their docstrings say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from all_actions import ACTION_SPACES, each_action_space
from gymnasium import Space, spaces
from gymnasium.utils.env_checker import check_env

from lightning_rl.checkpoints.env_state import env_state, load_env_state
from lightning_rl.errors import (
    SpaceError,
)
from lightning_rl.testing.probe_envs import (
    ConstantRewardEnv,
    CountingEnv,
    DelayedRewardEnv,
    IdentityEnv,
    TwoStateEnv,
)

ENVS: dict[str, Callable[[], gym.Env]] = {
    "constant": ConstantRewardEnv,
    "delayed": DelayedRewardEnv,
    "two_state": TwoStateEnv,
    "counting": CountingEnv,
    "counting_both_ends": lambda: CountingEnv([3, 4], truncation=0.5),
    **{kind: lambda space=space: IdentityEnv(space) for kind, space in ACTION_SPACES.items()},
}


each_env = pytest.mark.parametrize("make", ENVS.values(), ids=ENVS.keys())


def episode(env: gym.Env, choose: Callable[[Any], Any] = lambda _: 0) -> list[tuple]:
    """Play an episode; give (observation, action, reward, terminated, truncated) of each step."""
    rows, ended = [], False
    observation, _ = env.reset()
    while not ended:
        action = choose(observation)
        after, reward, terminated, truncated, _ = env.step(action)
        rows.append((observation, action, reward, terminated, truncated))
        observation, ended = after, terminated or truncated
    return rows


def discounted(rewards: list[float], gamma: float) -> float:
    return sum(reward * gamma**t for t, reward in enumerate(rewards))


# ---- the environments' promises --------------------------------------------------------------


@each_env
def test_environments_pass_gymnasiums_own_check(make: Any) -> None:
    check_env(make(), skip_render_check=True)


@each_env
def test_environments_can_be_saved_in_mid_episode(make: Any) -> None:
    env = make()
    env.reset(seed=1)
    env.step(env.action_space.sample())
    state, action = env_state(env), env.action_space.sample()
    first = [env.step(action), env.reset(), env.step(action)]
    load_env_state(env, state)
    assert str([env.step(action), env.reset(), env.step(action)]) == str(first)


def test_constant_reward_is_cut_but_never_ends() -> None:
    rows = episode(ConstantRewardEnv(length=3))
    assert [row[2:] for row in rows] == [(1, False, False), (1, False, False), (1, False, True)]
    assert {row[0].item() for row in rows} == {0.0}


@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9])
def test_delayed_reward_has_the_value_its_docstring_says(length: int, gamma: float) -> None:
    rows = episode(DelayedRewardEnv(length))
    rewards = [row[2] for row in rows]
    assert [row[0] for row in rows] == list(range(length))
    for t in range(length):
        assert discounted(rewards[t:], gamma) == pytest.approx(gamma ** (length - 1 - t))
    assert rows[-1][3:] == (True, False)


@each_action_space
def test_identity_pays_most_for_the_observation_itself(space: Space) -> None:
    env = IdentityEnv(space, length=200)
    env.reset(seed=0)
    assert [row[2] for row in episode(env, lambda observation: observation)] == [1.0] * 200
    random_return = sum(row[2] for row in episode(env, lambda _: space.sample())) / 200
    chance = {"Discrete": 1 / 3, "MultiDiscrete": 1 / 6, "MultiBinary": 1 / 8, "Box": 2 / 3}
    assert random_return == pytest.approx(chance[type(space).__name__], abs=0.1)


@pytest.mark.parametrize("space", [spaces.Box(-np.inf, np.inf, (1,)), spaces.Text(3)])
def test_identity_refuses_spaces_it_can_not_compare(space: Space) -> None:
    with pytest.raises(SpaceError, match="expected Discrete"):
        IdentityEnv(space)


@pytest.mark.parametrize("gamma", [0.3, 0.4, 0.9])
def test_two_states_have_the_values_their_docstring_says(gamma: float) -> None:
    policies = {name: discounted([row[2] for row in episode(TwoStateEnv(300), policy)], gamma)
                for name, policy in {"go": lambda _: 1, "stay": lambda s: s}.items()}  # fmt: skip
    assert policies["go"] == pytest.approx(gamma / (1 - gamma) - 0.5)
    assert (policies["go"] > policies["stay"]) == (gamma > 1 / 3)
    assert sum(row[2] for row in episode(TwoStateEnv(8), lambda _: 1)) == 6.5


def test_counting_observes_where_it_is() -> None:
    env = CountingEnv(lengths=[2, 1], first_episode=7)
    for _ in range(2):
        rows = [tuple(row[0].tolist()) for _ in range(3) for row in episode(env)]
        assert rows == [(7, 0), (7, 1), (8, 0), (9, 0), (9, 1)]
        env.reset(seed=1)
        env.episode -= 1  # so that `episode` begins with the number 7 again
    assert [row[2] for row in episode(CountingEnv([4]))] == [1, 2, 3, 4]


@pytest.mark.parametrize(("truncation", "kinds"), [(0, {"term"}), (1, {"trunc"}), (0.5, None)])
def test_counting_ends_as_it_is_told(truncation: float, kinds: set[str] | None) -> None:
    env = CountingEnv(truncation=truncation)
    env.reset(seed=0)
    last = [episode(env)[-1] for _ in range(100)]
    assert all(row[3] != row[4] for row in last)
    assert {"term" if row[3] else "trunc" for row in last} == (kinds or {"term", "trunc"})
    assert {int(row[0][1]) + 1 for row in last} == {1, 2, 3, 4, 5, 6}
