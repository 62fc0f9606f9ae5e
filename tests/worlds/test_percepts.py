"""Percepts: codes, their change, the last action; the same live as from the disk."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from seen import some_eye, some_pictures

from lightning_rl import make_random_trajectory
from lightning_rl.checkpoints.env_state import env_state, load_env_state
from lightning_rl.errors import ConfigError, SpaceError, StateError
from lightning_rl.worlds import Eye, PerceivedEnv, PictureEnv, perceive
from lightning_rl.worlds.percepts import action_numbers, join_percepts, percept_space

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),  # Lightning's
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


def seen_env(name: str = "CartPole-v1", num_envs: int = 3) -> PerceivedEnv:
    return PerceivedEnv(PictureEnv(name, num_envs), some_eye(name))


def test_a_percept_is_codes_then_their_change_then_the_last_action() -> None:
    codes, before = np.full((2, 3), 5.0), np.full((2, 3), 4.0)
    done, began = np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([False, True])
    percepts = join_percepts(codes, before, done, began, change_std=0.5)
    assert percepts.tolist() == [[5, 5, 5, 2, 2, 2, 0, 1], [5, 5, 5, 0, 0, 0, 0, 0]]
    assert percepts.dtype == np.float32


def test_actions_become_numbers() -> None:
    choices = action_numbers(np.array([3, 4]), spaces.Discrete(2, start=3))
    assert choices.tolist() == [[1, 0], [0, 1]]
    pushes = spaces.Box(-2, 2, (1,))
    assert action_numbers(np.array([[0.5], [-2.0]]), pushes).tolist() == [[0.5], [-2.0]]
    assert percept_space(some_eye().network, pushes).high[-1] == 2
    with pytest.raises(SpaceError, match="expected Discrete or a Box"):
        percept_space(some_eye().network, spaces.MultiDiscrete([2, 2]))


@pytest.mark.parametrize("name", ["CartPole-v1", "Pendulum-v1"])
def test_what_is_perceived_live_is_what_is_perceived_from_the_disk(
    name: str, tmp_path: Path
) -> None:
    live = make_random_trajectory(seen_env(name, 2), tmp_path / "live", 250, 7, progress=False)
    shown = make_random_trajectory(PictureEnv(name, 2), tmp_path / "s", 250, 7, progress=False)
    stored = perceive(shown, some_eye(name), tmp_path / "percepts")
    assert stored.num_episodes == live.num_episodes > 1
    assert stored.observation_space == live.observation_space
    assert stored.seeds == live.seeds
    for (field, ours), theirs in zip(
        live[range(250)].items(), stored[range(250)].values(), strict=True
    ):
        assert torch.allclose(ours.float(), theirs.float(), atol=1e-3), field


def test_a_new_episode_knows_of_no_change_and_no_action() -> None:
    env = seen_env(num_envs=2)
    percepts, _ = env.reset(seed=0)
    assert (percepts[:, 4:] == 0).all()
    ended = np.zeros(2, bool)
    for _ in range(60):
        percepts, _, terminated, truncated, _ = env.step(np.array([0, 1]))
        assert percepts in env.observation_space
        assert (percepts[ended, 4:] == 0).all()
        assert (percepts[~ended, 4:] != 0).any(1).all()
        assert (percepts[~ended, 8:] == [[1, 0], [0, 1]][: (~ended).sum()]).all() or ended.any()
        ended = terminated | truncated


def test_copies_go_their_own_ways() -> None:
    env = seen_env()
    env.reset(seed=1)
    other = copy.deepcopy(env)
    actions = np.array([0, 1, 0])
    first = env.step(actions)[0]
    env.step(actions)
    assert (other.step(actions)[0] == first).all()


def test_what_an_eye_cannot_see_is_refused() -> None:
    with pytest.raises(SpaceError, match="Make a new eye"):
        PerceivedEnv(PictureEnv("CartPole-v1", 1, 24, 24), some_eye())
    with pytest.raises(SpaceError, match="expected pictures"):
        PerceivedEnv("CartPole-v1", some_eye())
    with pytest.raises(StateError, match="was not trained"):
        PerceivedEnv(PictureEnv("CartPole-v1", 1), Eye())
    with pytest.raises(StateError, match="reset"):
        seen_env().follow(np.zeros(3, int), np.zeros((3, 16, 16, 1), np.uint8), np.ones(3, bool))


def test_only_pictures_are_perceived_and_nothing_is_overwritten(tmp_path: Path) -> None:
    states = make_random_trajectory("CartPole-v1", tmp_path / "d", 50, progress=False)
    with pytest.raises(SpaceError, match="expected pictures"):
        perceive(states, some_eye(), tmp_path / "p")
    with pytest.raises(StateError, match="was not trained"):
        perceive(some_pictures(), Eye(), tmp_path / "p")
    with pytest.raises(ConfigError, match="holds trajectories already"):
        perceive(some_pictures(), some_eye(), tmp_path / "d")


def test_its_state_is_saved_and_goes_on() -> None:
    env, other = seen_env(), seen_env()
    env.reset(seed=3)
    other.reset(seed=4)
    actions = np.array([0, 1, 0])
    env.step(actions)
    load_env_state(other, env_state(env))
    for one, two in zip(env.step(actions)[:4], other.step(actions)[:4], strict=True):
        assert (one == two).all()
