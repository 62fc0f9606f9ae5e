"""Two runs never save into one folder at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger

from lightning_rl import AgentTrainer, PPOAgent
from lightning_rl.checkpoints.safe_file import SafeCheckpointIO
from lightning_rl.errors import CheckpointError, LockedError
from lightning_rl.locks import lock_folder
from tests.small_runs import SMALL, AtIteration

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty")


def fit(root: Path, *callbacks: Any, logger: bool = False) -> AgentTrainer:
    trainer = AgentTrainer(
        max_steps=2, num_envs=1, seed=0, default_root_dir=root, callbacks=list(callbacks),
        enable_progress_bar=False, enable_model_summary=False, live=False, logger=logger,
    )  # fmt: skip
    trainer.fit(PPOAgent(config=SMALL), "CartPole-v1")
    return trainer


def test_a_second_run_in_a_runs_folder_is_refused_before_it_trains(tmp_path: Path) -> None:
    begun = AtIteration()

    def start_another(agent: Any) -> None:
        with pytest.raises(LockedError, match="save checkpoints there"):
            fit(tmp_path, begun)

    fit(tmp_path, AtIteration(1, start_another))
    assert begun.begun == 0


def test_a_run_that_begins_while_another_does_logs_into_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    others: list[AgentTrainer] = []
    begin = TensorBoardLogger.experiment.fget
    assert begin is not None

    def begin_another_first(logger: Any) -> Any:  # Lightning is about to make the first's folder
        if not others:
            others.append(AgentTrainer(live=False))  # any, so that it is done once
            others[0] = fit(tmp_path, logger=True)
        return begin(logger)

    monkeypatch.setattr(TensorBoardLogger, "experiment", property(begin_another_first))
    first = fit(tmp_path, logger=True)
    assert Path(str(first.log_dir)).name == "version_0"
    assert Path(str(others[0].log_dir)).name == "version_1"


def test_the_folder_is_free_after_a_run_and_after_one_that_failed(tmp_path: Path) -> None:
    def fail(agent: Any) -> None:
        raise ZeroDivisionError

    trainer = fit(tmp_path)
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, AtIteration(1, fail))
    lock_folder(tmp_path / "checkpoints").release()
    assert "OneWriter" not in [type(c).__name__ for c in trainer.callbacks]


def test_a_run_that_saves_on_another_file_system_locks_no_folder_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    saves = ModelCheckpoint("memory://runs/of/one", save_last=True)
    fit(tmp_path, saves)
    loaded = SafeCheckpointIO().load_checkpoint("memory://runs/of/one/last.ckpt")
    assert loaded["global_step"] == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_found_before_training(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("a file in the folder's place")
    begun = AtIteration()
    with pytest.raises(CheckpointError, match=r"no checkpoint can be saved in .*default_root_dir"):
        fit(tmp_path, begun)
    assert begun.begun == 0
