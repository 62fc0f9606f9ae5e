"""`ckpt_path="last"` goes on from the newest file that is whole, and says what it did."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_rl import AgentTrainer, PPOAgent
from lightning_rl.checkpoints.latest import latest_checkpoint
from lightning_rl.errors import CheckpointError
from tests.small_runs import SMALL


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Three checkpoints, the oldest first."""
    paths = [tmp_path / f"{name}.ckpt" for name in "abc"]
    for age, path in enumerate(paths):
        torch.save({"age": age}, path)
        os.utime(path, (age, age))
    return paths


def test_the_newest_is_taken(files: list[Path]) -> None:
    assert latest_checkpoint(files) == files[2]


def test_a_damaged_one_is_passed_over_with_a_warning_that_names_both(files: list[Path]) -> None:
    files[2].write_bytes(files[2].read_bytes()[:-1])
    os.utime(files[2], (9, 9))
    with pytest.warns(UserWarning, match=r"c\.ckpt' can't be loaded.*goes on from .*b\.ckpt"):
        assert latest_checkpoint(files) == files[1]


def test_where_all_are_damaged_nothing_is_trained(files: list[Path]) -> None:
    for file in files:
        file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="no checkpoint is undamaged"):
        latest_checkpoint(files)


def test_where_there_are_none_there_is_none() -> None:
    assert latest_checkpoint([]) is None


def fit(root: Path, ckpt_path: str | None = None, folder: Path | None = None) -> AgentTrainer:
    callbacks = [] if folder is None else [ModelCheckpoint(folder)]
    trainer = AgentTrainer(
        max_env_steps=300, num_envs=1, seed=0, default_root_dir=root, callbacks=callbacks,
        enable_progress_bar=False, enable_model_summary=False, live=False, logger=False,
    )  # fmt: skip
    trainer.fit(PPOAgent(config=SMALL), "CartPole-v1", ckpt_path=ckpt_path)
    return trainer


@pytest.mark.parametrize("named", [False, True])
def test_a_new_trainer_goes_on_from_the_last_run(tmp_path: Path, named: bool) -> None:
    folder = tmp_path / "own" if named else None
    first = fit(tmp_path, folder=folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second = fit(tmp_path, "last", folder)
    assert str(second.ckpt_path) == first.checkpoint_callback.best_model_path  # type: ignore[union-attr]


def test_a_first_run_says_that_it_starts_from_the_beginning(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="starts from the beginning"):
        assert fit(tmp_path, "last").lightning_module.env_steps >= 300
