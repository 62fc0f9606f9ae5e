"""The bar of a run counts its env steps; another module has Lightning's bar, as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.demos.boring_classes import BoringModel
from small_runs import SMALL

from lightning_rl import AgentTrainer, EnvStepProgressBar, PPOAgent

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),  # Lightning's
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


class Looks(Callback):
    """Notes what the bar shows whenever an epoch ends."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, Any, str, str]] = []

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        bar = trainer.progress_bar_callback.train_progress_bar
        self.seen.append((bar.n, bar.total, bar.unit, bar.desc))


def trainer(folder: Path, *callbacks: Any, **options: Any) -> AgentTrainer:
    given = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    return AgentTrainer(
        callbacks=[*callbacks], default_root_dir=folder, num_envs=1, **given | options
    )


def test_an_agents_bar_counts_the_env_steps_of_the_whole_run(tmp_path: Path) -> None:
    """Through two epochs, and on from where an earlier run ended."""
    agent, drawn = PPOAgent(config=SMALL), []
    for description in ("Training", "Training on from 5"):  # 512, or a few more
        looks, bar = Looks(), EnvStepProgressBar()
        options = {"max_env_steps": 512, "evaluate_every_env_steps": 256, "evaluation_episodes": 1}
        trainer(tmp_path, bar, looks, **options).fit(agent, "CartPole-v1")
        assert {(total, unit) for _, total, unit, _ in looks.seen} == {(512, " env steps")}
        assert len(looks.seen) >= 2
        assert all(desc.startswith(description) for *_, desc in looks.seen)
        drawn.append(bar.train_progress_bar)
    assert all(512 <= bar.n == bar.total < 640 for bar in drawn)
    assert "mean return" in drawn[0].postfix


def test_another_modules_bar_counts_batches(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = Looks()
    options = {"max_epochs": 2, "limit_train_batches": 3, "limit_val_batches": 1}
    trainer(tmp_path, EnvStepProgressBar(), looks, **options).fit(BoringModel())
    assert [(n, total) for n, total, *_ in looks.seen] == [(3, 3)] * 2
    assert "Epoch 1" in "".join(capsys.readouterr())


def test_a_bar_can_be_switched_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    off = EnvStepProgressBar(refresh_rate=0)
    trainer(tmp_path, off, max_env_steps=128).fit(PPOAgent(config=SMALL), "CartPole-v1")
    assert "env steps" not in "".join(capsys.readouterr())


def test_in_a_notebook_the_trainings_of_a_cell_share_the_bar_in_its_panel(
    notebook: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []
    for budget in (256, 384):
        bar = EnvStepProgressBar()
        run = trainer(tmp_path, bar, max_env_steps=budget, live=False)
        run.fit(PPOAgent(config=SMALL), "CartPole-v1")
        shown.append(bar.train_progress_bar.container)
        text, filled, numbers = shown[-1].children
        assert text.value.startswith("Training:")
        assert filled.value == filled.max >= budget
        assert f"{filled.max:.0f}/{filled.max:.0f}" in numbers.value
    assert shown[0] is shown[1]
    assert len(notebook) == 1
    assert "env steps" not in "".join(capsys.readouterr())
