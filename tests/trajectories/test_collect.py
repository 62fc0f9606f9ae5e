"""Collecting: exactly the env steps that were made, of any environment, whatever goes wrong."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import KEYS, PLANE
from torch.utils.data import DataLoader

from lightning_rl import EnvDataLoader, PPOAgent
from lightning_rl.errors import ConfigError, EnvError, NonFiniteError, SpaceError, StateError
from lightning_rl.testing.probe_envs import CountingEnv, DelayedRewardEnv, IdentityEnv
from lightning_rl.trajectories import recorder as recorder_module
from lightning_rl.trajectories.collect import make_random_trajectory, make_trajectory
from lightning_rl.trajectories.dataset import TrajectoryDataset

# ---- collecting ----------------------------------------------------------------------------------


def counting(num_envs: int, mode: AutoresetMode, **settings: Any) -> SyncVectorEnv:
    envs = [lambda i=i: CountingEnv(first_episode=100 * i, **settings) for i in range(num_envs)]
    return SyncVectorEnv(envs, autoreset_mode=mode)


@settings(max_examples=40, deadline=None)
@given(
    num_steps=st.integers(1, 60),
    num_envs=st.integers(1, 4),
    mode=st.sampled_from([AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]),
    truncation=st.sampled_from([0.0, 0.5, 1.0]),
    block=st.integers(1, 20),
    seconds=st.sampled_from([0.0, 1.0]),
    held=st.sampled_from([0, 2**28]),
)
def test_rows_are_consecutive_env_steps_whatever_the_mode(
    tmp_path_factory: pytest.TempPathFactory, num_steps: int, num_envs: int, mode: AutoresetMode,
    truncation: float, block: int, seconds: float, held: int,
) -> None:  # fmt: skip
    env = counting(num_envs, mode, truncation=truncation)
    directory = tmp_path_factory.mktemp("dataset")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recorder_module, "BLOCK_ROWS", block)
        patch.setattr(recorder_module, "BLOCK_SECONDS", seconds)
        patch.setattr(recorder_module, "HELD_BYTES", held)
        dataset = make_random_trajectory(env, directory, num_steps, progress=False)
    batch = dataset[range(len(dataset))]
    now, then = batch["observations"], batch["next_observations"]
    assert dataset.num_steps == num_steps
    assert torch.equal(then, now + torch.tensor([0.0, 1.0]))  # same episode, next step
    assert torch.equal(batch["rewards"], then[:, 1])
    assert len({tuple(row) for row in now.tolist()}) == num_steps  # none twice
    starts = dataset.start_observations
    assert (starts[:, 1] == 0).all()
    assert len(starts) == len(set(now[:, 0].tolist()))  # parts of an episode start it once
    check_ends(dataset, now, truncation)


def check_ends(dataset: TrajectoryDataset, now: torch.Tensor, truncation: float) -> None:
    """Each flag is at an episode's last step; the rest of the last steps were cut."""
    batch = dataset[range(len(dataset))]
    ended = batch["terminated"] | batch["truncated"]
    assert not (batch["terminated"] & batch["truncated"]).any()
    assert not (batch["truncated"].any() and truncation == 0)
    assert not (batch["terminated"].any() and truncation == 1)
    longest = {e: max(row[1] for row in now.tolist() if row[0] == e) for e in now[:, 0].tolist()}
    for episode, step in now[ended].tolist():
        assert step == longest[episode]
    lasts = np.cumsum(dataset.episode_lengths) - 1
    assert set(ended.nonzero()[:, 0].tolist()) <= set(lasts.tolist())


def test_a_cut_end_is_neither_terminated_nor_truncated(tmp_path: Path) -> None:
    dataset = make_random_trajectory(
        lambda: DelayedRewardEnv(length=4), tmp_path, 11, num_envs=2, progress=False
    )
    assert dataset.episode_lengths.tolist() == [4, 4, 2, 1]
    batch = dataset[range(11)]
    assert batch["terminated"].nonzero().flatten().tolist() == [3, 7]
    assert batch["rewards"].nonzero().flatten().tolist() == [3, 7]
    assert not batch["truncated"].any()


def test_a_native_vector_env_gives_its_own_rewards_and_ends(tmp_path: Path) -> None:
    dataset = make_random_trajectory("CartPole-v1", tmp_path, 2000, seed=3, progress=False)
    batch = dataset[range(2000)]
    out = (batch["next_observations"][:, 0].abs() > 2.4) | (
        batch["next_observations"][:, 2].abs() > 12 * 2 * np.pi / 360
    )
    assert torch.equal(out, batch["terminated"])  # no reset row has come between
    assert (batch["rewards"] == 1).all()
    assert set(batch["actions"].tolist()) == {0, 1}
    assert (dataset.start_observations.abs() <= 0.05).all()
    assert (dataset.env_id, dataset.seeds) == ("CartPole-v1", [3])
    env = gym.make("CartPole-v1").unwrapped  # the env's own dynamics lead from row to row
    env.reset(seed=0)
    for i in (0, 500, 1999):
        env.state = tuple(batch["observations"][i].tolist())
        env.steps_beyond_terminated = None
        then = env.step(int(batch["actions"][i]))[0]
        np.testing.assert_allclose(then, batch["next_observations"][i].numpy(), atol=1e-5)


def test_the_same_seed_gives_the_same_files_and_another_gives_others(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        make_random_trajectory("CartPole-v1", tmp_path / name, 200, seed, progress=False)
    files = {
        f: [(tmp_path / n / f).read_bytes() for n in "abc"]
        for f in ("actions.npy", "observations.npy")
    }
    assert all(a == b != c for a, b, c in files.values())


def test_collecting_leaves_the_environment_and_all_random_numbers_alone(tmp_path: Path) -> None:
    env = gym.make("CartPole-v1")
    env.reset(seed=1)
    env.action_space.seed(1)
    states = (np.random.get_state()[1].sum(), random.getstate(), torch.get_rng_state().sum())  # noqa: NPY002
    before = (
        env.unwrapped.state.copy(),
        copy.deepcopy(env.action_space),
        copy.deepcopy(env.np_random),
    )
    make_random_trajectory(env, tmp_path, 100, progress=False)
    assert np.array_equal(env.unwrapped.state, before[0])
    assert env.action_space.sample() == before[1].sample()
    assert env.np_random.random() == before[2].random()
    assert states == (
        np.random.get_state()[1].sum(), random.getstate(), torch.get_rng_state().sum(),  # noqa: NPY002
    )  # fmt: skip


def test_what_the_user_changed_on_an_environment_is_collected(tmp_path: Path) -> None:
    env = gym.make("CartPole-v1")
    env.unwrapped.force_mag = 0.0
    batch = make_random_trajectory(env, tmp_path, 50, progress=False)[range(50)]
    speeds = (batch["next_observations"] - batch["observations"])[:, 1].abs()
    assert speeds.max() < 0.05  # nobody pushes the cart


@pytest.mark.parametrize(
    "space",
    [
        spaces.Discrete(3), spaces.Discrete(3, start=5), spaces.MultiDiscrete([3, 2], start=[0, 4]),
        spaces.MultiBinary(3), spaces.Box(-1, 2, (2, 3)), spaces.Box(-1, 2, (2,), np.float64),
        spaces.Box(0, 255, (2, 2), np.uint8),
    ],
    ids=str,
)  # fmt: skip
def test_observations_and_actions_of_every_kind_are_kept(tmp_path: Path, space: Any) -> None:
    dataset = make_random_trajectory(
        lambda: IdentityEnv(space, length=5), tmp_path, 40, num_envs=3, progress=False
    )
    batch = dataset[range(40)]
    stored = np.float32 if space.dtype == np.float64 else space.dtype
    assert batch["observations"].numpy().dtype == batch["actions"].numpy().dtype == stored
    for name in ("observations", "actions", "next_observations"):
        values = batch[name].numpy().astype(space.dtype)
        assert values.shape == (40, *space.shape)
        assert all(space.contains(value if space.shape else value.item()) for value in values) or (
            isinstance(space, spaces.Discrete)
            and set(values.tolist()) <= set(range(space.start, space.start + space.n))
        )
    if not isinstance(space, spaces.Box):
        equal = (batch["actions"] == batch["observations"]).reshape(40, -1).all(1)
        assert torch.equal(equal.float(), batch["rewards"])  # the env saw this very action
    assert dataset.observation_space == dataset.action_space == space
    assert len(np.unique(batch["actions"].numpy(), axis=0)) > 1


class DictEnv(gym.Wrapper):
    """Observes a dict: the counting of CountingEnv, and its step as a number."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        self.observation_space = spaces.Dict({"z": env.observation_space, "a": spaces.Discrete(9)})

    def _observe(self, observation: Any) -> Any:
        return {"z": observation, "a": int(observation[1])}

    def reset(self, **options: Any) -> Any:
        observation, info = self.env.reset(**options)
        return self._observe(observation), info

    def step(self, action: Any) -> Any:
        observation, *rest = self.env.step(action)
        return self._observe(observation), *rest


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_dicts_of_observations_are_kept_by_key(tmp_path: Path, mode: AutoresetMode) -> None:
    env = SyncVectorEnv([lambda: DictEnv(CountingEnv())] * 2, autoreset_mode=mode)
    dataset = make_random_trajectory(env, tmp_path, 30, progress=False)
    batch = next(iter(DataLoader(dataset, batch_size=30)))
    for name in ("observations", "next_observations"):
        assert torch.equal(batch[name]["z"][:, 1], batch[name]["a"].float())
    assert torch.equal(batch["next_observations"]["a"], batch["observations"]["a"] + 1)
    assert set(dataset.start_observations["a"].tolist()) == {0}
    assert dataset.observation_space == env.single_observation_space


class Swapped(gym.ObservationWrapper):
    """Observes a dict whose keys are not in the alphabet's order, with entries of one kind."""

    def __init__(self) -> None:
        super().__init__(DelayedRewardEnv(5))
        number = spaces.Box(0, 9, (1,))
        self.observation_space = spaces.Dict([("z", number), ("a", number)])

    def observation(self, observation: int) -> dict[str, Any]:
        return {"z": np.full(1, 9, np.float32), "a": np.full(1, observation, np.float32)}


def test_a_dicts_entries_keep_their_names_in_any_order(tmp_path: Path) -> None:
    """Read back in the alphabet's order, z would be a and a would be z, without a word."""
    make_random_trajectory(Swapped, tmp_path, 40, progress=False)
    read = TrajectoryDataset(tmp_path)
    assert list(read.observation_space) == list(read[0]["observations"]) == ["z", "a"]
    assert read[range(40)]["observations"]["z"].unique().tolist() == [9.0]


def test_what_is_appended_in_another_order_keeps_its_names(tmp_path: Path) -> None:
    make_random_trajectory(Swapped, tmp_path, 40, progress=False)

    class Sorted(Swapped):
        def __init__(self) -> None:
            super().__init__()
            self.observation_space = spaces.Dict(dict(self.observation_space.spaces))

    assert list(Sorted().observation_space) == ["a", "z"]
    both = make_random_trajectory(Sorted, tmp_path, 40, append=True, progress=False)
    assert both[range(80)]["observations"]["z"].unique().tolist() == [9.0]


# ---- an agent's trajectories ---------------------------------------------------------------------


@pytest.fixture
def agent() -> PPOAgent:
    agent = PPOAgent()
    EnvDataLoader(agent, "CartPole-v1", seed=1)
    return agent


def test_a_greedy_agents_actions_are_its_best(tmp_path: Path, agent: PPOAgent) -> None:
    dataset = make_trajectory(
        agent, "CartPole-v1", tmp_path, 300, deterministic=True, progress=False
    )
    batch = dataset[range(300)]
    agent.eval()
    with torch.no_grad():
        best, _ = agent.act(batch["observations"], deterministic=True)
    assert torch.equal(batch["actions"], best)


def test_an_agent_is_left_as_it_was(tmp_path: Path, agent: PPOAgent) -> None:
    agent.network.eval()
    modes = [module.training for module in agent.modules()]
    before = agent.generator.get_state()
    kept = make_trajectory(agent, "CartPole-v1", tmp_path / "a", 100, progress=False)
    assert torch.equal(agent.generator.get_state(), before)
    assert [module.training for module in agent.modules()] == modes
    agent.generator.manual_seed(99)
    again = make_trajectory(agent, "CartPole-v1", tmp_path / "b", 100, progress=False)
    assert torch.equal(kept[range(100)]["observations"], again[range(100)]["observations"])


def test_an_agent_without_an_environment_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StateError, match="not met an environment"):
        make_trajectory(PPOAgent(), "CartPole-v1", tmp_path)


def test_an_agent_of_another_environment_is_refused(tmp_path: Path, agent: PPOAgent) -> None:
    with pytest.raises(SpaceError, match="was built for"):
        make_trajectory(agent, "Pendulum-v1", tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()


# ---- adding to a dataset -------------------------------------------------------------------------


def test_appended_trajectories_follow_and_an_open_dataset_stays_valid(tmp_path: Path) -> None:
    first = make_random_trajectory("CartPole-v1", tmp_path, 100, progress=False)
    before = first[range(100)]
    grown = make_random_trajectory("CartPole-v1", tmp_path, 50, append=True, progress=False)
    after, still = grown[range(150)], first[range(100)]
    assert (len(first), len(grown), grown.seeds) == (100, 150, [0, 100])
    for name in KEYS:
        assert torch.equal(before[name], still[name])
        assert torch.equal(before[name], after[name][:100])
    assert not torch.equal(after["observations"][:50], after["observations"][100:])
    grown.verify()


def test_a_directory_is_not_overwritten(tmp_path: Path, agent: PPOAgent) -> None:
    make_random_trajectory("CartPole-v1", tmp_path, 20, progress=False)
    for make in (make_random_trajectory, lambda *a, **k: make_trajectory(agent, *a, **k)):
        with pytest.raises(ConfigError, match="append=True"):
            make("CartPole-v1", tmp_path, 20, progress=False)
    assert len(TrajectoryDataset(tmp_path)) == 20


def test_another_environments_trajectories_are_not_appended(tmp_path: Path) -> None:
    dataset = make_random_trajectory("CartPole-v1", tmp_path, 20, progress=False)
    with pytest.raises(SpaceError, match="CartPole-v1"):
        make_random_trajectory("Pendulum-v1", tmp_path, 20, append=True, progress=False)
    with pytest.raises(SpaceError, match="CartPole-v1"):
        dataset.check_spaces(PLANE, dataset.action_space)
    dataset.check_spaces(dataset.observation_space, dataset.action_space)


def test_datasets_are_joined_by_copying(tmp_path: Path, dataset: TrajectoryDataset) -> None:
    one, other = dataset.split(0.5)
    one.copy_to(tmp_path / "joined")
    joined = other.copy_to(tmp_path / "joined", append=True)
    assert joined.num_steps == dataset.num_steps
    assert [int(start[0]) for start in joined.start_observations] == [
        *one.episodes,
        *other.episodes,
    ]
    rows = joined[range(14)]
    parts = [one[range(len(one))], other[range(len(other))]]
    assert all(torch.equal(rows[n], torch.cat([part[n] for part in parts])) for n in KEYS)
    joined.verify()


# ---- what goes wrong while collecting ------------------------------------------------------------


@pytest.mark.parametrize("number", [{"num_steps": 0}, {"num_envs": 0}, {"num_steps": -5}])
def test_numbers_below_one_are_refused(tmp_path: Path, number: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="expected at least 1"):
        make_random_trajectory("CartPole-v1", tmp_path / "new", **number)
    assert not (tmp_path / "new").exists()


class BreakingEnv(CountingEnv):
    """Breaks in its tenth env step: raises, is interrupted, or returns NaN."""

    def __init__(self, how: Any) -> None:
        super().__init__(lengths=[3])
        self.how, self.left = how, 10

    def step(self, action: Any) -> Any:
        self.left -= 1
        observation, reward, *rest = super().step(action)
        if self.left > 0:
            return observation, reward, *rest
        if self.how is None:
            return observation, float("nan"), *rest
        raise self.how


@pytest.mark.parametrize(
    ("how", "raised"), [(ValueError("broke"), EnvError), (KeyboardInterrupt(), KeyboardInterrupt)]
)
@pytest.mark.parametrize("block", [4, 9, 1000])
def test_what_was_collected_before_an_error_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Any, raised: type[BaseException],
    block: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(recorder_module, "BLOCK_ROWS", block)
    with pytest.raises(raised):
        make_random_trajectory(BreakingEnv(how), tmp_path, 100, num_envs=1, progress=False)
    dataset = TrajectoryDataset(tmp_path)
    assert dataset.episode_lengths.tolist() == [3, 3, 3]
    assert dataset[range(9)]["terminated"].tolist() == [False, False, True] * 3


def test_nan_is_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "BLOCK_ROWS", 4)
    with pytest.raises(NonFiniteError, match="rewards"):
        make_random_trajectory(BreakingEnv(None), tmp_path, 100, num_envs=1, progress=False)
    assert TrajectoryDataset(tmp_path)[range(6)]["rewards"].isfinite().all()


def test_a_space_without_arrays_is_refused(tmp_path: Path) -> None:
    env = IdentityEnv()
    env.observation_space = spaces.Text(3)
    with pytest.raises(SpaceError, match="Text"):
        make_random_trajectory(env, tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()


def test_progress_is_shown_by_a_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_random_trajectory("CartPole-v1", tmp_path / "a", 100)
    assert "100/100" in capsys.readouterr().err
    make_random_trajectory("CartPole-v1", tmp_path / "b", 100, progress=False)
    assert capsys.readouterr().err == ""
