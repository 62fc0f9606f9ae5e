"""The dream: a world model as an environment, by the rules of every vector environment."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList, RecordEpisodeStatistics
from small_runs import fit_whole_and_resumed
from torch.utils.data import Dataset

from lightning_rl import AgentTrainer, PPOAgent, PPOConfig, evaluate
from lightning_rl.checkpoints.env_state import env_state, load_env_state
from lightning_rl.envs.runner import EndedEpisodes, EnvRunner
from lightning_rl.errors import ConfigError, ShapeError, SpaceError, StateError
from lightning_rl.trajectories.collect import make_random_trajectory
from lightning_rl.worlds.dream_env import DreamEnv, visited_states
from lightning_rl.worlds.world_model import WorldModel, WorldModelConfig

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),  # Lightning's
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


OBSERVATIONS = spaces.Box(-100, 100, (2,))

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}

OFF = {**QUIET, "logger": False, "enable_checkpointing": False, "enable_model_summary": False}

STARTS = torch.tensor([[0.0, 0.0], [10.0, 0.0]])


def counter(
    drifts: tuple[float, ...] = (1.0,), final: bool = False, noise: float = 0.0, reward: float = 2.0
) -> WorldModel:
    """A model whose member m adds `drifts[m]` to both numbers, whatever the action."""
    config = WorldModelConfig(num_members=len(drifts), hidden_sizes=(4,))
    model = WorldModel(config, OBSERVATIONS, spaces.Discrete(2))
    network = model.network
    with torch.no_grad():
        for layer in network.layers:
            layer.weight.zero_()
            layer.bias.zero_()
        for bias, drift in zip(network.layers[-1].bias, drifts, strict=True):
            bias[0, :3] = torch.tensor([drift, drift, reward])  # the means
            bias[0, 3:6] = 0.0 if noise else -1e4  # the log-variances
            bias[0, 6] = 1.0 if final else -1.0  # the logit of termination
    network.lowest.fill_(-20.0)
    network.highest.fill_(20.0)
    network.lowest_reward.fill_(reward)
    if not noise:
        network.split_outputs = lambda outputs, split=network.split_outputs: silent(split(outputs))
    return model


def silent(parts: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    means, log_variances, logits = parts
    return means, torch.full_like(log_variances, -torch.inf), logits


def play(env: DreamEnv, steps: int, seed: int | None = 0) -> list[Any]:
    """Everything that is observed in some steps of actions that depend on nothing else."""
    rng = np.random.default_rng(1)
    seen: list[Any] = [env.reset(seed=seed)]
    for _ in range(steps):
        seen.append(env.step(rng.integers(2, size=env.num_envs)))
    return seen


def noisy(num_envs: int = 4, **options: Any) -> DreamEnv:
    model = counter((1.0, -1.0, 0.5), noise=1.0)
    return DreamEnv(model, STARTS, num_envs, **{"horizon": 5, **options})


# ---- the rules of a vector environment -------------------------------------------------------


def test_the_same_seed_dreams_the_same_and_another_does_not() -> None:
    first, second = play(noisy(), 12), play(noisy(), 12)
    assert data_equivalence(first, second, exact=True)
    assert not data_equivalence(first, play(noisy(), 12, seed=1))
    env = noisy()
    play(env, 12)
    assert not data_equivalence(first, play(env, 12, seed=None))  # a reset is no new seeding
    assert data_equivalence(first, play(env, 12))


def test_what_it_returns_is_in_its_spaces() -> None:
    env = noisy(known_range=1.0, disagreement_penalty=0.1)
    assert env.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
    assert env.observation_space == spaces.Box(-100, 100, (4, 2))
    for observations, *rest in play(env, 20):
        assert env.observation_space.contains(observations)
        if len(rest) == 4:
            rewards, terminated, truncated, infos = rest
            assert (rewards.shape, rewards.dtype) == ((4,), np.float64)
            assert terminated.dtype == truncated.dtype == np.bool_
            assert infos == {}


def test_actions_may_be_lists_and_of_other_digits() -> None:
    """As Gymnasium's own vector environments take them."""
    model = WorldModel(WorldModelConfig(1, (4,)), OBSERVATIONS, spaces.Box(-1, 1, (1,)))
    model.network.lowest.fill_(-20.0)
    model.network.highest.fill_(20.0)
    seen = []
    for actions in ([[0.5], [-1]], np.array([[0.5], [-1]]), np.array([[0.5], [-1]], np.float32)):
        env = DreamEnv(model, STARTS, 2)
        env.reset(seed=0)
        seen.append(env.step(actions)[0])
    assert (seen[0] == seen[1]).all()
    assert (seen[0] == seen[2]).all()
    choosing = noisy(num_envs=2)
    choosing.reset(seed=0)
    with pytest.raises(SpaceError, match="expected 2 of Discrete"):
        choosing.step([0.5, 0.5])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_of_another_precision_dreams_too(dtype: torch.dtype) -> None:
    env = DreamEnv(counter().to(dtype), STARTS, 2, horizon=3, known_range=1, disagreement_penalty=1)
    for observations, *_ in play(env, 5):
        assert env.observation_space.contains(observations)


def test_what_it_returned_is_not_written_to_again() -> None:
    env = noisy()
    first, _ = env.reset(seed=0)
    kept = first.copy()
    env.step(np.zeros(4, dtype=np.int64))
    assert (first == kept).all()


class OneDream(gym.Env):
    """The view Gymnasium's own checker takes: one sub-environment, reset by the caller."""

    def __init__(self, env: DreamEnv) -> None:
        self.env = env
        self.observation_space = env.single_observation_space
        self.action_space = env.single_action_space

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        observations, infos = self.env.reset(seed=seed)
        return observations[0], infos

    @property
    def np_random(self) -> Any:
        return self.env.np_random

    @np_random.setter
    def np_random(self, value: Any) -> None:
        self.env.np_random = value

    def step(self, action: Any) -> Any:
        observations, rewards, terminated, truncated, infos = self.env.step(np.array([action]))
        return observations[0], float(rewards[0]), bool(terminated[0]), bool(truncated[0]), infos


def test_it_passes_gymnasiums_own_check() -> None:
    check_env(OneDream(noisy(num_envs=1)), skip_render_check=True)


def test_gymnasiums_vector_wrappers_fit() -> None:
    env: Any = DictInfoToList(RecordEpisodeStatistics(DreamEnv(counter(), STARTS, 2, horizon=3)))
    env.reset(seed=0)
    infos = [env.step(np.zeros(2, dtype=np.int64))[-1] for _ in range(3)][-1]
    assert [float(info["episode"]["r"]) for info in infos] == [6.0, 6.0]


# ---- what happens in a dream -----------------------------------------------------------------


def test_an_episode_is_what_the_model_says_until_the_horizon() -> None:
    env = DreamEnv(counter(), STARTS[:1], num_envs=2, horizon=3)
    rows = play(env, 5)
    positions = [row[0][:, 0].tolist() for row in rows]
    assert positions == [[0, 0], [1, 1], [2, 2], [3, 3], [0, 0], [1, 1]]  # the fifth: a reset row
    assert [row[1].tolist() for row in rows[1:]] == [[2, 2], [2, 2], [2, 2], [0, 0], [2, 2]]
    assert [row[3].all() for row in rows[1:]] == [False, False, True, False, False]
    assert not any(row[2].any() for row in rows[1:])


def test_reset_rows_are_marked_by_the_runner_and_never_counted() -> None:
    ended: list[EndedEpisodes] = []
    runner = EnvRunner(DreamEnv(counter(), STARTS, num_envs=2, horizon=3), ended.append)
    runner.reset(seed=0)
    valid = [runner.step(np.zeros(2, dtype=np.int64)).valid.all() for _ in range(8)]
    assert valid == [True, True, True, False, True, True, True, False]
    assert runner.env_steps == 12
    assert [e.returns.tolist() for e in ended] == [[6.0, 6.0]] * 2
    assert [e.lengths.tolist() for e in ended] == [[3, 3]] * 2


def test_a_state_that_is_final_terminates_and_is_not_truncated() -> None:
    env = DreamEnv(counter(final=True), STARTS, num_envs=2, horizon=9)
    env.reset(seed=0)
    _, rewards, terminated, truncated, _ = env.step(np.zeros(2, dtype=np.int64))
    assert rewards.tolist() == [2.0, 2.0]
    assert terminated.all()
    assert not truncated.any()
    assert not env.step(np.zeros(2, dtype=np.int64))[2].any()  # a reset row


def test_a_dream_ends_where_the_data_end() -> None:
    """The data reach from -20 to 20: half of that is passed at the 11th step from 0."""
    rows = play(DreamEnv(counter(), STARTS[:1], num_envs=1, known_range=0.5), 12)
    assert [bool(row[2][0]) for row in rows[1:]] == [False] * 10 + [True, False]
    assert rows[11][1].tolist() == [2.0]


def test_what_is_known_may_be_said_number_by_number() -> None:
    known = (np.full(2, -np.inf), np.array([np.inf, 3.5]))  # of the second, nothing above 3.5
    env = DreamEnv(counter(), STARTS[:1], num_envs=1, known_range=known)
    assert [bool(row[2][0]) for row in play(env, 5)[1:]] == [False] * 3 + [True, False]
    other = DreamEnv(counter(), STARTS[:1], num_envs=1, known_range=known)
    other.reset(seed=1)
    load_env_state(other, env_state(env))
    assert data_equivalence(env.step(np.zeros(1, int)), other.step(np.zeros(1, int)), exact=True)
    with pytest.raises(ShapeError, match="lowest and the highest"):
        DreamEnv(counter(), STARTS[:1], known_range=(np.zeros(3), np.ones(3)))


def test_a_number_that_never_varied_ends_no_dream() -> None:
    model = counter()
    model.network.lowest[1] = model.network.highest[1] = 0.0
    env = DreamEnv(model, STARTS[:1], num_envs=1, known_range=0.5)
    assert not any(row[2].any() for row in play(env, 10)[1:])


def test_leaving_the_data_never_pays() -> None:
    """It costs the lowest reward in each step that is left: here -2 in 9 of 20."""
    env = DreamEnv(counter(reward=-2.0), STARTS[:1], num_envs=1, horizon=20, known_range=0.5)
    rewards = [row[1][0] for row in play(env, 11)[1:]]
    assert rewards == [-2.0] * 10 + [-2.0 - 2.0 * 9]
    assert sum(rewards) == -2.0 * 20


def test_without_a_known_range_observations_stop_at_the_spaces_bounds() -> None:
    env = DreamEnv(counter((60.0,)), STARTS[:1], num_envs=1)
    assert [row[0][0, 0] for row in play(env, 3)] == [0, 60, 100, 100]


def test_disagreement_costs_reward() -> None:
    """Members 1 and -1 are a standard deviation of 1 apart, where the data's is 1."""
    env = DreamEnv(counter((1.0, -1.0)), STARTS, num_envs=3, disagreement_penalty=0.5)
    assert play(env, 1)[1][1].tolist() == [1.5, 1.5, 1.5]


def test_an_episode_happens_in_the_world_of_one_member_and_every_member_has_its_turn() -> None:
    env = DreamEnv(counter((1.0, -1.0)), STARTS[:1], num_envs=1, horizon=4)
    positions = np.array([row[0][0, 0] for row in play(env, 99)]).reshape(20, 5)  # an episode each
    steps = np.diff(positions, axis=1)
    assert (steps == steps[:, :1]).all()
    assert set(steps[:, 0]) == {1.0, -1.0}


def test_outcomes_spread_as_the_model_says() -> None:
    env = DreamEnv(counter(noise=1.0), STARTS[:1], num_envs=5000)
    observations, rewards, *_ = play(env, 1)[1]
    std = np.exp(0.5 * (1 - np.log1p(np.e)))  # of a log-variance of 0, softly kept below 1
    for values, mean in ((observations[:, 0], 1.0), (rewards, 2.0)):
        assert values.mean() == pytest.approx(mean, abs=0.05)
        assert values.std() == pytest.approx(std, rel=0.05)


# ---- where dreams start ----------------------------------------------------------------------


class Visited(Dataset[dict[str, torch.Tensor]]):
    observation_space, action_space = OBSERVATIONS, spaces.Discrete(2)

    def __len__(self) -> int:
        return 50

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {"observations": torch.tensor([float(index), 0.0])}


def starts_of(env: DreamEnv) -> set[float]:
    return {float(x) for seed in range(40) for x in env.reset(seed=seed)[0][:, 0]}


def test_dreams_start_in_any_state_of_a_dataset_or_in_those_given() -> None:
    assert starts_of(DreamEnv(counter(), Visited(), num_envs=30)) == set(range(50))
    assert starts_of(DreamEnv(counter(), STARTS, num_envs=2)) == {0.0, 10.0}
    assert starts_of(DreamEnv(counter(), STARTS.numpy(), num_envs=2)) == {0.0, 10.0}


def test_of_a_large_dataset_some_states_are_drawn_once_each() -> None:
    states = visited_states(Visited(), limit=20)
    assert states.shape == (20, 2)
    assert len(set(states[:, 0])) == 20
    assert (states == visited_states(Visited(), limit=20)).all()


# ---- agents ----------------------------------------------------------------------------------


def small_ppo() -> PPOAgent:
    return PPOAgent(config=PPOConfig(rollout_steps=64, batch_size=32, update_epochs=2))


def test_fit_and_evaluate_take_a_dream_and_evaluation_leaves_it_alone() -> None:
    dream, agent = DreamEnv(counter(), STARTS, num_envs=4, horizon=7), small_ppo()
    AgentTrainer(max_env_steps=256, seed=0, **OFF).fit(agent, dream)
    assert agent.env_steps >= 256
    assert (agent.episodes["episode_return"] == 14.0).all()
    before = env_state(dream)
    assert evaluate(agent, dream, episodes=5).returns.tolist() == [14.0] * 5
    assert data_equivalence(str(before), str(env_state(dream)))


def test_a_copy_goes_its_own_way() -> None:
    env = noisy()
    play(env, 3)
    twin = copy.deepcopy(env)
    actions = np.zeros(4, dtype=np.int64)
    expected = twin.step(actions)
    for _ in range(3):
        twin.step(actions)
    assert data_equivalence(env.step(actions), expected, exact=True)


def test_its_state_can_be_saved_and_goes_on_in_another_dream() -> None:
    env, other = noisy(), noisy()
    play(env, 7)
    other.reset(seed=99)
    load_env_state(other, env_state(env))
    actions = np.ones(4, dtype=np.int64)
    for _ in range(9):
        assert data_equivalence(env.step(actions), other.step(actions), exact=True)


def test_a_resumed_run_ends_as_the_one_that_was_never_stopped(tmp_path: Path) -> None:
    fit_whole_and_resumed(lambda: noisy(num_envs=100, horizon=70), tmp_path)


# ---- bad input -------------------------------------------------------------------------------


def test_an_untrained_model_dreams_of_nothing() -> None:
    untrained = WorldModel(WorldModelConfig(), OBSERVATIONS, spaces.Discrete(2))
    for model in (WorldModel(), untrained):
        with pytest.raises(StateError, match="not trained"):
            DreamEnv(model, STARTS)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_envs", 0), ("horizon", 0), ("known_range", 0.0), ("known_range", float("nan")),
        ("disagreement_penalty", -1.0),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(name: str, value: float) -> None:
    options: Any = {name: value}
    with pytest.raises(ConfigError, match=name):
        DreamEnv(counter(), STARTS, **options)


@pytest.mark.parametrize("shape", [(0, 2), (3,), (3, 4)])
def test_starts_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="start states"):
        DreamEnv(counter(), torch.zeros(shape))


def test_another_environments_starts_are_refused(tmp_path: Path) -> None:
    dataset = make_random_trajectory("CartPole-v1", tmp_path / "d", 50, progress=False)
    with pytest.raises(SpaceError, match="world model was built for"):
        DreamEnv(counter(), dataset)


def test_steps_before_the_first_reset_or_of_other_actions_are_refused() -> None:
    env = DreamEnv(counter(), STARTS, num_envs=2)
    with pytest.raises(StateError, match="reset"):
        env.step(np.zeros(2, dtype=np.int64))
    env.reset(seed=0)
    for actions in (np.zeros(3, dtype=np.int64), np.array([0, 2]), np.array([0.0, 1.0])):
        with pytest.raises(SpaceError, match="expected 2 of Discrete"):
            env.step(actions)
