"""Named settings: they can be made, say how they were run, and learn what they say."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from lightning_rl import (
    AgentTrainer,
    DQNAgent,
    DQNConfig,
    PPOAgent,
    PPOConfig,
    ReinforceConfig,
    SACAgent,
    SACConfig,
    evaluate,
)
from lightning_rl.errors import ConfigError
from lightning_rl.tuned import TUNED, tuned_run

CONFIGS: dict[str, Any] = {"PPOConfig": PPOConfig, "DQNConfig": DQNConfig, "SACConfig": SACConfig}
AGENTS: dict[str, Any] = {"PPOConfig": PPOAgent, "DQNConfig": DQNAgent, "SACConfig": SACAgent}
RUNS = [(config, env) for config, runs in TUNED.items() for env in runs]
ENVIRONMENTS = (Path(__file__).parents[1] / "README.md").read_text()


@pytest.mark.parametrize(("config", "env"), RUNS)
def test_every_named_setting_is_a_config_of_a_registered_environment(config: str, env: str) -> None:
    run, settings = tuned_run(config, env), CONFIGS[config].for_env(env)
    assert isinstance(settings, CONFIGS[config])
    assert dataclasses.asdict(settings).items() >= run.settings.items()
    assert env in gym.registry
    assert len(run.returns) >= 3
    assert run.num_envs >= 1
    assert run.max_env_steps > 8 * settings.rollout_steps


@pytest.mark.parametrize("env", sorted({env for _, env in RUNS}))
def test_readme_lists_every_environment_with_named_settings(env: str) -> None:
    assert env in ENVIRONMENTS


def test_unknown_environments_are_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"DQNConfig has no named settings for 'Pendulum-v1'"):
        DQNConfig.for_env("Pendulum-v1")
    with pytest.raises(ConfigError, match=r"for 'Pendulum-v1' there are some of \['PPOConfig', "):
        ReinforceConfig.for_env("Pendulum-v1")
    with pytest.raises(ConfigError, match=r"it has some for \['Acrobot-v1', 'CartPole-v1', "):
        PPOConfig.for_env("LunarLander-v2")


LEAST = {  # what every seed must reach; `test_learning.py` and `agents/` prove the others
    "MountainCar-v0": -125.0, "MountainCarContinuous-v0": 90.0, "LunarLander-v3": 25.0,
    "LunarLanderContinuous-v3": 200.0, "InvertedPendulum-v5": 950.0,
    "InvertedDoublePendulum-v5": 9000.0, "BipedalWalker-v3": 250.0,
}  # fmt: skip


QUICK = ("MountainCarContinuous-v0",)  # three seeds in half a minute; README has all seeds of all
SEEDED = [
    (*run, seed) for run in RUNS if run[1] in LEAST for seed in range(3 if run[1] in QUICK else 1)
]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Box2D's and MuJoCo's
@pytest.mark.parametrize(("config", "env", "seed"), SEEDED)
def test_named_settings_learn_what_they_say(config: str, env: str, seed: int) -> None:
    try:
        gym.make(env).close()
    except gym.error.DependencyNotInstalled:
        pytest.skip(f"{env} needs a library of the extra 'bench'")
    run, agent = tuned_run(config, env), AGENTS[config](config=CONFIGS[config].for_env(env))
    AgentTrainer(
        max_env_steps=run.max_env_steps, num_envs=run.num_envs, seed=seed, accelerator="cpu",
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
    ).fit(agent, env)  # fmt: skip
    result = evaluate(agent, env, 100, seed=10_000 * (seed + 1))
    print(config, env, seed, result)
    assert result.mean >= LEAST[env]
