"""An environment's state: restored, it goes on exactly; what can't be saved is named."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from comparing import Phase, assert_alike, reloaded
from gymnasium import spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import ClipReward, FrameStackObservation, TimeLimit, TransformReward

from lightning_rl.checkpoints.env_state import env_state, load_env_state
from lightning_rl.checkpoints.fingerprints import fingerprints, kept
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


@pytest.mark.parametrize("value", [threading.Lock(), iter([1]), {"a": object()}, [Phase.DAY]])
def test_attribute_that_can_not_be_saved_is_named(value: Any) -> None:
    env = SyncVectorEnv([lambda: TimeLimit(Drifting(simulator=value), 5)])
    with pytest.raises(StateError, match=r"environment's Drifting\.simulator can't be saved: got"):
        env_state(env)


def a_function() -> None:
    """Fixed when the environment was made."""


@pytest.mark.parametrize("value", [a_function, np.sin, np.add, np, Phase, [len], [np, np.add]])
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


# ---- what is configuration ------------------------------------------------------------------


class Configured(gym.Env):
    """An environment with a table, a secret, a path, and something to be configured."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, table: Any = None, gravity: float = 10.0, length: int = 5) -> None:
        self.table = np.zeros(3) if table is None else table
        self.gravity, self.length = gravity, length
        self.api_key, self.path = "sk-SECRET", "/home/someone/results.csv"
        self.names = ["a", b"b"]
        self.t = 0
        self.tool: Any = len

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.t += 1
        return self._observe(), 1.0, False, self.t == self.length, {}

    def _observe(self) -> Any:
        return np.array([self.gravity * self.t + self.np_random.normal()], np.float32)


def begun(env: Any, seed: int = 0) -> Any:
    """Reset an environment; give its configuration."""
    made = fingerprints(env)
    env.reset(seed=seed)
    return kept(made, env)


def saved_after(env: Any, steps: int) -> Any:
    made = begun(env)
    for _ in range(steps):
        env.step(0)
    return reloaded(env_state(env, made))


def test_a_table_that_never_changes_is_not_saved() -> None:
    table = np.random.default_rng(0).normal(size=100_000)
    env = SyncVectorEnv([lambda: Configured(table)] * 4)
    made = begun(env)
    env.step(np.zeros(4, int))
    file = io.BytesIO()
    torch.save(env_state(env, made), file)
    assert len(file.getvalue()) < 50_000
    table[3] = 7.0  # now it does
    file = io.BytesIO()
    torch.save(env_state(env, made), file)
    assert len(file.getvalue()) > table.nbytes


def test_neither_secrets_nor_paths_are_in_what_is_saved() -> None:
    assert "SECRET" not in str(saved_after(Configured(), 3))
    assert "home" not in str(saved_after(Configured(), 3))


@pytest.mark.parametrize(("name", "value"), [("gravity", 3.0), ("length", 50), ("names", [])])
def test_the_configuration_of_the_environment_given_holds_with_a_warning(
    name: str, value: Any
) -> None:
    state, other = saved_after(Configured(), 3), Configured()
    setattr(other, name, value)
    made = begun(other, seed=9)
    with pytest.warns(UserWarning, match=rf"Configured\.{name} \(now {re.escape(repr(value))}\)"):
        load_env_state(other, state, made)
    assert getattr(other, name) == value
    assert other.t == 3  # its state is the saved one


def test_a_time_limit_is_configuration() -> None:
    state, other = saved_after(TimeLimit(Configured(), 7), 3), TimeLimit(Configured(), 4)
    made = begun(other)
    with pytest.warns(UserWarning, match=r"TimeLimit\._max_episode_steps \(now 4\)"):
        load_env_state(other, state, made)
    assert other.step(0)[3]  # the fourth step


TAXI = "Taxi-v4" if "Taxi-v4" in gym.registry else "Taxi-v3"  # as old as Gymnasium is


@pytest.mark.parametrize("name", ["FrozenLake-v1", TAXI, "CliffWalking-v1"])
def test_toy_text_goes_on_exactly(name: str) -> None:
    def make() -> VectorEnv:
        return SyncVectorEnv([lambda: gym.make(name)] * 2)

    env, other = make(), make()
    made = begun(env)
    played(env, 9, seed=1)
    state = reloaded(env_state(env, made))
    load_env_state(other, state, begun(other, seed=5))
    assert_alike(played(other, 30, seed=2), played(env, 30, seed=2))


def test_what_a_reset_has_drawn_is_state() -> None:
    class Randomised(Configured):
        def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
            super().reset(seed=seed)
            self.gravity = float(self.np_random.uniform(5, 15))
            return self._observe(), {}

    env, other = Randomised(), Randomised()
    state = saved_after(env, 2)
    load_env_state(other, state, begun(other, seed=5))
    assert other.gravity == env.gravity


class Wind:
    """An object of plain data."""

    def __init__(self) -> None:
        self.speed = 3.0


def test_objects_in_a_dict_are_configuration_until_one_changes() -> None:
    env, other = (Configured({"wind": Wind()}) for _ in range(2))
    made = begun(env)
    state = reloaded(env_state(env, made))
    load_env_state(other, state, begun(other))  # without a word: its wind is as strong
    other.table["wind"].speed = 9.0
    with pytest.warns(UserWarning, match=r"Configured\.table"):
        load_env_state(other, state, begun(other))
    env.table["wind"].speed = 9.0
    with pytest.raises(StateError, match=r"Configured\.table can't be saved: got a Wind"):
        env_state(env, made)


def test_text_that_changes_is_named() -> None:
    env = Configured()
    made = begun(env)
    env.path = "/elsewhere"
    with pytest.raises(StateError, match=r"Configured\.path can't be saved: got text that changes"):
        env_state(env, made)


# ---- hostile states -------------------------------------------------------------------------

HOSTILE: dict[str, Any] = {
    "path": ("scalar", "/home/me/.profile"),
    "spec": ("scalar", "evil_module:X-v0"),
    "api_key": ("scalar", 1),
    "tool": ("scalar", 1),
    "step": ("scalar", 1),
    "np_random_seed": ("scalar", 1),
    "__class__": ("scalar", 1),
    "unwrapped": ("scalar", 1),
    "metadata": ("dict", []),
    "observation_space": ("list", []),
    "table": ("scalar", "text"),
    "names": ("list", [("scalar", "text")]),
    "gravity": ("list", []),
    "t": ("array", torch.zeros(3)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_state_sets_nothing(name: str) -> None:
    env = Configured()
    made = begun(env)
    before = dict(vars(env))
    state = env_state(env, made)
    state[0]["values"] = {"length": ("scalar", 99), name: HOSTILE[name]}
    with pytest.raises(StateError, match="written with another environment"):
        load_env_state(env, reloaded(state))
    assert vars(env).keys() == before.keys()
    assert env.length == 5  # not even the first was set
    assert all(vars(env)[key] is value for key, value in before.items())
