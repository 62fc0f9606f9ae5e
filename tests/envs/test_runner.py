"""Stepping: whatever the autoreset mode, no fake transition reaches an agent."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from counting_env import CountingEnv, both_modes, counting, zeros
from gymnasium import Space, spaces
from gymnasium.vector import (
    AsyncVectorEnv,
    AutoresetMode,
    SyncVectorEnv,
    VectorEnv,
    VectorObservationWrapper,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rl.envs.runner import EndedEpisodes, EnvRunner, final_observations, to_env_actions
from lightning_rl.envs.vectorize import make_vector_env
from lightning_rl.errors import EnvError


def started(env: VectorEnv, seed: int | None = None) -> tuple[EnvRunner, list[EndedEpisodes]]:
    ended: list[EndedEpisodes] = []
    runner = EnvRunner(env, ended.append)
    runner.reset(seed)
    return runner, ended


# ---- EnvRunner: what is an env step --------------------------------------------------------------

LENGTHS = st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=3), min_size=1, max_size=3)

quick = settings(deadline=None, max_examples=40)


def expected_rows(lengths: list[int], mode: AutoresetMode, calls: int) -> list[tuple]:
    """(episode, t, is an env step, is the last of its episode) after each call."""
    rows: list[tuple] = []
    for episode in itertools.count():
        length = lengths[episode % len(lengths)]
        rows += [(episode, t, True, t == length) for t in range(1, length + 1)]
        if mode == AutoresetMode.NEXT_STEP:
            rows.append((episode + 1, 0, False, False))
        else:
            rows[-1] = (episode + 1, 0, True, True)
        if len(rows) >= calls:
            return rows[:calls]
    raise AssertionError


@both_modes
@quick
@given(lengths=LENGTHS, calls=st.integers(1, 30), truncates=st.booleans())
def test_reset_rows_are_marked_and_nothing_else(
    mode: AutoresetMode, lengths: list[list[int]], calls: int, truncates: bool
) -> None:
    runner, _ = started(counting(lengths, mode, truncates))
    for row in zip(*(expected_rows(own, mode, calls) for own in lengths), strict=True):
        step = runner.step(zeros(runner.env))
        ended = step.truncated if truncates else step.terminated
        got = zip(*step.observations.T, step.valid, ended, strict=True)
        assert list(got) == list(row)
        assert not (step.terminated & step.truncated).any()


@both_modes
@quick
@given(lengths=LENGTHS, calls=st.integers(1, 30))
def test_episodes_and_env_steps_are_counted_exactly(
    mode: AutoresetMode, lengths: list[list[int]], calls: int
) -> None:
    runner, ended = started(counting(lengths, mode))
    for _ in range(calls):
        runner.step(zeros(runner.env))
    rows = [expected_rows(own, mode, calls) for own in lengths]
    assert runner.env_steps == sum(valid for own in rows for *_, valid, _ in own)
    for index, own in enumerate(lengths):
        got = [
            (int(e.lengths[i]), float(e.returns[i]))
            for e in ended for i in np.flatnonzero(e.env_indices == index)
        ]  # fmt: skip
        played = [own[k % len(own)] for k in range(sum(last for *_, last in rows[index]))]
        returns = [sum(10.0 * k + t for t in range(1, n + 1)) for k, n in enumerate(played)]
        assert got == list(zip(played, returns, strict=True))


@both_modes
def test_env_step_of_an_episodes_end_excludes_reset_rows(mode: AutoresetMode) -> None:
    runner, ended = started(counting([[2]], mode))
    for _ in range(9):
        runner.step(zeros(runner.env))
    assert [e.env_steps for e in ended[:3]] == [2, 4, 6]


def test_same_step_gives_the_true_last_observation() -> None:
    runner, _ = started(counting([[2], [3]], AutoresetMode.SAME_STEP))
    final = [runner.step(zeros(runner.env)).final_observations for _ in range(4)]
    found = [{i: o.tolist() for i, o in row.items()} for row in final]
    assert found == [{}, {0: [0, 2]}, {1: [0, 3]}, {0: [1, 2]}]


def test_end_of_episode_is_carried_to_another_runner() -> None:
    """As when training resumes between an episode's end and its reset row."""
    runner, _ = started(counting([[2], [3]], AutoresetMode.NEXT_STEP))
    for _ in range(2):
        runner.step(zeros(runner.env))
    ended: list[EndedEpisodes] = []
    resumed = EnvRunner(runner.env, ended.append)
    resumed.load_state_dict(runner.state_dict())
    assert resumed.step(zeros(resumed.env)).valid.tolist() == [False, True]
    assert (ended[0].env_indices, ended[0].lengths, ended[0].returns) == ([1], [3], [6.0])


def test_loading_sets_nothing_but_the_runners_state() -> None:
    runner, _ = started(counting([[2]], AutoresetMode.NEXT_STEP))
    runner.load_state_dict(runner.state_dict() | {"env": None, "step": None})
    assert runner.step(zeros(runner.env)).valid.all()


def test_native_cartpole_marks_the_row_after_every_end() -> None:
    runner, ended = started(make_vector_env("CartPole-v1", 4), seed=0)
    rng = np.random.default_rng(0)
    steps = [runner.step(rng.integers(0, 2, 4)) for _ in range(200)]
    ends = np.array([s.terminated | s.truncated for s in steps])
    valid = np.array([s.valid for s in steps])
    assert np.array_equal(valid[1:], ~ends[:-1])
    assert valid[0].all()
    assert runner.env_steps == valid.sum()
    assert sum(len(e.lengths) for e in ended) == ends.sum() > 10
    assert all((e.returns == e.lengths).all() for e in ended)  # CartPole pays 1 a step


def test_native_and_sync_cartpole_episodes_are_alike() -> None:
    """A constant push topples the pole after 8 to 11 steps, whoever counts."""
    for mode in ("vector_entry_point", "sync"):
        env = gym.make_vec("CartPole-v1", num_envs=4, vectorization_mode=mode)
        runner, ended = started(env, seed=0)
        for _ in range(60):
            runner.step(zeros(env))
        lengths = np.concatenate([e.lengths for e in ended])
        assert (lengths.min(), lengths.max()) >= (8, 9)
        assert lengths.max() <= 11


def test_skipped_reset_rows_count_for_nothing() -> None:
    runner, ended = started(counting([[1], [1]], AutoresetMode.NEXT_STEP))
    runner.skip_reset_rows()
    assert runner.num_calls == 0  # no reset row is due
    runner.step(zeros(runner.env))
    runner.skip_reset_rows()
    assert (runner.env_steps, len(ended), runner.next_valid.all()) == (2, 1, True)
    assert runner.observations.tolist() == [[1, 0], [1, 0]]


# ---- seeding -------------------------------------------------------------------------------------


@both_modes
def test_each_environment_is_seeded_once_and_never_on_autoreset(mode: AutoresetMode) -> None:
    env = counting([[1], [1], [1]], mode)
    runner, _ = started(env, seed=40)
    for _ in range(6):
        runner.step(zeros(env))
    seeds = [sub_env.unwrapped.seeds for sub_env in env.envs]
    assert [own[0] for own in seeds] == [40, 41, 42]
    assert all(len(own) > 3 and set(own[1:]) == {None} for own in seeds)


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_same_seed_same_start_other_seed_other_start(name: str) -> None:
    runner = EnvRunner(make_vector_env(name, 3))
    starts = []
    for seed in (1, 1, 2):
        runner.reset(seed)
        starts.append(runner.observations)
    assert np.array_equal(starts[0], starts[1])
    assert not (starts[0] == starts[2]).all(axis=1).any()
    assert len(np.unique(starts[0], axis=0)) == 3  # no two sub-environments start alike


# ---- environments that misbehave -----------------------------------------------------------------


class Misbehaving(CountingEnv):
    """Does what it is told in its third step (or in reset)."""

    def __init__(self, act: Callable[[], Any], when: int = 3) -> None:
        super().__init__([100])
        self.act, self.when = act, when

    def observe(self) -> Any:
        return self.act() if self.t == self.when else super().observe()


def fail() -> Any:
    raise ZeroDivisionError("a ball left the field")


@pytest.mark.parametrize("guilty", [0, 2])
def test_error_in_step_names_environment_step_and_cause(guilty: int) -> None:
    envs = [CountingEnv([100]) for _ in range(4)]
    envs[guilty] = Misbehaving(fail)
    runner, _ = started(SyncVectorEnv([lambda e=e: e for e in envs]))  # type: ignore[misc]
    runner.step(zeros(runner.env))
    runner.step(zeros(runner.env))
    message = f"sub-environment {guilty} raised ZeroDivisionError in step 3: a ball left the field"
    with pytest.raises(EnvError, match=message) as caught:
        runner.step(zeros(runner.env))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_error_within_a_wrapper_names_the_environment() -> None:
    makers = [lambda: gym.wrappers.ClipReward(CountingEnv([9]), 0, 1),
              lambda: gym.wrappers.ClipReward(Misbehaving(fail, when=1), 0, 1)]  # fmt: skip
    runner, _ = started(SyncVectorEnv(makers))
    with pytest.raises(EnvError, match="sub-environment 1 raised"):
        runner.step(zeros(runner.env))


class Loops(SyncVectorEnv):
    """Steps its sub-environments in a loop of its own, which knows them by number only."""

    def step(self, actions: Any) -> Any:
        for i in range(self.num_envs):
            if i == 1:
                fail()
        return super().step(actions)


def test_error_in_a_loop_of_the_authors_names_the_number_it_was_at() -> None:
    runner, _ = started(Loops([lambda: CountingEnv([9])] * 3))
    with pytest.raises(EnvError, match="sub-environment 1 raised ZeroDivisionError in step 1"):
        runner.step(zeros(runner.env))


def test_error_in_a_vector_environment_of_one_piece_names_how_many_it_may_be() -> None:
    class Whole(Scripted):
        def step(self, actions: Any) -> Any:
            fail()

    runner, _ = started(Whole())
    with pytest.raises(EnvError, match="one of the 2 sub-environments raised ZeroDivisionError"):
        runner.step(np.zeros(2, np.int64))


def test_error_in_reset_is_an_env_error() -> None:
    runner = EnvRunner(make_vector_env(Misbehaving(fail, when=0), 1))
    with pytest.raises(EnvError, match="sub-environment 0 raised ZeroDivisionError in reset"):
        runner.reset(seed=0)


def test_ctrl_c_within_an_environment_stays_ctrl_c() -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    runner, _ = started(make_vector_env(Misbehaving(interrupt, when=1), 1))
    with pytest.raises(KeyboardInterrupt):
        runner.step(zeros(runner.env))


@pytest.mark.parametrize("when", [0, 1])
def test_wrong_shape_from_a_single_environment_is_an_env_error(when: int) -> None:
    env = make_vector_env(Misbehaving(lambda: np.zeros(3, dtype=np.float32), when), 1)
    with pytest.raises(EnvError, match=f"in {'step 1' if when else 'reset'}: .*shape"):
        started(env)[0].step(zeros(env))


class Scripted(VectorEnv):
    """Two sub-environments that return exactly what they were given."""

    num_envs = 2
    single_action_space = spaces.Discrete(2)

    def __init__(self, space: Space | None = None, **returned: Any) -> None:
        self.single_observation_space = spaces.Box(-1, 1, (3,)) if space is None else space
        self.metadata = returned.pop("metadata", {})
        good = {"observations": np.zeros((2, 3), np.float32), "rewards": np.zeros(2)}
        flags = {"terminated": np.zeros(2, np.bool_), "truncated": np.zeros(2, np.bool_)}
        self.returned = good | flags | {"infos": {}} | returned

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict]:
        return self.returned.get("first", self.returned["observations"]), {}

    def step(self, actions: Any) -> Any:
        names = ("observations", "rewards", "terminated", "truncated", "infos")
        return tuple(self.returned[name] for name in names)


F32 = np.float32

WRONG: dict[str, tuple[dict, str]] = {
    "shape": ({"observations": np.zeros((2, 4), F32)}, r"shape \(2, 4\); expected \(2, 3\)"),
    "one_row": ({"observations": np.zeros(3, F32)}, r"shape \(3,\); expected \(2, 3\)"),
    "list": ({"observations": [[0, 0, 0]] * 2}, r"observations of shape \(2, 3\)"),
    "dtype": ({"observations": np.zeros((2, 3))}, "dtype float64; expected float32"),
    "rewards_column": ({"rewards": np.zeros((2, 1))}, r"rewards of shape \(2, 1\); expected"),
    "one_reward": ({"rewards": 1.0}, r"rewards of shape \(\); expected \(2,\)"),
    "flags_column": ({"terminated": np.zeros((2, 1), bool)}, r"terminated .* \(2, 1\)"),
    "one_flag": ({"terminated": True, "truncated": False}, r"expected \(2,\)"),
}


@pytest.mark.parametrize(("returned", "message"), WRONG.values(), ids=WRONG.keys())
def test_data_unlike_its_space_is_refused(returned: dict, message: str) -> None:
    runner = EnvRunner(Scripted(first=np.zeros((2, 3), F32), **returned))
    runner.reset()
    with pytest.raises(EnvError, match=message):
        runner.step(zeros(runner.env))


@pytest.mark.parametrize("name", ["shape", "list", "dtype"])
def test_first_observations_are_checked_too(name: str) -> None:
    returned, message = WRONG[name]
    with pytest.raises(EnvError, match=message):
        EnvRunner(Scripted(**returned)).reset()


@pytest.mark.parametrize(
    ("observations", "message"),
    [
        ({"a": np.zeros((2, 3), F32)}, "no 'b' in its observations"),
        (np.zeros((2, 3), F32), "no 'a' in its observations"),
        ({"a": np.zeros((2, 3), F32), "b": np.zeros((2, 1))}, r"expected \(2,\)"),
    ],
)
def test_entries_of_a_dict_are_checked_each(observations: Any, message: str) -> None:
    space = spaces.Dict({"a": spaces.Box(-1, 1, (3,)), "b": spaces.Discrete(2)})
    with pytest.raises(EnvError, match=message):
        EnvRunner(Scripted(space, observations=observations)).reset()


@pytest.mark.parametrize("flags", [np.array([1, 0]), np.array([1.0, 0.0]), [True, False]])
def test_flags_that_are_numbers_mean_what_they_say(flags: Any) -> None:
    """~1 is -2, which is true: an integer flag must not hide a reset row."""
    runner = EnvRunner(Scripted(terminated=flags, truncated=flags))
    runner.reset()
    runner.step(zeros(runner.env))
    assert runner.step(zeros(runner.env)).valid.tolist() == [False, True]


def test_reward_and_flags_of_a_reset_row_mean_nothing() -> None:
    """Whatever a foreign vector environment returns there: here the same as in every other row."""
    ended: list[EndedEpisodes] = []
    always = {"terminated": np.ones(2, bool), "rewards": np.full(2, 5.0)}
    runner = EnvRunner(Scripted(**always), ended.append)
    runner.reset()
    assert [bool(runner.step(zeros(runner.env)).valid.all()) for _ in range(4)] == [True, False] * 2
    assert [(e.returns.tolist(), e.lengths.tolist()) for e in ended] == [([5, 5], [1, 1])] * 2
    assert runner.env_steps == 4


NO_FINAL: list[dict] = [{}, {"final_obs": np.array([None, np.zeros(3, F32)], dtype=object)}]


@pytest.mark.parametrize("infos", NO_FINAL)
def test_same_step_without_last_observation_is_refused(infos: dict) -> None:
    with pytest.raises(EnvError, match="no 'final_obs'"):
        final_observations(infos, np.array([True, False]))
    assert final_observations(infos, np.array([False, False])) == {}


# ---- choices -------------------------------------------------------------------------------------


class Chooses(gym.Env):
    """Observes what it is told to in the third step of an episode of four."""

    action_space = spaces.Discrete(2)

    def __init__(self, space: Space, third: Any, guilty: bool = True) -> None:
        self.observation_space, self.third, self.guilty = space, third, guilty

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.t += 1
        wrong = self.guilty and self.t == 3
        observation = self.third if wrong else self.observation_space.sample()
        return observation, 0.0, self.t == 3, False, {}


@both_modes
@pytest.mark.parametrize(
    ("space", "value"),
    [
        (spaces.Discrete(5), 5),
        (spaces.Discrete(5), -1),
        (spaces.Discrete(5, start=1), 0),
        (spaces.Discrete(5, dtype=np.uint8), np.uint8(5)),
        (spaces.MultiDiscrete([3, 2]), np.array([3, 0])),
        (spaces.MultiDiscrete([3, 2], start=[1, 1]), np.array([1, 0])),
        (spaces.MultiDiscrete([[3, 2], [2, 2]]), np.array([[0, 0], [0, 2]])),
        (spaces.Dict({"at": spaces.Discrete(5), "v": spaces.Box(0, 1)}),
         {"at": 7, "v": np.zeros(1, np.float32)}),
    ],
)  # fmt: skip
def test_a_choice_there_is_not_names_sub_environment_step_value_and_space(
    space: Space, value: Any, mode: AutoresetMode
) -> None:
    """Also where it is an episode's last observation, in either mode."""
    makers = [lambda guilty=guilty: Chooses(space, value, guilty) for guilty in (False, True)]
    runner = EnvRunner(SyncVectorEnv(makers, autoreset_mode=mode))
    runner.reset(seed=0)
    shown = str(value["at"] if isinstance(value, dict) else value)
    for _ in range(2):
        runner.step(np.zeros(2, dtype=np.int64))
    with pytest.raises(EnvError, match="sub-environment 1 returned the observation") as caught:
        runner.step(np.zeros(2, dtype=np.int64))
    assert f"{shown} at step 3 (0: its reset)" in str(caught.value)
    part = space["at"] if isinstance(space, spaces.Dict) else space
    assert f"expected one of {part}" in str(caught.value)


def test_every_choice_there_is_passes() -> None:
    for space in (spaces.Discrete(3, start=-1), spaces.MultiDiscrete([2, 3], start=[5, -2])):
        runner = EnvRunner(SyncVectorEnv([lambda s=space: Chooses(s, None, guilty=False)] * 2))
        runner.reset(seed=0)
        for _ in range(50):
            runner.step(np.zeros(2, dtype=np.int64))


# ---- to_env_actions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("space", "actions", "expected"),
    [
        (spaces.Box(-1, 2, (2,)), np.array([[-9, 9], [0.5, 0]], F32), [[-1, 2], [0.5, 0]]),
        (spaces.Box(-1, 2, (1,), np.float64), np.array([[0.5]], F32), [[0.5]]),
        (spaces.Box(-3, 3, (2,), np.int64), np.array([[-9.7, 1.6]], F32), [[-3, 2]]),
        (spaces.Box(0, 3, (2,), np.uint8), np.array([[-1.2, 2.5]], F32), [[0, 2]]),
        (spaces.Discrete(3, dtype=np.uint8), np.array([0, 2]), [0, 2]),
        (spaces.Discrete(3), np.array([0, 2]), [0, 2]),
        (spaces.Discrete(3, start=-5), np.array([0, 2]), [-5, -3]),
        (spaces.MultiDiscrete([2, 2], start=[10, 20]), np.array([[0, 1]]), [[10, 21]]),
        (spaces.MultiBinary(2), np.array([[1.0, 0.0]], F32), [[1, 0]]),
    ],
    ids=str,
)  # fmt: skip
def test_actions_become_what_the_space_contains(space: Space, actions: Any, expected: list) -> None:
    before = actions.copy()
    converted = to_env_actions(actions, space)
    assert converted.tolist() == expected
    assert all(space.contains(action) for action in converted)
    assert np.array_equal(actions, before)  # the policy is trained on what it chose


# ---- SAME_STEP mode: the last observation is the last one ----------------------------------------


class InPlace(CountingEnv):
    """Returns the same array each time, as an environment that saves memory does."""

    def observe(self) -> Any:
        buffer = vars(self).setdefault("buffer", np.zeros(2, np.float32))
        buffer[:] = super().observe()
        return buffer


@both_modes
def test_an_array_that_is_written_to_in_place_is_copied_before_the_reset(
    mode: AutoresetMode,
) -> None:
    env = SyncVectorEnv([lambda: InPlace([2]), lambda: InPlace([3])], autoreset_mode=mode)
    runner, _ = started(env)
    lasts = [runner.step(zeros(env)) for _ in range(2)]
    if mode == AutoresetMode.NEXT_STEP:
        assert lasts[-1].observations[0].tolist() == [0, 2]
    else:
        assert lasts[-1].final_observations[0].tolist() == [0, 2]
        assert lasts[-1].observations[0].tolist() == [1, 0]


def test_in_other_processes_too_same_step_gives_the_true_last_observation() -> None:
    makers = [lambda: CountingEnv([2]), lambda: CountingEnv([3])]
    env = AsyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    runner, _ = started(env)
    first, second = (runner.step(zeros(env)) for _ in range(2))
    assert first.final_observations == {}
    assert second.final_observations[0].tolist() == [0, 2]
    assert second.observations.tolist() == [[1, 0], [0, 2]]
    env.close()


def test_sub_environments_are_wrapped_once() -> None:
    env = counting([[2]], AutoresetMode.SAME_STEP)
    EnvRunner(env)
    [wrapped] = env.envs
    EnvRunner(env)
    assert env.envs == [wrapped]


# ---- wrappers that convert -----------------------------------------------------------------------


class ToTorch(VectorObservationWrapper):
    """As Gymnasium's NumpyToTorch, which needs a further library."""

    def observations(self, observations: Any) -> Any:
        return torch.from_numpy(observations)


def test_tensors_are_refused_with_what_to_unwrap() -> None:
    env = ToTorch(counting([[2]], AutoresetMode.NEXT_STEP))
    with pytest.raises(EnvError, match=r"as torch.Tensor; expected a numpy array.*inner envir"):
        EnvRunner(env).reset(seed=0)


def test_infos_as_a_list_are_refused_where_they_are_needed() -> None:
    env = gym.wrappers.vector.DictInfoToList(counting([[1]], AutoresetMode.SAME_STEP))
    runner, _ = started(env)
    with pytest.raises(EnvError, match=r"infos are a list; .*DictInfoToList"):
        runner.step(zeros(env))
