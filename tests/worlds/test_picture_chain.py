"""The chain from pictures: what it counts and keeps, and what it is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.wrappers import TimeLimit
from seen import QUIET, TINY, TINY_EYE, small_ppo, some_eye, some_pictures

from lightning_rl import EpisodePlayer, PPOAgent, PPOConfig, evaluate
from lightning_rl.errors import ConfigError
from lightning_rl.worlds import (
    Eye,
    EyeConfig,
    PictureDreamConfig,
    WorldModel,
    WorldModelConfig,
    learn_from_pictures,
    perceive,
)
from lightning_rl.worlds.picture_chain import known_percepts, make_picture_dream

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),  # Lightning's
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


def learn(folder: Path, seed: int = 0, **changes: Any) -> Any:
    model = WorldModel(WorldModelConfig(num_members=2, hidden_sizes=(8,)))
    parts: dict[str, Any] = {"agent": small_ppo(), "eye": Eye(TINY_EYE), "model": model}
    config = replace(TINY, **changes)
    return learn_from_pictures("CartPole-v1", folder, **parts, config=config, seed=seed, **QUIET)


def weights(result: Any) -> list[torch.Tensor]:
    parts = (result.eye, result.model, result.agent)
    return [value for part in parts for value in part.state_dict().values()]


def test_every_real_env_step_is_counted_kept_and_perceived(tmp_path: Path) -> None:
    result = learn(tmp_path, rounds=1)
    assert result.real_steps == result.pictures.num_steps == 300 + 60
    assert result.percepts.num_steps == 360
    assert result.pictures.observation_space.shape == (16, 16, 1)
    assert result.agent.env_steps >= 2 * 128  # dreamed
    assert result.dream.starts.shape == (360, 10)


def test_what_the_chain_opens_it_closes(tmp_path: Path) -> None:
    opened: list[Any] = []

    class Door(CartPoleEnv):
        def __init__(self) -> None:
            super().__init__(render_mode="rgb_array")
            self.is_left_open = True
            opened.append(self)

        def close(self) -> None:
            super().close()
            self.is_left_open = False

    def door() -> gym.Env:
        return TimeLimit(Door(), 30)

    parts: dict[str, Any] = {
        "agent": small_ppo(),
        "eye": Eye(TINY_EYE),
        "model": WorldModel(WorldModelConfig(num_members=2, hidden_sizes=(8,))),
    }
    result = learn_from_pictures(door, tmp_path, **parts, config=replace(TINY, rounds=1), **QUIET)
    result.film(num_steps=5)
    assert len(opened) > 16
    assert not any(door.is_left_open for door in opened)


def test_the_agent_acts_in_the_real_environment_through_the_eye(tmp_path: Path) -> None:
    result = learn(tmp_path)
    assert evaluate(result.agent, result.env(4), episodes=4).mean > 0
    player = EpisodePlayer(result.agent, result.env(1), max_steps=3)
    assert player.record.frames.shape == (4, 192, 192, 3)


def test_the_chain_depends_on_its_seed_alone(tmp_path: Path) -> None:
    before = torch.get_rng_state()
    first = learn(tmp_path / "a", rounds=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    again, other = learn(tmp_path / "b", rounds=1), learn(tmp_path / "c", seed=1)
    pairs = zip(weights(first), weights(again), strict=True)
    assert all(torch.equal(one, two) for one, two in pairs)
    assert not torch.equal(weights(first)[0], weights(other)[0])


def test_the_rounds_stop_when_the_agents_own_episodes_are_good_enough(tmp_path: Path) -> None:
    changes = {"rounds": 2, "steps_per_round": 200}
    assert learn(tmp_path / "1", target_return=1.0, **changes).real_steps == 300 + 200
    assert learn(tmp_path / "2", target_return=501.0, **changes).real_steps == 300 + 2 * 200


def test_a_dream_of_percepts_ends_by_quantiles_and_never_by_the_last_action(
    tmp_path: Path,
) -> None:
    percepts = perceive(some_pictures(), some_eye(), tmp_path / "p")
    states = percepts[range(len(percepts))]["observations"].numpy()
    low, high = known_percepts(percepts, 4, quantile=0.1)
    inside = ((states >= low) & (states <= high)).mean(0)
    assert inside[:8] == pytest.approx(0.8, abs=0.01)
    assert np.isinf(low[8:]).all()
    assert np.isinf(high[8:]).all()
    wide_low, wide_high = known_percepts(percepts, 4, quantile=0.1, factor=2.0)
    assert (wide_high - wide_low)[:8] == pytest.approx(2 * (high - low)[:8])


@pytest.mark.parametrize("change", [{"height": 0}, {"eye_epochs": 0}, {"range_quantile": -0.1}])
def test_settings_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        PictureDreamConfig(**change)


# ---- proofs ----------------------------------------------------------------------------------


PENDULUM_PPO = PPOConfig(
    rollout_steps=4096, batch_size=1024, update_epochs=10, learning_rate=3e-3, gamma=0.95,
    gae_lambda=0.95, anneal_clip_range=False, normalize_rewards=True,
)  # fmt: skip


def real_mean(env: str, agent: PPOAgent, config: PictureDreamConfig, seed: int, at: Path) -> float:
    """Learn from pictures; play 100 greedy episodes in the real environment."""
    result = learn_from_pictures(env, at / str(seed), agent, config=config, seed=seed, **QUIET)
    score = evaluate(agent, result.env(), 100, seed=50_000 + seed)
    print(f"seed {seed}: {score} after {result.real_steps} real env steps")
    return score.mean


@pytest.mark.slow
def test_10000_random_pictures_are_enough_to_balance_the_pole(
    first_seeds: Callable[[range], range], tmp_path: Path
) -> None:
    config = PictureDreamConfig()
    means = [
        real_mean("CartPole-v1", PPOAgent(), config, seed, tmp_path)
        for seed in first_seeds(range(200, 205))
    ]
    assert min(means) > 200
    assert sum(mean < 400 for mean in means) <= 1


@pytest.mark.slow
def test_a_round_of_2000_own_env_steps_makes_it_sure(tmp_path: Path) -> None:
    config = PictureDreamConfig(rounds=1)
    assert real_mean("CartPole-v1", PPOAgent(), config, 205, tmp_path) >= 475


@pytest.mark.slow
def test_20000_random_pictures_are_enough_to_swing_the_pendulum_up(
    first_seeds: Callable[[range], range], tmp_path: Path
) -> None:
    config = PictureDreamConfig(
        random_steps=20_000, model_epochs=50, dream_steps=131_072, horizon=30, known_range=None
    )
    means = []
    for seed in first_seeds(range(200, 202)):
        parts: dict[str, Any] = {
            "agent": PPOAgent(config=PENDULUM_PPO),
            "eye": Eye(EyeConfig(num_codes=6)),
            "model": WorldModel(WorldModelConfig(hidden_sizes=(128, 128))),
        }
        result = learn_from_pictures(
            "Pendulum-v1", tmp_path / str(seed), **parts, config=config, seed=seed, **QUIET
        )
        means.append(evaluate(parts["agent"], result.env(), 100, seed=50_000 + seed).mean)
    assert min(means) > -300, means


def test_a_dream_without_a_known_range_goes_on_to_its_horizon(tmp_path: Path) -> None:
    result = learn(tmp_path, known_range=None)
    dream = make_picture_dream(result.model, result.percepts, result.eye, TINY)
    endless = make_picture_dream(
        result.model, result.percepts, result.eye, replace(TINY, known_range=None)
    )
    assert isinstance(dream.known_range, tuple)
    assert endless.known_range is None
