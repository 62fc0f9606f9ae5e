"""What a recurrent model remembers of the real environment, and what it dreams."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from seen import small_ppo, some_pictures

from lightning_rl import AgentTrainer, TrajectoryDataset, evaluate
from lightning_rl.errors import SpaceError, StateError
from lightning_rl.worlds import PictureEnv
from lightning_rl.worlds.recurrent_env import RecurrentDreamEnv, RememberedEnv
from lightning_rl.worlds.rssm import RecurrentConfig, RecurrentWorldModel

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),  # Lightning's
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]

SMALL = RecurrentConfig(memory_size=8, num_latents=2, num_classes=3, hidden_size=8)


def small_model() -> RecurrentWorldModel:
    torch.manual_seed(0)
    pictures = spaces.Box(0, 255, (16, 16, 1), "uint8")
    return RecurrentWorldModel(SMALL, pictures, spaces.Discrete(2))


def some_windows() -> TrajectoryDataset:
    return some_pictures().with_window(4)


def test_an_episode_begins_with_an_empty_memory() -> None:
    env = RememberedEnv(PictureEnv("CartPole-v1", 2), small_model())
    features, _ = env.reset(seed=0)
    assert features in env.observation_space
    recurrent = features[0, :8]  # of nothing seen and nothing done
    ended = np.zeros(2, bool)
    for _ in range(60):
        features, _, terminated, truncated, _ = env.step(np.array([0, 1]))
        assert np.allclose(features[ended, :8], recurrent)
        assert not np.allclose(features[~ended, :8], recurrent)
        ended = terminated | truncated


def test_agents_learn_in_its_dream_and_act_in_the_real_environment() -> None:
    model = small_model()
    dream = RecurrentDreamEnv(model, some_windows(), num_envs=4, horizon=10)
    agent = small_ppo()
    AgentTrainer(max_env_steps=128, logger=False, enable_checkpointing=False).fit(agent, dream)
    env = RememberedEnv(PictureEnv("CartPole-v1", 4), model)
    assert evaluate(agent, env, episodes=4).mean > 0


def test_a_dream_starts_where_something_is_remembered_and_ends_at_its_horizon() -> None:
    model = small_model()
    model.network.heads[-1].bias.data = torch.tensor([1.0, -50.0])  # never final
    model.network.heads[-1].weight.data.zero_()
    dream = RecurrentDreamEnv(model, some_windows(), num_envs=3, horizon=5)
    features, _ = dream.reset(seed=0)
    assert all((row == dream.starts).all(1).any() for row in features)
    for step in range(1, 7):
        features, rewards, terminated, truncated, _ = dream.step(np.zeros(3, int))
        assert truncated.tolist() == [step == 5] * 3
        assert rewards.tolist() == [float(step < 6)] * 3  # then it starts anew
        assert not terminated.any()
    assert all((row == dream.starts).all(1).any() for row in features)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SpaceError, match="Make a new model"):
        RememberedEnv(PictureEnv("CartPole-v1", 1, 24, 24), small_model())
    with pytest.raises(StateError, match="reset"):
        RecurrentDreamEnv(small_model(), some_windows(), num_envs=1).step(np.zeros(1, int))
