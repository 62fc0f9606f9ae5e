"""What a run was made of is logged with it, by every logger."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

from lightning_rl import AgentTrainer, PPOAgent, PPOConfig
from lightning_rl.callbacks.run_facts import env_name, git_revision, run_facts

QUIET: dict[str, Any] = {
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "enable_checkpointing": False,
}


def fit(logger: Any, env: Any = "CartPole-v1") -> None:
    agent = PPOAgent(config=PPOConfig(rollout_steps=64, batch_size=32, update_epochs=1))
    trainer = AgentTrainer(max_env_steps=64, num_envs=4, seed=7, logger=logger, **QUIET)
    trainer.fit(agent, env)


def test_csv_files_say_settings_seed_environment_versions_and_revision(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    fit(logger)
    saved = yaml.safe_load((Path(logger.log_dir) / "hparams.yaml").read_text())
    assert saved["config"]["rollout_steps"] == 64
    run = saved["run"]
    told = {name: run[name] for name in ("agent", "env", "num_envs", "seed", "max_env_steps")}
    assert told == {
        "agent": "PPOAgent", "env": "CartPole-v1", "num_envs": 4, "seed": 7, "max_env_steps": 64,
    }  # fmt: skip
    assert run["versions"]["torch"] == torch.__version__
    assert run["git_revision"] == git_revision()


class Secretive(PPOAgent):
    def __init__(self, given: str) -> None:
        super().__init__(config=PPOConfig(rollout_steps=64, batch_size=32, update_epochs=1))
        self.save_hyperparameters("given", logger=False)


def test_what_shall_not_be_logged_is_not(tmp_path: Path) -> None:
    agent, logger = Secretive("key"), CSVLogger(tmp_path)
    AgentTrainer(max_env_steps=64, num_envs=4, logger=logger, **QUIET).fit(agent, "CartPole-v1")
    assert agent.hparams["given"] == "key"
    saved = yaml.safe_load((Path(logger.log_dir) / "hparams.yaml").read_text())
    assert set(saved) == {"run"}


def test_tensorboard_shows_them(tmp_path: Path) -> None:
    logger = TensorBoardLogger(str(tmp_path))
    fit(logger)
    logger.finalize("success")
    events = EventAccumulator(logger.log_dir).Reload()
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    shown = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info.hparams
    assert shown["run/env"].string_value == "CartPole-v1"
    assert shown["run/seed"].number_value == 7
    assert shown["config/rollout_steps"].number_value == 64


def test_the_revision_is_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert git_revision() is None
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for words in (["init", "-q"], [*who, "commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", *words], check=True)  # noqa: S607
    revision = git_revision()
    assert revision is not None
    assert len(revision) == 40
    assert run_facts()["git_revision"] == revision
    monkeypatch.setenv("PATH", "")
    assert git_revision() is None


def test_an_environment_without_an_id_is_named_by_its_class() -> None:
    class Corridor(gym.Env):
        pass

    assert env_name("CartPole-v1") == "CartPole-v1"
    assert env_name(gym.make("CartPole-v1")) == "CartPole-v1"
    assert env_name(gym.make_vec("CartPole-v1", 2)) == "CartPole-v1"
    assert env_name(Corridor()) == env_name(Corridor) == "Corridor"


@pytest.mark.parametrize(
    "failure", [subprocess.TimeoutExpired("git", 2.0), PermissionError("git may not be run")]
)
def test_a_git_that_does_not_answer_holds_no_run_up(
    failure: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise failure

    monkeypatch.setattr(subprocess, "run", fails)
    assert git_revision() is None
