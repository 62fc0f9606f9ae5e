"""State that is not in an environment's attributes: it goes on exactly, or the place is named."""

from __future__ import annotations

import random
import threading
import warnings
from collections import deque
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any

import gymnasium as gym
import hidden_state
import numpy as np
import pandas
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv
from gymnasium.wrappers import NormalizeObservation, TransformObservation
from torch import nn

from lightning_rl.checkpoints.env_parts import env_parts
from lightning_rl.checkpoints.env_state import env_state, load_env_state
from lightning_rl.checkpoints.fingerprints import fingerprints, kept
from lightning_rl.errors import StateError
from tests.checkpoints.comparing import assert_alike, reloaded

RNG = np.random.default_rng(3)
OLD_RNG = np.random.RandomState(3)
DICE = random.Random(3)  # noqa: S311


class Base(gym.Env):
    """Observes what `draw` gives; a subclass has it from somewhere."""

    observation_space: Any = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space: Any = spaces.Discrete(2)

    def draw(self) -> float:
        raise NotImplementedError

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        return np.array([self.draw()], np.float32), 0.0, False, False, {}


class OwnSpace(Base):
    def __init__(self) -> None:
        self.noise = spaces.Dict({"a": spaces.Tuple([spaces.Box(-1, 1, (1,), np.float32)])})

    def draw(self) -> float:
        return float(self.noise.sample()["a"][0][0])


class ObservationSpace(Base):
    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1, 1, (1,), np.float32)

    def draw(self) -> float:
        return float(self.observation_space.sample()[0])


class ClassSpace(Base):
    observation_space = spaces.Box(-1, 1, (1,), np.float32)

    def draw(self) -> float:
        return float(self.observation_space.sample()[0])


class AliasedArray(Base):
    def __init__(self) -> None:
        self.body = np.zeros((2, 2))
        self.legs, self.seen, self.path = self.body[1], self.body, [0.0]
        self.way = self.path

    def draw(self) -> float:
        self.body += 1.0
        self.legs *= 2.0
        self.way[0] += 1.0
        return float(self.seen.sum() + self.path[0])


class BoundMethod(Base):
    def __init__(self) -> None:
        self.draw = np.random.default_rng().normal  # type: ignore[method-assign]


class PartialOfBoundMethod(Base):
    def __init__(self) -> None:
        self.draw = partial(np.random.default_rng().normal, 0.5)  # type: ignore[method-assign]


def drawn_from(rng: np.random.Generator, dice: random.Random) -> float:
    return float(rng.normal() + dice.random())


class PartialOfGenerators(Base):
    def __init__(self) -> None:
        dice = random.Random()  # noqa: S311
        self.draw = partial(drawn_from, np.random.default_rng(), dice)  # type: ignore[method-assign]


def counted(by_one: np.ndarray, counts: list[int], *, tables: dict[str, float]) -> float:
    by_one += 1.0
    counts.append(len(counts))
    tables["sum"] = tables.get("sum", 0.0) + sum(counts)
    return float(by_one[0] + tables["sum"])


class PartialOfData(Base):
    def __init__(self) -> None:
        self.draw = partial(counted, np.zeros(1), [], tables={})  # type: ignore[method-assign]


def moved(place: np.ndarray) -> float:
    return float(place.sum())


class PartialOfSharedData(Base):
    def __init__(self) -> None:
        self.place, self.counts = np.zeros(2), [0]
        self.reading = partial(moved, self.place[:1])
        self.counting = partial(list, self.counts)

    def draw(self) -> float:
        self.place += 1.0
        self.counts[0] += 1
        return self.reading() + sum(self.counting())


class Network(Base):
    def __init__(self) -> None:
        self.net = nn.BatchNorm1d(1)
        self.net.calls = 0

    def draw(self) -> float:
        self.net.calls += 1
        self.net(torch.arange(2.0)[:, None] + self.net.calls)
        return float(self.net.running_mean.sum()) + self.net.calls


class Closure(Base):
    def __init__(self) -> None:
        rng, count = np.random.default_rng(), 0

        def draw() -> float:
            nonlocal count
            count += 1
            return float(rng.normal() + count)

        self.draw = draw  # type: ignore[method-assign]


class ClosureFilledByReset(Base):
    def __init__(self) -> None:
        def begin() -> None:
            nonlocal count
            count = 0.0

        def draw() -> float:
            nonlocal count
            count += 1.0
            return count

        count = 0.0
        del count  # it has no value until then
        self.begin = begin
        self.draw = draw  # type: ignore[method-assign]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        self.begin()
        return super().reset(seed=seed)


class ClosureFilledByStep(Base):
    def __init__(self) -> None:
        number, sums = 3, [0.0]

        def draw() -> float:
            nonlocal count
            try:
                count += number
            except NameError:  # the first step's
                count = 0.0
            sums[0] += count
            return sums[0]

        count = 0.0
        del count
        self.draw = draw  # type: ignore[method-assign]


class ClassAttribute(Base):
    count = 0
    rng = np.random.default_rng()

    def draw(self) -> float:
        type(self).count += 1
        return float(self.rng.normal()) + self.count


class Slots(Base):
    __slots__ = ("place",)

    def __init__(self) -> None:
        self.place = 0.0

    def draw(self) -> float:
        self.place += 1.0
        return self.place


class OfTheModule(Base):
    def draw(self) -> float:
        return float(RNG.normal() + OLD_RNG.normal() + DICE.random())


SUMS = {"draws": 0.0}
COUNT = 0


def counted_by_module() -> float:
    global COUNT
    COUNT += 1
    SUMS["draws"] += COUNT
    return SUMS["draws"] + float(RNG.normal())


class HelperOfTheModule(Base):
    def draw(self) -> float:
        return counted_by_module()


MOVES, LOG, LIMIT = {"half": lambda x: x / 2}, deque([print]), 10.0


class UsesTables(Base):
    def draw(self) -> float:
        return float(min(MOVES["half"](len(LOG)), LIMIT))


class OtherModule(Base):
    def draw(self) -> float:
        hidden_state.COUNT += 1
        return hidden_state.COUNT + hidden_state.drawn() + hidden_state.DICE.random()


class ModuleObject(Base):
    def draw(self) -> float:
        return WORLD()


class Defaults(Base):
    def draw(self, seen: list = [0.0], *, place: Any = np.zeros(1)) -> float:  # noqa: B006
        seen[0] += 1.0
        place += seen[0]
        return float(place[0])


class FunctionAttribute(Base):
    def draw(self) -> float:
        FunctionAttribute.draw.count += 1  # type: ignore[attr-defined]
        return float(FunctionAttribute.draw.count)  # type: ignore[attr-defined]


FunctionAttribute.draw.count = 0  # type: ignore[attr-defined]


class OtherMethods(Base):
    @staticmethod
    def first(seen: list = [0]) -> int:  # noqa: B006
        seen[0] += 1
        return seen[0]

    @classmethod
    def second(cls, seen: list = [0]) -> int:  # noqa: B006
        seen[0] += 2
        return seen[0]

    @property
    def third(self, seen: list = [0]) -> int:  # noqa: B006
        seen[0] += 3
        return seen[0]

    def draw(self) -> float:
        return float(self.first() + self.second() + self.third)


class CachedProperty(Base):
    @cached_property
    def start(self, made: list = [0.0]) -> float:  # noqa: B006
        made[0] += 1.0
        return made[0]

    def draw(self) -> float:
        self.start += 1.0  # type: ignore[misc]
        return self.start


class OldGenerators(Base):
    def __init__(self) -> None:
        self.old, self.dice = np.random.RandomState(), random.Random()  # noqa: S311

    def draw(self) -> float:
        return float(self.old.normal() + self.dice.random())


class World:
    def __init__(self) -> None:
        self.place = np.zeros(2)
        self.steps = 0

    def __call__(self) -> float:
        self.place += 1.0
        self.steps += 1
        return float(self.place.sum() * self.steps)


WORLD = World()


class OwnClass(Base):
    def __init__(self) -> None:
        self.world = World()

    def draw(self) -> float:
        return self.world()


class Told(Base):
    """Says itself what its state is: nothing else could know."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.hidden = iter(range(10**6))
        self.last = 0

    def draw(self) -> float:
        self.last = next(self.hidden)
        return float(self.last)

    def state_dict(self) -> dict[str, Any]:
        return {"last": self.last}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.hidden = iter(range(state["last"] + 1, 10**6))


KINDS = [
    OwnSpace, ObservationSpace, ClassSpace, AliasedArray, BoundMethod, PartialOfBoundMethod,
    PartialOfGenerators, PartialOfData, PartialOfSharedData, Network, Closure, ClosureFilledByReset,
    ClosureFilledByStep, ClassAttribute, Slots, OfTheModule, HelperOfTheModule, OtherModule,
    ModuleObject, Defaults, FunctionAttribute, OtherMethods, CachedProperty,
    OldGenerators, OwnClass, Told,
]  # fmt: skip


def in_a_closure(env: gym.Env) -> gym.Env:
    shift = np.zeros(1, np.float32)

    def moved(observation: Any) -> Any:
        shift[0] += 1.0
        return observation + shift

    return TransformObservation(env, moved, env.observation_space)


WRAPPED: dict[str, Callable[[], gym.Env]] = {
    "running statistics": lambda: NormalizeObservation(AliasedArray()),
    "wrapper's closure": lambda: in_a_closure(AliasedArray()),
}
MAKERS = {kind.__name__: kind for kind in KINDS} | WRAPPED


def begun(make: Callable[[], gym.Env], seed: int) -> tuple[Any, Any]:
    env = SyncVectorEnv([make, make])
    made = fingerprints(env)
    env.reset(seed=seed)
    return env, kept(made, env)


def played(env: Any, steps: int = 7) -> list[Any]:
    return [env.step(np.zeros(2, int))[0].copy() for _ in range(steps)]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
def test_wherever_its_state_is_an_environment_goes_on_exactly(make: Callable[[], gym.Env]) -> None:
    env, made = begun(make, seed=1)
    played(env)
    state = reloaded(env_state(env, made))
    expected = played(env)
    assert len({float(step[0, 0]) for step in expected}) > 1
    for steps in (3, 0):  # the state is not changed by those who go on from it
        other, as_made = begun(make, seed=2)
        played(other, steps)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load_env_state(other, state, as_made)
        assert_alike(played(other), expected)


class Iterating(Base):
    def __init__(self) -> None:
        self.numbers = iter(range(1000))

    def draw(self) -> float:
        return float(next(self.numbers))


class Counting(Base):
    def __init__(self) -> None:
        numbers = iter(range(1000))
        self.draw = lambda: float(next(numbers))  # type: ignore[method-assign]


def test_memory_that_two_kinds_of_number_share_can_not_be_saved() -> None:
    class Overlaid(Base):
        def __init__(self) -> None:
            self.registers = np.zeros(4, np.float32)
            self.bits = self.registers.view(np.uint8)

        def draw(self) -> float:
            self.registers += 1.0
            return float(self.bits.sum())

    env, made = begun(Overlaid, seed=1)
    played(env)
    with pytest.raises(StateError, match=r"envs\[0\]\.registers and .*\.bits share memory"):
        env_state(env, made)


@pytest.mark.parametrize(
    ("make", "name"),
    [(Iterating, r"Iterating\.numbers"), (Counting, r"env\.envs\[0\]\.draw\.numbers")],
)
def test_what_can_not_be_saved_is_named_by_where_it_is(make: Any, name: str) -> None:
    env, made = begun(make, seed=1)
    with pytest.raises(StateError, match=f"the environment's {name} can't be saved: got"):
        env_state(env, made)


class Switching(Base):
    """Turns to another of its worlds."""

    def __init__(self) -> None:
        self.first, self.second = World(), World()
        self.current: Any = self.first
        self.spare: Any = None

    def draw(self) -> float:
        self.current, self.spare = self.second, World()
        return self.current()


class Born(Base):
    """Has a world from its first step on."""

    def __init__(self) -> None:
        self.world: Any = None

    def draw(self) -> float:
        self.world = self.world or World()
        return float(self.world())


def test_an_object_where_there_was_none_is_named_in_a_warning() -> None:
    env, _ = begun(Born, seed=1)
    state = reloaded(env_state(env))
    other, _ = begun(Born, seed=2)
    played(other)
    with pytest.warns(UserWarning, match=r"the environment's Born\.world, Born\.world can't be"):
        load_env_state(other, state)
    assert other.envs[0].world.steps == 7


class Wired(Base):
    """Has a network with weights, or with a buffer alone."""

    def __init__(self, inputs: int, kind: Any) -> None:
        self.net = kind(inputs)


WIRED = {
    "weights": lambda inputs: nn.Linear(inputs, 1),
    "buffers": lambda inputs: nn.BatchNorm1d(inputs, affine=False),
}


@pytest.mark.parametrize("inputs", [1, 3])  # one number would be spread over a whole buffer
@pytest.mark.parametrize("kind", WIRED.values(), ids=WIRED)
def test_a_network_of_another_shape_is_refused_and_left_alone(kind: Any, inputs: int) -> None:
    env, _ = begun(lambda: Wired(inputs, kind), seed=1)
    other, _ = begun(lambda: Wired(2, kind), seed=2)
    before = reloaded(env_state(other))
    with pytest.raises(StateError, match=r"another environment: .*net\..* was not of shape"):
        load_env_state(other, reloaded(env_state(env)))
    assert_alike(reloaded(env_state(other)), before)


def test_what_is_no_tensor_does_not_get_into_a_network() -> None:
    env, _ = begun(lambda: Wired(2, WIRED["weights"]), seed=1)
    state = reloaded(env_state(env))
    part = next(part for part in state if "weight" in part["values"])
    part["values"]["weight"] = ("list", [("scalar", 1.0)])
    with pytest.raises(StateError, match=r"net\.weight was not of shape \(1, 2\)"):
        load_env_state(env, state)


class Mood(Base):
    """Has a text that a step sets."""

    def __init__(self) -> None:
        self.mood = "calm"

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        self.mood = "awake"
        return super().reset(seed=seed)

    def draw(self) -> float:
        self.mood = "angry"
        return float(len(self.mood))


@pytest.mark.parametrize(
    ("make", "name"), [(Switching, r"Switching\.current"), (Mood, r"Mood\.mood \(now 'awake'\)")]
)
def test_what_can_not_be_put_back_is_named_in_a_warning(make: Any, name: str) -> None:
    env, made = begun(make, seed=1)
    played(env)
    state = reloaded(env_state(env, made))
    other, as_made = begun(make, seed=2)
    with pytest.warns(UserWarning, match=name):
        load_env_state(other, state, as_made)


def test_other_physics_in_the_class_are_named() -> None:
    class Moon(Base):
        gravity = 1.6

        def draw(self) -> float:
            return self.gravity

    env, made = begun(Moon, seed=1)
    state = reloaded(env_state(env, made))
    Moon.gravity = 9.8
    other, as_made = begun(Moon, seed=1)
    with pytest.warns(UserWarning, match=r"class Moon\.gravity \(now 9\.8\)"):
        load_env_state(other, state, as_made)
    assert Moon.gravity == 9.8


@pytest.mark.parametrize(
    ("at", "name", "plain"),
    [
        ("class ClassAttribute", "draw", ("scalar", 1)),
        ("class ClassAttribute", "rng", ("scalar", 1)),
        ("class ClassAttribute", "new", ("scalar", 1)),
        ("class ClassAttribute", "count", ("list", [])),
        ("class ClassAttribute", "count", ("scalar", "text")),
        ("env.envs[0]", "state_dict()", ("dict", [])),
        ("env.envs[0]", "draw", ("scalar", 1)),
        ("env.envs[0]", "x", ("same", ("env", "nowhere"))),
    ],
)
def test_a_hostile_state_reaches_neither_classes_nor_methods(
    at: str, name: str, plain: Any
) -> None:
    env, made = begun(ClassAttribute, seed=1)
    state = env_state(env, made)
    (part,) = [part for part in state if part["at"] == at]
    part["values"][name] = plain
    before = dict(vars(ClassAttribute))
    with pytest.raises(StateError, match="written with another environment"):
        load_env_state(env, reloaded(state), made)
    assert dict(vars(ClassAttribute)) == before


@pytest.mark.parametrize(
    ("name", "plain"), [("RNG", ("scalar", 1)), ("NEW", ("scalar", 1)), ("SUMS", ("scalar", 1))]
)
def test_a_hostile_state_sets_no_other_name_of_a_module(name: str, plain: Any) -> None:
    env, made = begun(HelperOfTheModule, seed=1)
    played(env, 1)
    state = env_state(env, made)
    (part,) = [part for part in state if part["at"].endswith("test_env_parts.SUMS")]
    part["values"][name] = plain
    before = dict(globals())
    with pytest.raises(StateError, match="written with another environment"):
        load_env_state(env, reloaded(state), made)
    assert globals() == before


def test_tables_of_functions_and_objects_of_libraries_are_not_looked_into() -> None:
    env, _ = begun(UsesTables, seed=1)
    named = {place for part in env_parts(env) for place in part.values}
    assert not named & {"MOVES", "LOG", "LIMIT"}


def test_a_function_of_an_installed_package_leads_to_none_of_its_helpers() -> None:
    class Reads(Base):
        def __init__(self) -> None:
            self.read = pandas.read_csv

    env, _ = begun(Reads, seed=1)
    assert not [part.at for part in env_parts(env) if "pandas" in part.at]
