"""What the user gives becomes a vector environment, and evaluation never touches it."""

from __future__ import annotations

from functools import partial
from typing import Any

import gymnasium as gym
import pytest
from counting_env import CountingEnv, both_modes, counting
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from lightning_rl.envs.closing import close_env
from lightning_rl.envs.separate import make_separate_env
from lightning_rl.envs.vectorize import Vectorized, is_env, make_vector_env, vectorization_mode
from lightning_rl.errors import ConfigError, EnvError, SpaceError

# ---- make_vector_env -----------------------------------------------------------------------------


def cartpole() -> gym.Env:
    return gym.make("CartPole-v1")


@pytest.mark.parametrize(
    ("env", "kind", "num_envs"),
    [
        ("CartPole-v1", "CartPoleVectorEnv", 3),  # the native vector env
        ("Pendulum-v1", "SyncVectorEnv", 3),
        (gym.spec("CartPole-v1"), "CartPoleVectorEnv", 3),
        (gym.spec("Pendulum-v1"), "SyncVectorEnv", 3),
        (cartpole, "SyncVectorEnv", 3),
        (lambda: gym.make_vec("CartPole-v1", num_envs=5), "CartPoleVectorEnv", 5),
    ],
)
def test_names_specs_and_functions_are_vectorised(env: Any, kind: str, num_envs: int) -> None:
    vector_env = make_vector_env(env, num_envs=3)
    assert (type(vector_env.unwrapped).__name__, vector_env.num_envs) == (kind, num_envs)
    assert is_env(env)


def test_single_environment_is_used_as_it_is_and_once() -> None:
    env = cartpole()
    vector_env = make_vector_env(env, num_envs=8)
    assert isinstance(vector_env, SyncVectorEnv)
    assert len(vector_env.envs) == 1
    assert vector_env.envs[0] is env


@pytest.mark.parametrize(
    "one",
    ["CartPole-v1", gym.spec("CartPole-v1"), cartpole, CartPoleEnv, cartpole()],
    ids=["name", "spec", "function", "class", "environment"],
)
def test_each_of_a_list_is_one_sub_environment(one: Any) -> None:
    given = [one, cartpole, cartpole]
    assert is_env(given)
    assert is_env(tuple(given))
    for vector_env in (make_vector_env(given, num_envs=8), make_separate_env(given, max_envs=1)):
        assert isinstance(vector_env, SyncVectorEnv)
        assert vector_env.num_envs == 3
        assert all(env.unwrapped.spec is None or env.spec.id == "CartPole-v1"
                   for env in vector_env.envs)  # fmt: skip


def test_a_function_that_does_not_tell_its_arguments_is_called_without_any() -> None:
    made = [CountingEnv([3]) for _ in range(3)]
    vector_env: Any = make_vector_env(partial(next, iter(made)), num_envs=3)
    assert vector_env.envs == made


class LookAlike:
    """Such as an environment of the old package gym, or of PettingZoo."""

    def reset(self) -> None: ...

    def step(self, action: Any) -> None: ...


@pytest.mark.parametrize(
    ("env", "message"),
    [
        (LookAlike(), r"got LookAlike, which can `reset` and `step` but is no gymnasium\.Env"),
        (LookAlike, "the function returned LookAlike, which can"),
        ([cartpole, LookAlike()], "got LookAlike, which can"),
        (lambda rank, seed: cartpole(), "without arguments: missing a required argument: 'rank'"),
        ([cartpole, 3], "got int; expected a name such as"),
        ([cartpole, [cartpole]], "got list; expected"),
        (
            [cartpole, counting([[1]], AutoresetMode.NEXT_STEP)],
            "a sub-environment is SyncVectorEnv.*expected a gymnasium",
        ),
        ([cartpole, lambda: CountingEnv([1])], "different spaces"),
    ],
)
def test_what_was_meant_as_an_environment_is_refused_as_one(env: Any, message: str) -> None:
    assert is_env(env)
    for make in (lambda: make_vector_env(env, 2), lambda: make_separate_env(env, 2)):
        with pytest.raises(EnvError, match=message):
            make()


@both_modes
def test_vector_environment_is_used_as_it_is(mode: AutoresetMode) -> None:
    env = counting([[1], [2]], mode)
    assert make_vector_env(env, num_envs=8) is env


@pytest.mark.parametrize("number", [0, -1])
def test_number_of_environments_below_one_is_refused(number: int) -> None:
    with pytest.raises(ConfigError, match=f"num_envs={number}; expected at least 1"):
        make_vector_env("CartPole-v1", number)


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("NoSuchEnv-v0", "'NoSuchEnv-v0': Environment `NoSuchEnv` doesn't exist"),
        ("CartPole-v99", "version `v99`"),
        ("no_such_module:Env-v0", "No module named 'no_such_module'"),
        ("", "Malformed environment ID"),
        (3, "got int; expected a name such as"),
        (None, "got NoneType; expected a name such as"),
        ({"a": 1}, "got dict; expected a name such as"),
        (lambda: 3, "the function returned int"),
        ([cartpole()] * 2, "one is the same environment again"),
        (lambda env=CountingEnv([1]): env, "one is the same environment again"),
    ],
)
def test_what_is_no_environment_is_named(env: Any, message: str) -> None:
    with pytest.raises(EnvError, match=message):
        make_vector_env(env, num_envs=2)


def test_disabled_autoreset_is_refused_with_what_to_do() -> None:
    with pytest.raises(ConfigError, match="expected NEXT_STEP"):
        make_vector_env(counting([[1]], AutoresetMode.DISABLED), 1)


@pytest.mark.parametrize("candidate", [None, 3, [1], [], ([1], [2]), {"a": 1}, zip()])
def test_data_is_not_taken_for_an_environment(candidate: object) -> None:
    assert not is_env(candidate)


class Empty(CountingEnv):
    def __init__(
        self, observation_space: Any, action_space: Any = CountingEnv.action_space
    ) -> None:
        super().__init__([1])
        self.observation_space, self.action_space = observation_space, action_space


NOTHING = spaces.Box(-1, 1, (0,))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([spaces.Dict({})], r"the observation space is Dict\(\), which holds no number"),
        ([spaces.Tuple(())], "the observation space is"),
        ([NOTHING], "the observation space is Box"),
        ([spaces.Box(-1, 1, (0, 3))], "the observation space is Box"),
        ([spaces.Dict({"a": spaces.Discrete(2), "b": NOTHING})], "entry 'b' of the observation"),
        ([spaces.Discrete(2), NOTHING], "the action space is Box"),
    ],
)
def test_spaces_without_a_number_are_refused(made: list[Any], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        make_vector_env(lambda: Empty(*made), num_envs=2)


# ---- stepped as asked for ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "mode", "kind", "num_envs"),
    [
        ("CartPole-v1", "sync", "SyncVectorEnv", 2),
        ("CartPole-v1", "async", "AsyncVectorEnv", 2),
        ("CartPole-v1", "vector_entry_point", "CartPoleVectorEnv", 2),
        (gym.spec("Pendulum-v1"), "async", "AsyncVectorEnv", 2),
        (cartpole, "async", "AsyncVectorEnv", 2),
        (cartpole, "sync", "SyncVectorEnv", 2),
        (["CartPole-v1", cartpole, cartpole], "async", "AsyncVectorEnv", 3),
    ],
)
def test_an_environment_is_stepped_as_asked_for(
    env: Any, mode: str, kind: str, num_envs: int
) -> None:
    asked = Vectorized(env, 2, mode)
    assert is_env(asked)
    made = make_vector_env(asked, num_envs=7)
    separate = make_separate_env(asked, max_envs=100)
    for vector_env in (made, separate):
        assert (type(vector_env.unwrapped).__name__, vector_env.num_envs) == (kind, num_envs)
        close_env(vector_env)


def test_few_episodes_take_few_processes() -> None:
    separate = make_separate_env(Vectorized("CartPole-v1", 8, "async"), max_envs=2)
    assert separate.num_envs == 2
    close_env(separate)


@pytest.mark.parametrize(
    ("env", "mode", "message"),
    [
        (cartpole(), "async", "a TimeLimit that is made already; expected how to make it"),
        (["CartPole-v1", cartpole()], "sync", "made already"),
        (SyncVectorEnv([cartpole]), "async", "a SyncVectorEnv that is made already"),
        (lambda: SyncVectorEnv([cartpole]), "async", "a function that makes a SyncVectorEnv"),
        (cartpole, "vector_entry_point", "expected a name or a spec"),
    ],
)
def test_what_can_not_be_stepped_that_way_is_refused(env: Any, mode: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_vector_env(Vectorized(env, 2, mode), num_envs=2)


def test_an_author_without_a_vector_environment_is_named() -> None:
    with pytest.raises(EnvError, match=r"Pendulum-v1.*vector entry point"):
        make_vector_env(Vectorized("Pendulum-v1", 2, "vector_entry_point"), num_envs=2)


def test_an_unknown_way_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"vectorization='threads'; expected one of .'async', "):
        vectorization_mode("threads")
    assert vectorization_mode(None) is None
