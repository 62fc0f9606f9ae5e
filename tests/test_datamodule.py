"""A datamodule's environment is trained on as if it had been given to `fit`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from countdown import CONFIG, Countdown
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningCLI
from torch.utils.data import DataLoader

from lightning_rl import AgentTrainer, DQNAgent, EnvDataLoader, PPOAgent, SACAgent
from lightning_rl.datamodule import EnvDataModule
from lightning_rl.errors import CheckpointError, EnvError, StateError

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # Lightning's


class Environment(LightningDataModule):
    """Gives what it was told to give."""

    def __init__(self, train: Any) -> None:
        super().__init__()
        self.train, self.calls = train, 0

    def train_dataloader(self) -> Any:
        self.calls += 1
        return self.train() if callable(self.train) else self.train


class EnvironmentAndEvaluation(Environment):
    def val_dataloader(self) -> Any:
        return lambda: Countdown(7)


class BoundInSetup(LightningDataModule):
    def __init__(self, agent: PPOAgent, **options: Any) -> None:
        super().__init__()
        self.agent, self.options = agent, options

    def setup(self, stage: str) -> None:
        self.loader = EnvDataLoader(self.agent, "CartPole-v1", 4, **self.options)

    def train_dataloader(self) -> Any:
        return self.loader


def make_trainer(**options: Any) -> AgentTrainer:
    return AgentTrainer(
        num_envs=4, seed=0, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        accelerator="cpu", evaluation_episodes=4, **options,
    )  # fmt: skip


def weights(agent: PPOAgent) -> list[float]:
    return [float(parameter.detach().sum()) for parameter in agent.parameters()]


def test_an_environment_a_name_and_a_loader_made_late_are_trained_alike() -> None:
    found = []
    agent = PPOAgent(config=CONFIG)
    make_trainer(max_env_steps=300).fit(agent, "CartPole-v1")
    found.append((agent.env_steps, weights(agent)))
    for make in (
        lambda agent: "CartPole-v1",
        lambda agent: gym.make_vec("CartPole-v1", num_envs=4),
        lambda agent: EnvDataLoader(agent, "CartPole-v1", 4, seed=0),
    ):
        agent = PPOAgent(config=CONFIG)
        data = Environment(lambda a=agent, m=make: m(a))
        make_trainer(max_env_steps=300).fit(agent, datamodule=data)
        found.append((agent.env_steps, weights(agent)))
        assert data.calls == 1
        assert vars(data).keys() >= {"train", "calls"}
        assert not {"setup", "train_dataloader", "val_dataloader"} & vars(data).keys()
    assert all(run == found[0] for run in found)


@pytest.mark.parametrize(
    ("of_trainer", "of_loader", "steps"),
    [
        ({"max_env_steps": 128}, {}, 128),
        ({}, {"max_env_steps": 128}, 128),
        ({"max_env_steps": 64}, {"max_env_steps": 128}, 64),
        ({"max_epochs": 2}, {"iterations_per_epoch": 1}, 128),
        ({"max_epochs": 9}, {"max_env_steps": 128}, 128),
    ],
)
def test_no_budget_is_lost(
    of_trainer: dict[str, Any], of_loader: dict[str, Any], steps: int
) -> None:
    for positional in (True, False):
        agent = PPOAgent(config=CONFIG)
        data, trainer = BoundInSetup(agent, **of_loader), make_trainer(**of_trainer)
        trainer.fit(agent, data) if positional else trainer.fit(agent, datamodule=data)
        assert steps - 8 <= agent.env_steps <= steps + 4
    by_hand = PPOAgent(config=CONFIG)
    loader = EnvDataLoader(by_hand, "CartPole-v1", 4, **of_loader)
    make_trainer(**of_trainer).fit(by_hand, loader)
    assert by_hand.env_steps == agent.env_steps


def test_evaluation_is_in_the_datamodules_environment_or_a_copy_of_its_training_one() -> None:
    for kind, length in ((EnvironmentAndEvaluation, 7.0), (Environment, 3.0)):
        trainer = make_trainer(max_env_steps=128, evaluate_every_env_steps=64)
        trainer.fit(PPOAgent(config=CONFIG), datamodule=kind([lambda: Countdown(3)] * 2))
        assert trainer.callback_metrics["val_episode_length"] == length


def test_a_loader_made_by_hand_is_evaluated_in_a_copy_of_its_environment() -> None:
    """Not by passing the training loader's minibatches to `validation_step`."""
    agent = PPOAgent(config=CONFIG)
    trainer = make_trainer(max_env_steps=128, evaluate_every_env_steps=64)
    loader = EnvDataLoader(agent, lambda: Countdown(3), 2)
    trainer.fit(agent, loader)
    assert trainer.callback_metrics["val_episode_length"] == 3
    assert trainer.test(agent, loader)[0]["test_episode_length"] == 3


def test_the_fits_environment_is_tested_with_all_its_wrappers() -> None:
    agent, trainer = PPOAgent(config=CONFIG), make_trainer(max_env_steps=64)
    trainer.fit(agent, gym.wrappers.TimeLimit(Countdown(1000), 5))
    assert trainer.test(agent)[0]["test_episode_length"] == 5


def test_what_is_no_environment_is_refused_as_if_it_had_been_given_to_fit() -> None:
    data = Environment(lambda: [3, "CartPole-v1"])
    with pytest.raises(EnvError, match="got int; expected a name"):
        make_trainer().fit(PPOAgent(), datamodule=data)
    assert "setup" not in vars(data)


@pytest.mark.parametrize("data", [5, {"train": 1}, DataLoader([1, 2])])  # type: ignore[arg-type]
def test_an_agent_without_weights_says_what_it_needs(data: Any) -> None:
    for agent in (PPOAgent(), DQNAgent(), SACAgent()):
        with pytest.raises(
            EnvError, match=r"has met no environment.*expected an environment: a na"
        ):
            make_trainer().fit(agent, data)


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_evaluation_without_an_environment_is_refused() -> None:
    agent = PPOAgent(config=CONFIG)
    EnvDataLoader(agent, "CartPole-v1", 4)  # binds it
    with pytest.raises(StateError, match="no environment to evaluate in"):
        make_trainer(evaluate_every_env_steps=64, max_epochs=1).fit(agent, DataLoader([1, 2]))  # type: ignore[arg-type]


# ---- the command line -------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of jsonargparse, about Lightning's call
def test_lightning_cli_trains_an_agent_in_an_environment_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    args = [
        "train.py", "fit", "--data.env=CartPole-v1", "--trainer.max_env_steps=300",
        "--trainer.num_envs=2",
        "--trainer.logger=false", "--trainer.enable_checkpointing=false",
        "--trainer.enable_progress_bar=false", "--trainer.evaluation_episodes=2",
        "--model.config.rollout_steps=128", "--model.config.batch_size=64",
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", args)
    cli = LightningCLI(
        PPOAgent,
        EnvDataModule,
        trainer_class=AgentTrainer,
        save_config_callback=None,
        seed_everything_default=0,
    )
    assert cli.model.env_steps >= 300
    assert cli.model.config.rollout_steps == 128
    assert "val_episode_return" in cli.trainer.callback_metrics


def test_its_environments_are_by_default_one_and_the_same() -> None:
    assert EnvDataModule("Acrobot-v1").val_dataloader() == "Acrobot-v1"
    module = EnvDataModule("CartPole-v1", "CartPole-v0")
    assert module.train_dataloader() == "CartPole-v1"
    assert module.val_dataloader() == module.test_dataloader() == "CartPole-v0"


def test_an_environment_by_name_is_not_made_from_a_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="name it yourself"):
        EnvDataModule.load_from_checkpoint(tmp_path / "a.ckpt")
