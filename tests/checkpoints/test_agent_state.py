"""An agent's entry in a checkpoint: read by its own kind, or refused in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_rl import AgentTrainer, DQNAgent, LightningAgentModule, PPOAgent, PPOConfig
from lightning_rl.errors import ConfigError, LightningRLError, SpaceError, StateError
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


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_an_agent_that_learns_from_data_alone_is_saved_and_goes_on(tmp_path: Path) -> None:
    class Cloned(LightningAgentModule):
        """Learns from observations in a DataLoader, and has no environment and no settings."""

        def act(self, observations: Any, deterministic: bool = False) -> Any:
            return self.network(observations).argmax(-1), {}

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.network(batch).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    def fit(epochs: int, ckpt_path: Path | None = None) -> AgentTrainer:
        torch.manual_seed(0)
        trainer = AgentTrainer(max_epochs=epochs, quiet=True, limit_val_batches=0)
        trainer.fit(Cloned(torch.nn.Linear(4, 2)), DataLoader(data), ckpt_path=ckpt_path)
        return trainer

    data = torch.linspace(-1, 1, 12).view(3, 4)
    fit(1).save_checkpoint(tmp_path / "half.ckpt", weights_only=False)
    resumed, whole = fit(2, tmp_path / "half.ckpt"), fit(2)
    assert resumed.global_step == whole.global_step == 6
    for a, b in zip(*(t.lightning_module.parameters() for t in (resumed, whole)), strict=True):
        assert torch.equal(a, b)


def test_a_run_of_two_processes_does_not_go_on_in_one(saved: Path) -> None:
    content = torch.load(saved, weights_only=True)
    torch.save(content | {"lightning_rl_processes": 2}, saved)
    agent = PPOAgent(config=SMALL)
    with pytest.raises(ConfigError, match=r"in 2 processes; this trainer has 1.*load_from_check"):
        resume(saved, agent)
    assert agent.env_steps == 0
    assert PPOAgent.load_from_checkpoint(saved).env_steps == 256  # as it says
