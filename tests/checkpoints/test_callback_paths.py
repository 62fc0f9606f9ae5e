"""No path in a checkpoint makes a run touch anything outside of the checkpoint's own folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_rl import AgentTrainer, PPOAgent
from lightning_rl.checkpoints.safe_file import SafeCheckpointIO
from tests.small_runs import SMALL


def fit(folder: Path, steps: int, ckpt_path: Path | None = None) -> AgentTrainer:
    trainer = AgentTrainer(
        max_env_steps=steps, num_envs=1, seed=0, default_root_dir=folder, logger=False,
        enable_progress_bar=False, enable_model_summary=False, live=False, limit_train_batches=1,
    )  # fmt: skip
    trainer.fit(PPOAgent(config=SMALL), "CartPole-v1", ckpt_path=ckpt_path)
    return trainer


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    trainer = fit(tmp_path / "theirs", 200)
    return Path(trainer.checkpoint_callback.best_model_path)  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize("spelling", ["local://{}", "{}", "checkpoints/../../victim", "file://{}"])
def test_a_handed_in_checkpoint_deletes_nothing(tmp_path: Path, saved: Path, spelling: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "thesis.txt").write_text("years of work")
    content = torch.load(saved, weights_only=True)
    for state in content["callbacks"].values():
        state["best_model_path"] = state["last_model_path"] = spelling.format(victim)
        state["best_k_models"] = {spelling.format(victim): torch.tensor(0.0)}
        state["dirpath"] = str(victim)
    torch.save(content, saved)
    for folder in (tmp_path / "mine", tmp_path / "theirs"):
        fit(folder, 600, saved)
    assert (victim / "thesis.txt").read_text() == "years of work"


def test_a_resumed_run_goes_on_replacing_its_own_files(saved: Path) -> None:
    folder = saved.parent
    trainer = fit(folder.parent, 600, saved)
    best = Path(trainer.checkpoint_callback.best_model_path)  # type: ignore[union-attr]
    assert best.parent == folder
    assert saved.exists()  # what a run was resumed from, Lightning keeps
    assert {file.name for file in folder.glob("*.ckpt")} == {best.name, saved.name}


def test_a_file_does_not_tell_where_it_was_saved(tmp_path: Path, saved: Path) -> None:
    assert str(tmp_path).encode() not in saved.read_bytes()


def test_a_moved_run_finds_its_files(tmp_path: Path, saved: Path) -> None:
    moved = tmp_path / "moved"
    saved.parent.rename(moved)
    content = SafeCheckpointIO().load_checkpoint(moved / saved.name)
    (state,) = [s for s in content["callbacks"].values() if "best_model_path" in s]
    assert state["best_model_path"] == str(moved / saved.name)
    assert state["dirpath"] == str(moved)


def test_a_monitored_callback_keeps_its_best_across_a_resume(tmp_path: Path) -> None:
    def run(steps: int, ckpt_path: Any = None) -> ModelCheckpoint:
        best = ModelCheckpoint(tmp_path, "{step}", "episode_return", mode="max", save_top_k=2)
        trainer = AgentTrainer(
            max_env_steps=steps, num_envs=1, seed=0, logger=False, callbacks=[best], live=False,
            enable_progress_bar=False, enable_model_summary=False, limit_train_batches=1,
        )  # fmt: skip
        trainer.fit(PPOAgent(config=SMALL), "CartPole-v1", ckpt_path=ckpt_path)
        return best

    first = run(600)
    second = run(1000, first.best_model_path)
    assert second.best_model_score >= first.best_model_score
    assert (tmp_path / Path(first.best_model_path).name).exists()


def test_a_callbacks_state_that_is_no_dict_comes_back_as_it_was(tmp_path: Path) -> None:
    state = {"Count": 3, "Seen": ["/home/me/a.ckpt"], "Nothing": None}
    SafeCheckpointIO().save_checkpoint({"callbacks": state}, tmp_path / "a.ckpt")
    assert SafeCheckpointIO().load_checkpoint(tmp_path / "a.ckpt")["callbacks"] == state
