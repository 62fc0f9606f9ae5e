"""What a run prints: what asks for an action, and one line on the agent."""

from __future__ import annotations

import logging
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint, ModelSummary

from lightning_rl import AgentTrainer, PPOAgent
from lightning_rl.notices import OneLineSummary, quiet_lightning
from tests.small_runs import SMALL

SCRIPT = """
from lightning_rl import AgentTrainer, PPOAgent
trainer = AgentTrainer(max_env_steps=2_000, seed=0)
agent = PPOAgent()
trainer.fit(agent, "CartPole-v1")
trainer.fit(agent, "CartPole-v1")
"""


def test_warnings_are_heard_but_no_notices(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("lightning.pytorch.somewhere")
    before = logging.getLogger("lightning.pytorch").level
    with quiet_lightning():
        logger.info("GPU available")
        logger.warning("this matters")
    assert caplog.messages == ["this matters"]
    assert logging.getLogger("lightning.pytorch").level == before


def test_what_is_no_agents_is_left_as_lightning_has_it(caplog: pytest.LogCaptureFixture) -> None:
    with quiet_lightning(False):
        logging.getLogger("lightning.pytorch.somewhere").info("GPU available")
    assert caplog.messages == ["GPU available"]


def test_what_early_stopping_was_asked_to_say_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    with quiet_lightning():
        logging.getLogger("lightning.pytorch.callbacks.early_stopping").info("it improved")
    assert caplog.messages == ["it improved"]


@pytest.mark.parametrize(
    "message",
    [
        "Starting from v1.9.0, `tensorboardX` has been removed as a dependency",
        "`isinstance(treespec, LeafSpec)` is deprecated, use something else",
        "`ModelCheckpoint(monitor='episode_return')` could not find the monitored key",
    ],
)
def test_warnings_that_nobody_can_act_on_are_not_heard(message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with quiet_lightning():
            warnings.warn(message, stacklevel=1)


@pytest.mark.parametrize("repeated", [False, True])
def test_only_a_second_run_may_find_the_files_of_the_first(repeated: bool) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with quiet_lightning(repeated=repeated):
            warnings.warn("Checkpoint directory x exists and is not empty.", stacklevel=1)
            warnings.warn("this matters", stacklevel=1)
    assert [str(w.message) for w in heard][-1] == "this matters"
    assert len(heard) == (1 if repeated else 2)


def test_a_script_prints_a_bar_and_one_line_a_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stdout.replace("\r", "\n").splitlines() if line.strip()]
    bars = [line for line in lines if line.startswith("Training")]
    others = [line for line in lines if line not in bars]
    assert bars[0].startswith("Training: ")
    assert bars[-1].startswith("Training on from 2,00")  # the second run goes on
    assert others == ["PPOAgent: 9,155 parameters"] * 2
    assert done.stderr == ""


def fit(tmp_path: Path, *callbacks: ModelSummary, **options: bool) -> PPOAgent:
    agent = PPOAgent(config=SMALL)
    checkpoint = ModelCheckpoint(tmp_path)
    trainer = AgentTrainer(
        max_steps=1, num_envs=1, seed=0, callbacks=[*callbacks, checkpoint], logger=False,
        enable_progress_bar=False, **options,
    )  # fmt: skip
    trainer.fit(agent, "CartPole-v1")
    return agent


def test_the_summary_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path)
    assert capsys.readouterr().out == "PPOAgent: 9,155 parameters\n"


def test_the_summary_can_be_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, enable_model_summary=False)
    assert capsys.readouterr().out == ""


def test_a_summary_of_the_users_own_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = fit(tmp_path, ModelSummary(max_depth=2))
    kinds = [type(callback) for callback in agent.trainer.callbacks]
    assert ModelSummary in kinds
    assert OneLineSummary not in kinds
    assert "PPOAgent:" not in capsys.readouterr().out


def test_the_summary_counts_what_is_not_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = fit(tmp_path, enable_model_summary=False)
    agent.network.requires_grad_(False)
    OneLineSummary().on_fit_start(agent.trainer, agent)
    assert capsys.readouterr().out == "PPOAgent: 9,155 parameters, 9,155 of them not trained\n"
