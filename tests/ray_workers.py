"""Trainings in two workers of Ray Train, one after the other: run as a script by test_ray_train.

Starting Ray takes longer than all of the trainings, so there is one start for all.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import ray
import ray.train
from lightning.pytorch.callbacks import Callback
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.lightning import (
    RayDDPStrategy,
    RayLightningEnvironment,
    RayTrainReportCallback,
    prepare_trainer,
)
from ray.train.torch import TorchTrainer

from lightning_rl import AgentTrainer, PPOAgent, PPOConfig
from lightning_rl.experiments.ray_train import RayReport, last_checkpoint
from tests.two_ranks import fingerprint

CONFIG = PPOConfig(
    rollout_steps=256, batch_size=64, update_epochs=2, normalize_observations=True
)  # of each worker
MAX_ENV_STEPS, ENV_STEPS_OF_AN_EPOCH = 4096, 1024  # of both


class Killed(Callback):
    """Kills the second worker once, amid the second epoch."""

    def __init__(self, sign: Path) -> None:
        self.sign = sign

    def on_train_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        if trainer.global_rank == 1 and trainer.global_step == 3 and not self.sign.exists():
            ray.train.get_all_reported_checkpoints()  # waits until Ray has the first epoch's
            self.sign.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)


def train(config: dict[str, Any]) -> None:
    """Train, as each worker does; write down what it has come to."""
    folder = Path(config["folder"])
    report = RayTrainReportCallback() if config["rays_own"] else RayReport()
    callbacks: list[Callback] = [report]
    if config["kill"]:
        callbacks.append(Killed(folder / "killed"))
    agent = PPOAgent(config=CONFIG)
    trainer = prepare_trainer(
        AgentTrainer(
            max_env_steps=MAX_ENV_STEPS, num_envs=4, seed=0, evaluation_episodes=4,
            evaluate_every_env_steps=ENV_STEPS_OF_AN_EPOCH // 2,  # of each worker
            accelerator="cpu", devices="auto", strategy=RayDDPStrategy(),
            plugins=[RayLightningEnvironment()], callbacks=callbacks, quiet=True,
        )
    )  # fmt: skip
    with last_checkpoint() as path:
        trainer.fit(agent, "CartPole-v1", ckpt_path=path)
    found = {
        "weights": fingerprint(agent),
        "first": agent.runner.observations.tolist(),
        "env_steps": agent.env_steps,
        "returns": agent.episodes["episode_return"].tolist(),
        "resumed": path is not None,
        "writer": type(trainer.strategy.checkpoint_io).__name__,
    }
    (folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(found))


def run(folder: Path, kill: bool = False, rays_own: bool = False) -> None:
    """Let Ray train in two workers; write down what was reported."""
    folder.mkdir()
    trainer = TorchTrainer(
        train,
        train_loop_config={"folder": str(folder), "kill": kill, "rays_own": rays_own},
        scaling_config=ScalingConfig(num_workers=2),
        run_config=RunConfig(
            name="run", storage_path=str(folder), failure_config=FailureConfig(max_failures=1)
        ),
    )
    result = trainer.fit()
    reported = result.metrics_dataframe.to_dict("records")
    (folder / "reported.json").write_text(json.dumps(reported))
    (folder / "checkpoint").write_text(result.checkpoint.path)


if __name__ == "__main__":
    folder, short = Path(sys.argv[1]), sys.argv[2]  # sockets have short names
    ray.init(num_cpus=2, include_dashboard=False, _temp_dir=short, object_store_memory=100_000_000)
    run(folder / "whole")
    run(folder / "killed", kill=True)
    run(folder / "rays own", rays_own=True)
