"""An agent's entry in a checkpoint: read by its own kind, or refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_rl import AgentTrainer, DQNAgent, PPOAgent, PPOConfig
from lightning_rl.errors import LightningRLError, SpaceError, StateError
from tests.small_runs import SMALL


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    trainer = AgentTrainer(max_env_steps=256, seed=0, num_envs=2, quiet=True)
    trainer.fit(PPOAgent(config=SMALL), "CartPole-v1")
    trainer.save_checkpoint(tmp_path / "agent.ckpt")
    return tmp_path / "agent.ckpt"


def resume(path: Path, agent: Any, env: Any = "CartPole-v1") -> None:
    trainer = AgentTrainer(max_env_steps=512, seed=0, num_envs=2, quiet=True)
    trainer.fit(agent, env, ckpt_path=path)


def changed(path: Path, **entries: Any) -> Path:
    content = torch.load(path, weights_only=True)
    content["lightning_rl"].update(entries)
    torch.save(content, path)
    return path


def test_another_kind_of_agent_is_refused(saved: Path) -> None:
    with pytest.raises(StateError, match="checkpoint of PPOAgent does not fit DQNAgent"):
        resume(saved, DQNAgent(config={"learning_starts": 128}))


def test_an_environment_with_other_spaces_is_refused(saved: Path) -> None:
    with pytest.raises(SpaceError, match="Give it the environment it was trained in"):
        resume(saved, PPOAgent(config=SMALL), "Pendulum-v1")


def test_another_format_is_refused(saved: Path) -> None:
    with pytest.raises(StateError, match="has format 1; expected 3"):
        PPOAgent.load_from_checkpoint(changed(saved, format=1))


@pytest.mark.parametrize("name", ["env_steps", "episodes", "extra", "env_steps_at_fit_start"])
@pytest.mark.parametrize("value", [None, "nonsense", [1]])
def test_nonsense_in_an_entry_is_refused_in_words(saved: Path, name: str, value: Any) -> None:
    with pytest.raises(LightningRLError):
        resume(changed(saved, **{name: value}), PPOAgent(config=SMALL))


def test_other_settings_hold_with_a_warning(saved: Path) -> None:
    agent = PPOAgent(config=PPOConfig(**(vars(SMALL) | {"gamma": 0.5})))
    with pytest.warns(UserWarning, match=r"gamma=0\.5 \(saved: 0\.9\d*\)"):
        resume(saved, agent)
    assert agent.config.gamma == 0.5


@pytest.mark.filterwarnings("ignore:.*is out of date")  # Gymnasium's, of CartPole-v0
def test_another_environment_of_equal_spaces_keeps_its_own_limit(saved: Path) -> None:
    agent = PPOAgent(config=SMALL)
    with pytest.warns(UserWarning, match="not configured as when the checkpoint was written"):
        resume(saved, agent, "CartPole-v0")
    assert agent.runner.env.max_episode_steps == 200
