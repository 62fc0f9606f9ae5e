"""Lightning's own callbacks work with an agent, or say in a sentence what to do instead."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    Callback,
    DeviceStatsMonitor,
    EarlyStopping,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    OnExceptionCheckpoint,
    RichProgressBar,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.tuner import Tuner

from lightning_rl import AgentTrainer, PPOAgent, ReinforceAgent
from lightning_rl.errors import ConfigError
from tests.small_runs import SMALL, make_trainer

LONG_EPISODES = "MountainCarContinuous-v0"  # 999 env steps an episode


def fit_long(*callbacks: Callback, tmp_path: Path, **options: Any) -> AgentTrainer:
    trainer = AgentTrainer(
        max_env_steps=1_400, num_envs=1, seed=0, callbacks=list(callbacks), logger=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        evaluate_every_env_steps=options.pop("every", None), limit_train_batches=2, **options,
    )  # fmt: skip
    trainer.fit(PPOAgent(config=SMALL), LONG_EPISODES)
    return trainer


@pytest.mark.parametrize("monitor", ["episode_return", "episode_length"])
def test_early_stopping_waits_for_the_first_episodes_end(monitor: str, tmp_path: Path) -> None:
    stopping = EarlyStopping(monitor, mode="max", patience=1)
    trainer = fit_long(stopping, tmp_path=tmp_path, enable_checkpointing=False)
    assert trainer.lightning_module.env_steps >= 999  # 3 epochs passed without an episode's end
    assert math.isfinite(stopping.best_score)
    assert stopping.strict  # put back


def test_model_checkpoint_waits_for_the_first_episodes_end(tmp_path: Path) -> None:
    checkpoint = ModelCheckpoint(tmp_path, "{episode_return:.0f}", "episode_return", mode="max")
    fit_long(checkpoint, tmp_path=tmp_path)
    assert math.isfinite(checkpoint.best_model_score)
    (file,) = tmp_path.glob("*.ckpt")
    assert str(file) == checkpoint.best_model_path


@pytest.mark.parametrize("kind", [EarlyStopping, ModelCheckpoint])
def test_a_metric_of_evaluations_needs_evaluations(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="evaluate_every_env_steps"):
        fit_long(kind(monitor="val_episode_return", mode="max"), tmp_path=tmp_path)


def test_a_metric_that_nobody_logs_is_lightnings_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="which is not available"):
        fit_long(EarlyStopping("typo"), tmp_path=tmp_path, enable_checkpointing=False)


@pytest.mark.parametrize(
    ("callback", "word"),
    [
        (LearningRateFinder(), "learning_rate in the agent's config"),
        (BatchSizeFinder(), "batch_size in the agent's config"),
        (StochasticWeightAveraging(1e-3), "max_epochs"),
    ],
)
def test_what_cannot_work_says_what_to_do(callback: Callback, word: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=word):
        fit_long(callback, tmp_path=tmp_path, enable_checkpointing=False)


def test_the_tuner_says_where_the_learning_rate_is_set() -> None:
    with pytest.raises(ConfigError, match="learning_rate in the agent's config"):
        Tuner(make_trainer()).lr_find(PPOAgent(config=SMALL), "CartPole-v1")


@pytest.mark.parametrize("kind", [StochasticWeightAveraging, WeightAveraging])
def test_averaging_of_weights_works_where_epochs_are_counted(kind: Any, tmp_path: Path) -> None:
    options = {"swa_lrs": 1e-3} if kind is StochasticWeightAveraging else {}
    trainer = AgentTrainer(
        max_epochs=2, num_envs=1, seed=0, callbacks=[kind(**options)], logger=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        limit_train_batches=2, enable_checkpointing=False,
    )  # fmt: skip
    agent = ReinforceAgent()
    trainer.fit(agent, "CartPole-v1")
    assert agent.env_steps > 0


@pytest.mark.parametrize("kind", [DeviceStatsMonitor, LearningRateMonitor, RichProgressBar])
def test_what_counts_something_else_than_env_steps_says_so(kind: Any, tmp_path: Path) -> None:
    pytest.importorskip("rich", reason="Lightning's RichProgressBar needs rich")
    trainer = AgentTrainer(
        max_steps=1, num_envs=1, seed=0, callbacks=[kind()], default_root_dir=tmp_path
    )
    with pytest.warns(UserWarning, match=f"{kind.__name__} counts (iterations|epochs)"):
        trainer.fit(PPOAgent(config=SMALL), "CartPole-v1")


def test_nothing_is_saved_amid_an_iteration(tmp_path: Path) -> None:
    class Fails(PPOAgent):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.trainer.global_step == 2:
                raise ValueError("on purpose")
            return super().training_step(batch, batch_idx)

    saves = ModelCheckpoint(tmp_path, save_on_exception=True)
    trainer = AgentTrainer(max_env_steps=1024, num_envs=1, quiet=True, callbacks=[saves])
    with (
        pytest.raises(ValueError, match="on purpose"),
        pytest.warns(UserWarning, match="save_on_exception saves nothing"),
    ):
        trainer.fit(Fails(config=SMALL), "CartPole-v1")
    assert not list(tmp_path.glob("*.ckpt"))
    assert saves.save_on_exception  # put back
    with pytest.raises(ConfigError, match="every_n_train_steps"):
        fit_long(OnExceptionCheckpoint(tmp_path), tmp_path=tmp_path)
