"""The chain from collecting to acting: every real env step counts, and few are enough."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_rl import PPOAgent, PPOConfig, evaluate
from lightning_rl.errors import ConfigError
from lightning_rl.experiments.phases import PhaseLog
from lightning_rl.trajectories.collect import make_random_trajectory
from lightning_rl.trajectories.dataset import TrajectoryDataset
from lightning_rl.worlds.chain import (
    DreamConfig,
    learn_in_dream,
    mean_return,
    train_in_dream,
    train_world_model,
)
from lightning_rl.worlds.world_model import WorldModel, WorldModelConfig

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),  # Lightning's
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]

QUIET = {"accelerator": "cpu", "enable_progress_bar": False}


# ---- agents ----------------------------------------------------------------------------------


def small_ppo() -> PPOAgent:
    return PPOAgent(config=PPOConfig(rollout_steps=64, batch_size=32, update_epochs=2))


# ---- the chain -------------------------------------------------------------------------------

TINY = DreamConfig(
    random_steps=300, rounds=2, steps_per_round=60, model_epochs=2, batch_size=100,
    dream_steps=128, num_envs=8, horizon=20,
)  # fmt: skip


def learn(folder: Path, config: DreamConfig = TINY, seed: int = 0, **logged: Any) -> Any:
    model = WorldModel(WorldModelConfig(num_members=2, hidden_sizes=(8,)))
    options: dict[str, Any] = {"agent": small_ppo(), "model": model, "config": config, "seed": seed}
    return learn_in_dream("CartPole-v1", folder, **options, **QUIET, **logged)


def test_every_real_env_step_is_counted_and_kept(tmp_path: Path) -> None:
    result = learn(tmp_path / "data")
    assert result.real_steps == 300 + 2 * 60
    assert len(TrajectoryDataset(tmp_path / "data")) == result.real_steps
    assert result.agent.env_steps >= 3 * 128  # dreamed
    assert evaluate(result.agent, "CartPole-v1", episodes=2).mean > 0


def test_its_phases_are_logged_by_steps_of_their_own(tmp_path: Path) -> None:
    with PhaseLog("csv", tmp_path / "logs", seed=0) as log:
        result = learn(tmp_path / "data", log=log)
    with (log.folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = ("collect/episode_return", "world_model/train_loss", "agent/loss")
    steps = {name: [int(row["step"]) for row in rows if row[name]] for name in names}
    assert all(numbers == sorted(numbers) for numbers in steps.values())
    assert 300 < steps["collect/episode_return"][-1] <= result.real_steps
    updates = [math.ceil(rows / 100) * 2 for rows in (300, 360, 420)]  # of the model, each round
    assert steps["world_model/train_loss"][-1] == sum(n - 1 for n in updates)
    assert steps["agent/loss"][-1] == result.agent.env_steps


def test_the_chain_depends_on_its_seed_alone(tmp_path: Path) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = learn(tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    again, other = learn(tmp_path / "b"), learn(tmp_path / "c", seed=1)
    same = [torch.equal(a, b) for a, b in zip(*map(weights, (first, again)), strict=True)]
    assert all(same)
    assert not torch.equal(weights(first)[0], weights(other)[0])


def weights(result: Any) -> list[torch.Tensor]:
    return [*result.agent.state_dict().values(), *result.model.state_dict().values()]


def test_the_rounds_stop_when_the_agents_own_episodes_are_good_enough(tmp_path: Path) -> None:
    def real_steps(target: float) -> int:
        changes = {"target_return": target, "steps_per_round": 200}
        config = DreamConfig(**(vars(TINY) | changes))
        steps: int = learn(tmp_path / str(target), config).real_steps
        return steps

    assert real_steps(1.0) == 300 + 200  # every episode returns at least 1
    assert real_steps(501.0) == 300 + 2 * 200


def test_the_mean_return_is_of_episodes_that_ended(tmp_path: Path) -> None:
    dataset = make_random_trajectory("CartPole-v1", tmp_path / "d", 200, progress=False)
    whole = [i for i in range(dataset.num_episodes) if dataset.episode(i)["terminated"][-1]]
    lengths = [len(dataset.episode(i)["rewards"]) for i in whole]
    assert len(whole) < dataset.num_episodes  # some were cut
    assert mean_return(dataset) == pytest.approx(np.mean(lengths))
    assert mean_return(dataset, dataset.num_episodes) == -np.inf


def test_a_world_model_is_trained_on_as_the_plain_trainer_does(tmp_path: Path) -> None:
    dataset = make_random_trajectory("CartPole-v1", tmp_path / "d", 500, progress=False)
    model = train_world_model(dataset, config=DreamConfig(model_epochs=4), **QUIET)
    assert model.network.is_measured
    assert model.observation_space == dataset.observation_space
    agent = train_in_dream(small_ppo(), model, dataset, TINY, **QUIET)
    assert agent.env_steps >= 128


@pytest.mark.parametrize(
    "change", [{"random_steps": 0}, {"rounds": -1}, {"dream_steps": 0}, {"model_epochs": 0}]
)
def test_settings_out_of_range_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(change))):
        DreamConfig(**change)  # type: ignore[arg-type]


# ---- proofs ----------------------------------------------------------------------------------

PENDULUM_PPO = PPOConfig(
    rollout_steps=4096, batch_size=1024, update_epochs=10, learning_rate=3e-3, gamma=0.95,
    gae_lambda=0.95, anneal_clip_range=False, normalize_rewards=True,
)  # fmt: skip

PENDULUM = DreamConfig(random_steps=10_000, dream_steps=131_072, horizon=200, known_range=None)

Prove = Callable[..., float]


@pytest.fixture
def prove(tmp_path: Path) -> Prove:
    """Act in a dream, then play 100 greedy episodes in the real environment."""

    def run(env: str, agent: PPOAgent, config: DreamConfig, seed: int) -> float:
        result = learn_in_dream(env, tmp_path / "d", agent, config=config, seed=seed, **QUIET)
        score = evaluate(agent, env, 100, seed=50_000 + seed)
        print(f"seed {seed}: {score} after {result.real_steps} real env steps")
        return score.mean

    return run


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 206))
def test_10000_random_env_steps_are_enough_for_cartpole(prove: Prove, seed: int) -> None:
    assert prove("CartPole-v1", PPOAgent(), DreamConfig(), seed) >= 475


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200, 205))
def test_10000_random_env_steps_are_enough_for_pendulum(prove: Prove, seed: int) -> None:
    assert prove("Pendulum-v1", PPOAgent(config=PENDULUM_PPO), PENDULUM, seed) > -250
