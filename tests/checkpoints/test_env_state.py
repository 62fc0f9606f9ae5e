"""An environment's state: restored, it goes on exactly; what can't be saved is named."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from comparing import Phase, assert_alike, reloaded
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import ClipReward, FrameStackObservation, TimeLimit, TransformReward

from lightning_rl.checkpoints.env_state import env_state, load_env_state
from lightning_rl.checkpoints.plain_values import to_plain
from lightning_rl.errors import StateError

# ---- env_state, load_env_state -------------------------------------------------------------------


def sync(name: str, *wrappers: Callable, steps: int = 7, mode: str = "NextStep") -> Callable:
    def make_one() -> gym.Env:
        env = gym.make(name, max_episode_steps=steps)
        for wrapper in wrappers:
            env = wrapper(env)
        return env

    return lambda: SyncVectorEnv([make_one] * 3, autoreset_mode=AutoresetMode(mode))


ENVS: dict[str, Callable[[], VectorEnv]] = {
    "cartpole_native": lambda: gym.make_vec("CartPole-v1", num_envs=3, max_episode_steps=15),
    "cartpole": sync("CartPole-v1", steps=15),
    "cartpole_same_step": sync("CartPole-v1", steps=15, mode="SameStep"),
    "pendulum": sync("Pendulum-v1"),
    "acrobot": sync("Acrobot-v1"),
    "mountain_car": sync("MountainCar-v0"),
    "mountain_car_continuous": sync("MountainCarContinuous-v0"),
    "frame_stack": sync("Pendulum-v1", lambda env: FrameStackObservation(env, 2)),
    "transformed": sync("Pendulum-v1", lambda env: TransformReward(env, lambda r: r / 2)),
    "vector_wrapper": lambda: gym.wrappers.vector.ClipReward(sync("Pendulum-v1")(), -1, 1),
}

every_env = pytest.mark.parametrize("make", ENVS.values(), ids=ENVS.keys())


def played(env: VectorEnv, steps: int, seed: int) -> list[Any]:
    """What the environment returns to the actions that belong to a seed."""
    env.action_space.seed(seed)
    return [list(env.step(env.action_space.sample())[:4]) for _ in range(steps)]


@every_env
@pytest.mark.parametrize("steps", [0, 7, 20])
def test_restored_environment_goes_on_exactly(make: Callable, steps: int) -> None:
    """Through episode ends and new episodes, so its random numbers are restored too."""
    env, other = make(), make()
    env.reset(seed=1)
    played(env, steps, seed=1)
    state = reloaded(env_state(env))
    other.reset(seed=99)
    load_env_state(other, state)
    continued = played(env, 40, seed=2)
    assert_alike(played(other, 40, seed=2), continued)
    assert any((row[2] | row[3]).any() for row in continued)


def test_saving_changes_nothing() -> None:
    env, twin = ENVS["cartpole"](), ENVS["cartpole"]()
    for one in (env, twin):
        one.reset(seed=1)
    env_state(env)
    assert_alike(played(env, 30, seed=2), played(twin, 30, seed=2))


class Drifting(gym.Env):
    """A walk whose every attribute matters: an inner environment, a phase, a generator."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float64)
    action_space = spaces.Discrete(2)

    def __init__(self, **attributes: Any) -> None:
        self.inner = gym.make("Pendulum-v1")
        self.phase = Phase.NIGHT
        self.position = np.float64(0.0)
        vars(self).update(attributes)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        self.inner.reset(seed=seed)  # and its own generator is made when it is first needed
        self.phase = Phase.NIGHT
        return np.zeros(1), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.phase = Phase.DAY if self.phase is Phase.NIGHT else Phase.NIGHT
        if self.phase is Phase.DAY:
            self.position += self.inner.step(np.ones(1, np.float32))[1]
        self.last_action = int(action)  # set here first
        return np.array([self.position + self.np_random.normal()]), 0.0, False, False, {}


def test_inner_environments_phases_and_late_attributes_are_restored() -> None:
    env, other = Drifting(), Drifting()
    env.reset(seed=1)
    for _ in range(5):
        env.step(1)
    other.reset(seed=9)
    load_env_state(other, reloaded(env_state(env)))
    assert (other.last_action, other.phase) == (1, Phase.DAY)
    assert_alike([env.step(0) for _ in range(6)], [other.step(0) for _ in range(6)])


class Noise:
    """Something with a state that can be called, like many a simulator's noise."""

    def __init__(self) -> None:
        self.last = 0.0

    def __call__(self) -> float:
        return self.last


@pytest.mark.parametrize("value", [threading.Lock(), Noise(), {"a": object()}, [Phase.DAY]])
def test_attribute_that_can_not_be_saved_is_named(value: Any) -> None:
    env = SyncVectorEnv([lambda: TimeLimit(Drifting(simulator=value), 5)])
    with pytest.raises(StateError, match=r"environment's Drifting\.simulator can't be saved: got"):
        env_state(env)


def a_function() -> None:
    """Fixed when the environment was made."""


@pytest.mark.parametrize("value", [a_function, np.sin, np.add, np, Phase, [len]])
def test_functions_modules_and_classes_are_not_saved_and_not_touched(value: Any) -> None:
    env = Drifting(tool=value)
    state = env_state(env)
    load_env_state(env, reloaded(state))
    assert env.tool is value


def test_asynchronous_environment_is_refused_with_the_reason() -> None:
    env = AsyncVectorEnv([lambda: gym.make("CartPole-v1")])
    try:
        with pytest.raises(StateError, match="other processes"):
            env_state(env)
    finally:
        env.close()


class Wandering(Drifting):
    """Has the very attributes of `Drifting`."""


OTHERS: dict[str, tuple[Callable, Callable]] = {
    "other_env": (ENVS["pendulum"], ENVS["cartpole"]),
    "native_or_not": (ENVS["cartpole_native"], ENVS["cartpole"]),
    "more_wrappers": (sync("Pendulum-v1", lambda e: ClipReward(e, -1, 1)), ENVS["pendulum"]),
    "more_envs": (lambda: gym.make_vec("Pendulum-v1", num_envs=2), ENVS["pendulum"]),
    "more_native_envs": (lambda: gym.make_vec("CartPole-v1", 4), ENVS["cartpole_native"]),
    "other_class": (Drifting, Wandering),
}


@pytest.mark.parametrize(("make", "make_other"), OTHERS.values(), ids=OTHERS.keys())
def test_another_environment_is_refused_and_left_alone(
    make: Callable, make_other: Callable
) -> None:
    env, other = make(), make_other()
    env.reset(seed=1)
    other.reset(seed=2)
    before = env_state(other)
    with pytest.raises(StateError, match="written with another environment"):
        load_env_state(other, reloaded(env_state(env)))
    assert_alike(env_state(other), before)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("step", ("scalar", None)),
        ("unwrapped", ("scalar", None)),
        ("np_random", ("scalar", 1)),
        ("phase", ("enum", "NOON")),
        ("_np_random", ("generator", to_plain({"bit_generator": "MT19937"}))),
    ],
)
def test_damaged_state_is_refused_before_anything_is_set(name: str, plain: Any) -> None:
    env = Drifting()
    env.reset(seed=1)
    env.step(0)
    before, damaged = env_state(env), env_state(env)
    damaged[0]["values"] = {"position": ("scalar", 7.0), name: plain}
    with pytest.raises(StateError):
        load_env_state(env, damaged)
    assert_alike(env_state(env), before)
