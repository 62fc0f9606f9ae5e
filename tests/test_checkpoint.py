"""Promises of `lightning_rl.checkpoint`: plain data that loads safely and goes on exactly."""

from __future__ import annotations

import io
import threading
from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable
from enum import Enum, IntEnum
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import Space, spaces
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import ClipReward, FrameStackObservation, TimeLimit, TransformReward
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, scalar_dtypes

from lightning_rl.checkpoints.env_state import env_state, load_env_state
from lightning_rl.checkpoints.plain_values import from_plain, to_plain
from lightning_rl.checkpoints.spaces import space_from_state, space_state
from lightning_rl.errors import SpaceError, StateError


def reloaded(state: Any) -> Any:
    """A state after a trip through a file, read as safely as checkpoints are."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def assert_alike(first: Any, second: Any) -> None:
    """Same types, same values (NaN equals NaN), all the way down."""
    assert type(first) is type(second)
    if isinstance(first, dict):
        assert_alike(list(first.items()), list(second.items()))
    elif isinstance(first, list | tuple | deque):
        assert len(first) == len(second)
        assert getattr(first, "maxlen", None) == getattr(second, "maxlen", None)
        for one, other in zip(first, second, strict=True):
            assert_alike(one, other)
    elif isinstance(first, np.ndarray | np.generic):
        assert (first.dtype, first.shape) == (second.dtype, second.shape)
        np.testing.assert_array_equal(first, second)
    elif isinstance(first, torch.Tensor):
        torch.testing.assert_close(first, second, rtol=0, atol=0, equal_nan=True)
    else:
        assert first == second or (first != first and second != second)


# ---- to_plain, from_plain ------------------------------------------------------------------------

NUMERIC = scalar_dtypes().filter(
    lambda dtype: dtype.kind in "biuf" and dtype.itemsize <= 8 and dtype.isnative
)
ARRAYS = NUMERIC.flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_side=3)))
KEYS = st.one_of(st.text(max_size=3), st.integers(), st.tuples(st.integers(), st.booleans()))
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), ARRAYS,
    ARRAYS.map(lambda array: array.ravel()[0]), ARRAYS.map(lambda array: torch.tensor([1.5])),
)  # fmt: skip
VALUES = st.recursive(
    LEAVES,
    lambda part: st.one_of(
        st.lists(part, max_size=3),
        st.lists(part, max_size=3).map(tuple),
        st.lists(part, max_size=3).map(lambda parts: deque(parts, maxlen=5)),
        st.dictionaries(KEYS, part, max_size=3),
    ),
    max_leaves=8,
)


@settings(deadline=None, max_examples=150)
@given(VALUES)
def test_plain_values_survive_a_file_with_their_types(value: Any) -> None:
    assert_alike(from_plain(reloaded(to_plain(value))), value)


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"])
def test_numpy_generators_go_on_where_they_were(kind: str) -> None:
    saved, live = (np.random.Generator(getattr(np.random, kind)(seed)) for seed in (1, 2))
    saved.random(7)
    restored = from_plain(reloaded(to_plain(saved)), live)
    assert restored is live  # others may hold it too
    assert np.array_equal(live.random(5), saved.random(5))


def test_torch_generator_goes_on_where_it_was() -> None:
    saved, live = torch.Generator().manual_seed(1), torch.Generator()
    torch.rand(7, generator=saved)
    from_plain(reloaded(to_plain(saved)), live)
    assert torch.equal(torch.rand(5, generator=live), torch.rand(5, generator=saved))


class Phase(Enum):
    NIGHT = "night"
    DAY = "day"


class Level(IntEnum):
    LOW = 0
    HIGH = 1


@pytest.mark.parametrize("member", [Phase.DAY, Level.HIGH])
def test_enum_member_is_looked_up_in_the_live_ones_class(member: Enum) -> None:
    other = next(iter(type(member)))
    assert from_plain(reloaded(to_plain(member)), other) is member


Point = namedtuple("Point", "x y")
UNSAVEABLE: dict[str, Any] = {
    "object": object(),
    "lock": threading.Lock(),
    "set": {1},
    "bytes": b"a",
    "namedtuple": Point(1, 2),
    "text_array": np.array(["a"]),
    "object_array": np.array([None]),
    "complex": 1j,
    "long_double": np.longdouble(1),
    "foreign_byte_order": np.arange(3).astype(">i4"),
    "numpy_text": np.str_("a"),
    "within": [1, {"a": (object(),)}],
    "generator_within": [np.random.default_rng()],
    "enum_within": {"phase": Phase.DAY},
}


@pytest.mark.parametrize("value", UNSAVEABLE.values(), ids=UNSAVEABLE.keys())
def test_what_would_not_load_again_is_refused_when_saved(value: Any) -> None:
    with pytest.raises(StateError, match=r"got a \w+; expected plain values"):
        to_plain(value)


GENERATOR = to_plain(np.random.default_rng(0))


@pytest.mark.parametrize(
    ("plain", "current"),
    [
        (("os.system", "true"), None),
        (("module", "os"), None),
        (GENERATOR, 3),
        (GENERATOR, np.random.Generator(np.random.MT19937())),
        (("torch_generator", torch.zeros(1)), None),
        (("enum", "DAY"), None),
        (("enum", "__class__"), Phase.DAY),
    ],
)
def test_unknown_kind_or_missing_counterpart_is_refused(plain: Any, current: Any) -> None:
    with pytest.raises(StateError, match="can't restore"):
        from_plain(plain, current)


def test_saved_arrays_do_not_change_with_the_live_ones() -> None:
    array, tensor = np.zeros(2), torch.zeros(2)
    plain = to_plain([array, tensor])
    array += 1
    tensor += 1
    restored = from_plain(plain)
    assert not restored[0].any()
    assert not restored[1].any()


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


# ---- spaces --------------------------------------------------------------------------------------

SIDES = st.lists(st.integers(1, 4), min_size=1, max_size=2)
DTYPES = st.sampled_from([np.float32, np.float64, np.uint8, np.int64])
BOXES = st.builds(
    lambda shape, dtype: spaces.Box(0, 200, tuple(shape), dtype), SIDES, DTYPES
)  # fmt: skip
INTEGERS = st.sampled_from([np.int64, np.int32, np.int8])
LEAF_SPACES = st.one_of(
    BOXES,
    st.just(spaces.Box(-np.inf, np.inf, (2,))),
    st.builds(
        lambda n, start, dtype: spaces.Discrete(n, start=start, dtype=dtype),
        st.integers(1, 9), st.integers(-9, 9), INTEGERS,
    ),
    st.builds(
        lambda n, start, dtype: spaces.MultiDiscrete([n, 2], dtype=dtype, start=[start, 0]),
        st.integers(1, 9), st.integers(-9, 9), INTEGERS,
    ),
    st.builds(spaces.MultiBinary, st.one_of(st.integers(1, 5), SIDES)),
)  # fmt: skip
SPACES = st.one_of(
    LEAF_SPACES,
    st.dictionaries(st.text(max_size=3), LEAF_SPACES, min_size=1, max_size=3).map(spaces.Dict),
)


@settings(deadline=None, max_examples=100)
@given(SPACES)
def test_spaces_survive_a_file(space: Space) -> None:
    restored = space_from_state(reloaded(space_state(space)))
    assert restored == space
    assert restored.dtype == space.dtype


def test_entries_of_a_dict_space_keep_their_order() -> None:
    """A network joins the entries in this order; sorted ones would reach the wrong weights."""
    space = spaces.Dict(OrderedDict(z=spaces.Discrete(2), a=spaces.Discrete(3)))
    assert list(space_from_state(reloaded(space_state(space)))) == ["z", "a"]


@pytest.mark.parametrize("space", [spaces.Text(3), spaces.Tuple([spaces.Discrete(2)])], ids=str)
def test_space_no_agent_takes_is_refused(space: Space) -> None:
    with pytest.raises(SpaceError, match="can't be saved; expected Box"):
        space_state(space)


def test_space_of_unknown_kind_is_refused() -> None:
    with pytest.raises(SpaceError, match="unknown kind 'os'"):
        space_from_state({"type": "os"})
