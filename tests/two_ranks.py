"""Trainings in two processes (DDP, on the CPU), one after the other: run as a script by test_ddp.

Starting the processes takes longer than all of the trainings, so there is one start for all.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from torch.utils.data import DataLoader

from lightning_rl import (
    AgentTrainer,
    DQNAgent,
    DQNConfig,
    PPOAgent,
    PPOConfig,
    SACAgent,
    SACConfig,
    TrajectoryDataset,
    WorldModel,
    evaluate,
)
from lightning_rl.errors import ConfigError, RunError
from lightning_rl.worlds import WorldModelConfig

NUM_ENVS, MAX_ENV_STEPS, EPISODES = 4, 1000, 5
NODES = int(os.environ.get("NODES", "1"))
OPTIONS: dict[str, Any] = {
    "accelerator": "cpu", "strategy": "ddp", "devices": 2 // NODES, "num_nodes": NODES,
    "logger": False,
    "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False,
}  # fmt: skip
SMALL_REPLAY = {
    "rollout_steps": 64, "gradient_steps": 8, "batch_size": 32, "learning_starts": 100,
}  # fmt: skip
DQN = DQNConfig(**SMALL_REPLAY, priority_exponent=0.6, n_steps=3)


class CountingPPO(PPOAgent):
    """Counts its updates."""

    updates = 0

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, torch.Tensor]:
        self.updates += 1
        return super().training_step(batch, batch_idx)


class Watch(Callback):
    """Takes the fingerprint of all weights after each iteration."""

    def __init__(self) -> None:
        self.weights: list[str] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.weights.append(fingerprint(pl_module))


def fingerprint(module: Any) -> str:
    arrays = [value.detach().numpy().tobytes() for value in module.parameters()]
    arrays += [value.detach().numpy().tobytes() for value in module.buffers()]
    return digest(np.frombuffer(b"".join(arrays), np.uint8))


def digest(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def make_trainer(**options: Any) -> tuple[AgentTrainer, Watch]:
    watch = Watch()
    budget = {"max_env_steps": MAX_ENV_STEPS, "num_envs": NUM_ENVS, "seed": 0}
    return AgentTrainer(**{**budget, **OPTIONS, "callbacks": [watch], **options}), watch


def make_ppo(**config: Any) -> CountingPPO:
    small = {"rollout_steps": 128, "batch_size": 64, "update_epochs": 2}
    return CountingPPO(config=PPOConfig(**{**small, **config}))


def report(agent: Any, trainer: Any, watch: Watch) -> dict[str, Any]:
    """Say what a training has come to; `own` is what may differ between the processes."""
    moments = getattr(agent.observation_normalizer, "moments", None)
    scaler = getattr(agent, "reward_scaler", None)
    statistics = [m.state_dict() for m in (moments, scaler and scaler.moments) if m]
    seen = agent.replay_buffer.rewards if agent.replay_buffer.rewards.std() else None
    return {
        "weights": watch.weights,
        "finite": all(bool(torch.isfinite(p).all()) for p in agent.parameters()),
        "env_steps": agent.env_steps,
        "iterations": trainer.global_step,
        "updates": getattr(agent, "updates", None) or agent.num_updates,
        "returns": agent.episodes["episode_return"].tolist(),
        "last_step": max(agent.episodes["env_step"].tolist(), default=0),
        "shown": {name: float(value) for name, value in trainer.callback_metrics.items()},
        "counts": [state["count"] for state in statistics],
        "moments": str(statistics),
        "own": {
            "observations": digest(agent.replay_buffer.observations),
            "rewards": None if seen is None else digest(seen),
            "first": agent.runner.observations.tolist(),
            "generator": digest(agent.generator.get_state()),
        },
    }


def ppo(folder: Path, trainer_options: dict[str, Any], **config: Any) -> dict[str, Any]:
    agent, (trainer, watch) = make_ppo(**config), make_trainer(**trainer_options)
    trainer.fit(agent, "CartPole-v1")
    return report(agent, trainer, watch)


def resumed(make: Callable[[], Any], env: str, folder: Path, **options: Any) -> dict[str, Any]:
    """Train without a stop; then again, stopping after two iterations and going on."""
    agent, (trainer, watch) = make(), make_trainer(**options)
    trainer.fit(agent, env)
    found = {"whole": report(agent, trainer, watch)}
    half, (trainer, _) = make(), make_trainer(**options, max_steps=2)
    trainer.fit(half, env)
    trainer.save_checkpoint(folder / "half.ckpt")
    agent, (trainer, watch) = make(), make_trainer(**options)
    trainer.fit(agent, env, ckpt_path=folder / "half.ckpt")
    return found | {"resumed": report(agent, trainer, watch)}


def make_cartpole() -> gym.Env:
    return gym.make("CartPole-v1")


def evaluated(folder: Path) -> dict[str, Any]:
    """Evaluate: in the midst of training, and by `validate` and `predict` afterwards."""
    options = {"evaluate_every_env_steps": 256, "evaluation_episodes": EPISODES}
    agent, (trainer, _) = make_ppo(), make_trainer(**options, max_env_steps=600)
    trainer.fit(agent, "CartPole-v1")
    shown = {name: float(value) for name, value in trainer.callback_metrics.items()}
    (validated,) = trainer.validate(agent, "CartPole-v1", verbose=False)
    (predicted,) = trainer.predict(agent, make_cartpole)
    alone = evaluate(agent, make_cartpole, EPISODES, seed=1_000_000)
    return {
        "shown": shown,
        "validated": validated,
        "predicted": predicted["episode_return"].tolist(),
        "alone": alone.returns.tolist(),
        "own": {"num_envs": [env.num_envs for env in PLAYED]},
    }


PLAYED: list[Any] = []  # environments that this process evaluates in


def note_evaluations() -> None:
    """Note each environment that is made to evaluate in."""
    from lightning_rl import evaluation

    make = evaluation.make_separate_env

    def noted(source: Any, max_envs: int) -> Any:
        PLAYED.append(make(source, max_envs))
        return PLAYED[-1]

    evaluation.make_separate_env = noted


def world_model(folder: Path) -> dict[str, Any]:
    """Train a world model on stored steps; then again, stopping after an epoch and going on."""

    def fit(max_epochs: int, ckpt_path: Path | None = None) -> tuple[Any, Any, Any, list[Any]]:
        torch.manual_seed(0)  # of the first weights
        model, seen, watch = WorldModel(config), [], Watch()
        model.on_train_batch_start = lambda batch, _: seen.append(digest(batch["observations"]))
        trainer = lightning.Trainer(**OPTIONS, callbacks=[watch], max_epochs=max_epochs)
        trainer.fit(model, *loaders, ckpt_path=ckpt_path)
        shown = {name: float(value) for name, value in trainer.callback_metrics.items()}
        return trainer, watch.weights, shown, seen

    config = WorldModelConfig(anneal_learning_rate=False)  # which depends on the run's length
    parts = TrajectoryDataset(folder / "steps").split(0.8)
    loaders = [DataLoader(part, 64, shuffle=i == 0) for i, part in enumerate(parts)]
    _, weights, shown, seen = fit(2)
    half, *_ = fit(1)
    half.save_checkpoint(folder / "half.ckpt")
    resumed = fit(2, folder / "half.ckpt")
    return {
        "whole": {"weights": weights, "shown": shown, "own": {"seen": seen}},
        "resumed": {"weights": resumed[1], "shown": resumed[2], "own": {"seen": resumed[3]}},
    }


def differing(folder: Path) -> dict[str, Any]:
    """Give each process another environment: an error, in both."""
    agent, (trainer, _) = make_ppo(), make_trainer()
    rank = trainer.global_rank
    try:
        trainer.fit(agent, ["CartPole-v1", "Acrobot-v1"][rank])
    except ConfigError as error:
        return {"error": str(error)}
    return {"error": None}


def stopped(folder: Path) -> dict[str, Any]:
    """Let a callback stop rank 1 alone."""
    agent, (trainer, watch) = make_ppo(), make_trainer()

    def stop(*_: Any) -> None:
        trainer.should_stop |= trainer.global_rank == 1 and trainer.global_step == 2

    watch.on_train_batch_end = stop  # type: ignore[method-assign]
    trainer.fit(agent, "CartPole-v1")
    return {"iterations": trainer.global_step, "env_steps": agent.env_steps}


def killed(folder: Path) -> None:
    """Train until rank 1 is killed; the other says how long it took to end."""
    agent, (trainer, watch) = make_ppo(), make_trainer()
    (folder / f"pid{trainer.global_rank}").write_text(str(os.getpid()))

    def kill(*_: Any) -> None:
        if trainer.global_rank == 1 and trainer.global_step == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    watch.on_train_batch_start = kill  # type: ignore[method-assign]
    try:
        trainer.fit(agent, "CartPole-v1")
    except RunError as error:
        (folder / "error").write_text(str(error))
        raise


NORMALISED = {"normalize_observations": True, "normalize_rewards": True}
CASES: dict[str, Callable[[Path], Any]] = {
    "PPO": lambda folder: resumed(
        lambda: make_ppo(**NORMALISED), "CartPole-v1", folder, gradient_clip_val=0.1
    ),
    "DQN": lambda folder: resumed(lambda: DQNAgent(config=DQN), "CartPole-v1", folder),
    "SAC": lambda folder: resumed(
        lambda: SACAgent(config=SACConfig(**SMALL_REPLAY, n_steps=2)), "Pendulum-v1", folder
    ),
    "world model": world_model,
    "no seed": lambda folder: ppo(folder, {"seed": None}),
    "target_kl": lambda folder: ppo(folder, {}, target_kl=1e-4, update_epochs=10),
    "whole rollout": lambda folder: ppo(
        folder, {}, normalize_advantages=False, normalize_whole_rollout=True
    ),
    "small minibatches": lambda folder: ppo(folder, {}, batch_size=2, update_epochs=1),
    "evaluated": evaluated,
    "stopped": stopped,
    "differing": differing,
}

if __name__ == "__main__":
    warnings.simplefilter("error")
    for harmless in (".isinstance.treespec", ".*many workers", "Grad strides do not match"):
        warnings.filterwarnings("ignore", harmless)  # the last: of weights with one column
    folder = Path(sys.argv[1])
    note_evaluations()
    if sys.argv[2:] == ["killed"]:
        killed(folder)
    found = {}
    if sys.argv[2:] == ["torchrun"]:
        CASES = {"PPO": lambda folder: ppo(folder, {"gradient_clip_val": 0.1}, **NORMALISED)}
    for name, case in CASES.items():
        (folder / name).mkdir(exist_ok=True)
        found[name] = case(folder / name)
    rank = torch.distributed.get_rank()
    (folder / f"rank{rank}.json").write_text(json.dumps(found))
