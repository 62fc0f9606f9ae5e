"""A separate environment: like the given one, which is left alone."""

from __future__ import annotations

import logging
import random
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from counting_env import CountingEnv, counting, zeros
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils import EzPickle
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import RecordVideo, TimeLimit
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from lightning_rl.envs.separate import is_known, make_separate_env, separate_env
from lightning_rl.errors import ConfigError, EnvError


def cartpole() -> gym.Env:
    return gym.make("CartPole-v1")


made_again = pytest.mark.filterwarnings("ignore:.* made again, without what was changed")


def sync(env: gym.Env) -> VectorEnv:
    return SyncVectorEnv([lambda: env])


class Uncopyable(CountingEnv):
    """Holds a lock, as an environment with a simulator or a connection does."""

    def __init__(self, may_be_made: bool = True) -> None:
        super().__init__([3])
        if not may_be_made:
            raise ValueError("no licence")
        self.lock = threading.Lock()


@pytest.fixture
def uncopyable_id() -> Iterator[str]:
    gym.register("Uncopyable-v0", entry_point=Uncopyable, max_episode_steps=5)
    yield "Uncopyable-v0"
    del gym.registry["Uncopyable-v0"]


GIVEN: dict[str, Callable[[], Any]] = {
    "env": lambda: CountingEnv([3]),
    "vector_env": lambda: counting([[3], [5]], AutoresetMode.SAME_STEP),
}


@pytest.mark.parametrize("make", GIVEN.values(), ids=GIVEN.keys())
def test_evaluating_a_copy_leaves_the_training_environment_alone(make: Any) -> None:
    env, twin = make(), make()
    for one in (env, twin):
        one.reset(seed=3)
    copy = make_separate_env(env, max_envs=4)
    copy.reset(seed=99)
    copy.step(zeros(copy))
    actions = zeros(env) if isinstance(env, VectorEnv) else 0
    assert repr(env.step(actions)) == repr(twin.step(actions))


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_changes_the_user_made_are_evaluated_too(name: str) -> None:
    env = gym.make(name)
    attribute = "gravity" if name == "CartPole-v1" else "g"
    setattr(env.unwrapped, attribute, 3.7)  # on Mars
    copies = make_separate_env(env, max_envs=3)
    assert copies.get_attr(attribute) == (3.7, 3.7, 3.7)


def test_changes_on_a_native_vector_environment_are_evaluated_too() -> None:
    env = gym.make_vec("CartPole-v1", num_envs=2)
    env.unwrapped.gravity = 3.7
    assert make_separate_env(env, max_envs=3).unwrapped.gravity == 3.7


@pytest.mark.parametrize(
    ("env", "episodes", "num_envs"),
    [
        ("CartPole-v1", 10, 10),
        ("CartPole-v1", 1000, 100),
        ("Pendulum-v1", 1000, 16),
        (cartpole(), 5, 5),
        (cartpole(), 1000, 16),
        (cartpole, 1000, 16),
        (counting([[1], [2]], AutoresetMode.NEXT_STEP), 1000, 2),
    ],
)
def test_no_more_copies_than_episodes_or_than_pay(env: Any, episodes: int, num_envs: int) -> None:
    copies = make_separate_env(env, episodes)
    assert copies.num_envs == num_envs
    if isinstance(copies, SyncVectorEnv):
        assert len({id(sub_env.unwrapped) for sub_env in copies.envs}) == num_envs


MADE_AGAIN = "so it is made again, without what was changed on it since"


def test_uncopyable_environment_is_made_again_from_its_spec(uncopyable_id: str) -> None:
    with pytest.warns(UserWarning, match=rf"Uncopyable can't be copied \(.*lock.*\), {MADE_AGAIN}"):
        copies: Any = make_separate_env(gym.make(uncopyable_id), max_envs=2)
    assert [type(e.unwrapped) for e in copies.envs] == [Uncopyable, Uncopyable]
    assert [e.spec.max_episode_steps for e in copies.envs] == [5, 5]


@made_again
def test_uncopyable_vector_environment_is_made_again_from_its_spec(uncopyable_id: str) -> None:
    env = gym.make_vec(uncopyable_id, num_envs=3)
    copy = make_separate_env(env, max_envs=2)
    assert copy is not env
    assert copy.num_envs == 3


def test_environment_without_copy_or_spec_says_what_to_do() -> None:
    with pytest.raises(EnvError, match="Pass a function that makes the environment"):
        make_separate_env(Uncopyable(), max_envs=1)


def test_spec_that_fails_says_what_to_do_and_why(uncopyable_id: str) -> None:
    env = gym.make(uncopyable_id)
    env.spec.kwargs["may_be_made"] = False
    with pytest.raises(EnvError, match=r"\(no licence.*Pass a function") as caught:
        make_separate_env(env, max_envs=1)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("env", ["CartPole-v1", CountingEnv([1]), lambda: CountingEnv([1])])
def test_no_environment_at_all_is_refused(env: Any) -> None:
    with pytest.raises(ConfigError, match="max_envs=0; expected at least 1"):
        make_separate_env(env, max_envs=0)


# ---- copies are like the original ----------------------------------------------------------------


class Easy(CountingEnv, EzPickle):
    """Copied by its constructor's arguments, unless one looks closer."""

    def __init__(self, pay: float = 1.0) -> None:
        EzPickle.__init__(self, pay)
        CountingEnv.__init__(self, [3])
        self.pay = pay


class EasyWithLock(Easy):
    """As Box2D's environments: parts of it only its constructor can make."""

    def __init__(self, pay: float = 1.0) -> None:
        super().__init__(pay)
        self.lock = threading.Lock()


class Client:
    """As PyBullet's: ends a connection when it is deleted, and a copy would end it, too."""

    def __del__(self) -> None: ...


class EasyWithClient(Easy):
    def __init__(self, pay: float = 1.0) -> None:
        super().__init__(pay)
        self.client = Client()


@pytest.mark.parametrize("kind", [Easy, EasyWithLock, EasyWithClient])
@pytest.mark.parametrize("wrap", [lambda env: env, lambda env: TimeLimit(env, 9), sync])
def test_what_was_changed_on_an_ezpickle_is_kept(kind: Any, wrap: Any) -> None:
    env = kind()
    env.pay = 10.0
    copies: Any = make_separate_env(wrap(env), max_envs=2)
    assert {copied.unwrapped.pay for copied in copies.envs} == {10.0}
    assert env not in [copied.unwrapped for copied in copies.envs]


class Simulator:
    """Says of itself that there is only one of it."""

    def __init__(self) -> None:
        self.steps = 0

    def __deepcopy__(self, memo: Any) -> Simulator:
        return self


class Simulated(CountingEnv):
    """Steps a simulator, which it holds deep within."""

    def __init__(self) -> None:
        super().__init__([3])
        self.parts = {"engine": [Simulator()]}

    def step(self, action: Any) -> Any:
        self.parts["engine"][0].steps += 1
        return super().step(action)


class DrawsElsewhere(CountingEnv):
    """Keeps a method of a generator, which a deep copy shares."""

    def __init__(self) -> None:
        super().__init__([3])
        self.draw = random.Random(0).random  # noqa: S311


class Connected(CountingEnv):
    def __init__(self) -> None:
        super().__init__([3])
        self.client = Client()


SHARING = {"parts": Simulated, "draw": DrawsElsewhere, "client": Connected}


@made_again
@pytest.mark.parametrize("name", SHARING)
def test_an_environment_whose_copy_would_share_something_is_made_again(name: str) -> None:
    gym.register("Sharing-v0", entry_point=SHARING[name])
    try:
        env = gym.make("Sharing-v0")
        copies: Any = make_separate_env(env, max_envs=1)
        shared, own = (getattr(e.unwrapped, name) for e in (env, copies.envs[0]))
        assert shared is not own
        copies.reset(seed=0)
        copies.step(zeros(copies))
        if name == "parts":
            assert (shared["engine"][0].steps, own["engine"][0].steps) == (0, 1)
    finally:
        del gym.registry["Sharing-v0"]


@pytest.mark.parametrize("name", SHARING)
def test_what_it_would_share_is_named_where_it_can_not_be_made_again(name: str) -> None:
    kind = SHARING[name]
    with pytest.raises(EnvError, match=rf"{kind.__name__}\.{name}.*Pass a function that makes"):
        make_separate_env(kind(), max_envs=1)
    assert make_separate_env(kind, max_envs=2).num_envs == 2


def test_what_can_not_change_may_be_shared() -> None:
    env = cartpole()
    env.unwrapped.constants = ("text", 1, re.compile("x"), logging.getLogger("env"), len)  # type: ignore[attr-defined]
    assert make_separate_env(env, max_envs=1).get_attr("constants") == (env.unwrapped.constants,)  # type: ignore[attr-defined]


# ---- vector environments in other processes ------------------------------------------------------


@pytest.mark.parametrize("wrap", [lambda env: env, RecordEpisodeStatistics])
def test_an_async_vector_env_is_made_again_by_its_functions(wrap: Any) -> None:
    mode = AutoresetMode.SAME_STEP
    env = wrap(AsyncVectorEnv([Easy, lambda: Easy(7.0)], autoreset_mode=mode))
    with separate_env(env, max_envs=9) as copy:
        assert type(copy) is type(env)
        assert copy.unwrapped is not env.unwrapped
        assert copy.unwrapped.get_attr("pay") == (1.0, 7.0)
        assert copy.metadata["autoreset_mode"] == mode
    assert copy.unwrapped.closed
    assert not env.unwrapped.closed
    env.close()


def test_an_async_vector_env_whose_workers_can_not_be_started_again_names_the_worker(
    capfd: pytest.CaptureFixture[str],
) -> None:
    has_licence = [True]
    env = AsyncVectorEnv([Uncopyable, lambda: Uncopyable(may_be_made=has_licence[0])])
    has_licence[0] = False
    with pytest.raises(EnvError, match=r"^sub-environment 1 lost its process .exit code 1. when"):
        make_separate_env(env, max_envs=2)
    env.close()
    assert "no licence" in capfd.readouterr().err


@made_again
def test_an_uncopyable_sync_vector_env_is_made_again_by_its_functions() -> None:
    env = SyncVectorEnv([Uncopyable, Uncopyable], autoreset_mode=AutoresetMode.SAME_STEP)
    copy: Any = make_separate_env(env, max_envs=1)
    assert copy.num_envs == 2
    assert copy.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    assert not {id(e) for e in copy.envs} & {id(e) for e in env.envs}


def test_functions_that_return_the_same_environment_are_no_way_out() -> None:
    one = Uncopyable()
    with pytest.raises(EnvError, match=r"return the same environment again.*Pass a function"):
        make_separate_env(SyncVectorEnv([lambda: one]), max_envs=1)


# ---- nothing is made by what a file says ---------------------------------------------------------


@pytest.mark.parametrize(
    "spec",
    ["evil_module:X-v0", EnvSpec("Uncopyable-v0", entry_point="evil_module:X"),
     EnvSpec("Unregistered-v0", entry_point="evil_module:X")],
)  # fmt: skip
def test_a_spec_that_the_user_did_not_register_makes_nothing(spec: Any, uncopyable_id: str) -> None:
    env = Uncopyable()
    env.spec = spec
    with pytest.raises(EnvError, match="can't be copied"):
        make_separate_env(env, max_envs=1)
    assert not is_known(spec)
    assert is_known(gym.spec(uncopyable_id))


# ---- copies open no window and write no film -----------------------------------------------------


class Shown(CountingEnv):
    metadata = {"render_modes": ["human", "rgb_array"], "render_fps": 30}  # noqa: RUF012
    shows = 0

    def __init__(self, render_mode: str | None = "human") -> None:
        super().__init__([3])
        self.render_mode = render_mode

    def step(self, action: Any) -> Any:
        Shown.shows += self.render_mode == "human"
        return super().step(action)

    def render(self) -> Any:
        return np.zeros((8, 8, 3), np.uint8)


@pytest.fixture
def shown_id() -> Iterator[str]:
    gym.register("Shown-v0", entry_point=Shown)
    yield "Shown-v0"
    del gym.registry["Shown-v0"]


@made_again
def test_copies_open_no_window(shown_id: str) -> None:
    with_lock = gym.make(shown_id, render_mode="human")
    with_lock.unwrapped.lock = threading.Lock()  # type: ignore[attr-defined]
    for source in (Shown(), Shown, [Shown], sync(Shown()), gym.make(shown_id), with_lock):
        copies: Any = make_separate_env(source, max_envs=2)
        assert [env.unwrapped.render_mode for env in copies.envs] == [None] * copies.num_envs
        copies.reset(seed=0)
        copies.step(zeros(copies))
    assert Shown.shows == 0
    assert with_lock.render_mode == "human"  # the user's is left as it was


def test_what_an_open_window_holds_is_not_copied() -> None:
    env = gym.make("CartPole-v1", render_mode="rgb_array")
    env.reset(seed=0)
    env.render()
    env.unwrapped.gravity = 3.7  # type: ignore[attr-defined]
    [copied] = make_separate_env(env, max_envs=1).envs  # type: ignore[attr-defined]
    assert (copied.unwrapped.gravity, copied.unwrapped.screen) == (3.7, None)
    assert env.unwrapped.screen is not None  # type: ignore[attr-defined]
    env.close()


@pytest.mark.parametrize("outside", [False, True])
def test_copies_write_no_film(
    outside: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "moviepy", ModuleType("moviepy"))  # it need not be installed
    film = RecordVideo(Shown("rgb_array"), str(tmp_path / "films"), episode_trigger=lambda _: False)
    env = TimeLimit(film, 9) if outside else film
    [copied] = make_separate_env(env, max_envs=1).envs  # type: ignore[attr-defined]
    assert isinstance(copied.unwrapped, Shown)
    assert "RecordVideo" not in str(copied)
    assert "RecordVideo" in str(env)
    assert ("TimeLimit" in str(copied)) == outside


def test_what_a_function_makes_for_evaluation_writes_no_film(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "moviepy", ModuleType("moviepy"))

    def filmed() -> gym.Env:
        return RecordVideo(Shown("rgb_array"), str(films), episode_trigger=lambda _: True)

    films = tmp_path / "films"
    copies: Any = make_separate_env(lambda: TimeLimit(filmed(), 9), max_envs=1)
    copies.reset(seed=0)
    copies.step(zeros(copies))
    copies.close()
    assert "TimeLimit<Shown" in str(copies.envs[0])
    assert list(films.iterdir()) == []


# ---- closing -------------------------------------------------------------------------------------


def test_a_separate_environment_is_closed_whatever_happens() -> None:
    with pytest.raises(KeyError), separate_env(Easy, max_envs=2) as env:
        raise KeyError
    assert env.closed
