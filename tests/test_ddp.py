"""Promises about training in two processes (DDP, on the CPU): this file, run as a script."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
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
    make_random_trajectory,
)

pytestmark = pytest.mark.slow

NUM_ENVS, MAX_ENV_STEPS = 4, 1000
TIMEOUT = 240  # seconds after which a run counts as deadlocked

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "no seed": {"trainer": {"seed": None}},
    "clipped": {"trainer": {"gradient_clip_val": 0.1}},
    "target_kl": {"config": {"target_kl": 1e-4, "update_epochs": 10}},
    "normalised": {"config": {"normalize_observations": True, "normalize_rewards": True}},
    "small minibatches": {"config": {"batch_size": 2, "update_epochs": 1}},
    "evaluated": {"trainer": {"evaluate_every_env_steps": 256, "evaluation_episodes": 2}},
    "resumed": {},
}


class CountingPPO(PPOAgent):
    """Counts its updates."""

    updates = 0

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, torch.Tensor]:
        self.updates += 1
        return super().training_step(batch, batch_idx)


def train(case: str, folder: Path) -> None:
    """Train in two processes (Lightning starts the second); each writes what it saw."""
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", ".isinstance.treespec")
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    options = {"max_env_steps": MAX_ENV_STEPS, "num_envs": NUM_ENVS, "seed": 0}
    ddp = {"accelerator": "cpu", "strategy": "ddp", "devices": 2, "default_root_dir": folder}
    more = {"enable_checkpointing": False, **CASES[case].get("trainer", {})}
    config = {"rollout_steps": 128, "batch_size": 64, "update_epochs": 2}
    agent = CountingPPO(config=PPOConfig(**{**config, **CASES[case].get("config", {})}))
    trainer = AgentTrainer(**{**quiet, **options, **ddp, **more})
    ckpt_path = folder / "half.ckpt" if case == "resumed" else None
    if ckpt_path is not None:
        half = AgentTrainer(**{**quiet, **options, **ddp, **more, "max_steps": 2})
        half.fit(CountingPPO(config=agent.config), "CartPole-v1")
        half.save_checkpoint(ckpt_path)
    trainer.fit(agent, "CartPole-v1", ckpt_path=ckpt_path)

    arrays = [p.detach().numpy().tobytes() for p in agent.parameters()]
    report = {
        "weights": hashlib.sha256(b"".join(arrays)).hexdigest(),
        "finite": all(bool(torch.isfinite(p).all()) for p in agent.parameters()),
        "env_steps": agent.env_steps,
        "iterations": trainer.global_step,
        "updates": agent.updates,
        "returns": agent.episodes["episode_return"].tolist(),
        "last_steps": agent.episodes["env_step"].tolist()[-1],
        "observations": agent.replay_buffer.observations.tolist(),
        "shown_steps": float(trainer.callback_metrics["step"]),
    }
    (folder / f"rank{trainer.global_rank}.json").write_text(json.dumps(report))


def train_replay_agent(kind: str, folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Train with a replay buffer, stop, and go on from the checkpoint."""
    small = {"rollout_steps": 64, "gradient_steps": 8, "batch_size": 32, "learning_starts": 100}
    make: Callable[[], Any] = partial(SACAgent, config=SACConfig(**small, n_steps=2))
    if kind == "DQN":
        make = partial(DQNAgent, config=DQNConfig(**small, priority_exponent=0.6, n_steps=3))
    env = "CartPole-v1" if kind == "DQN" else "Pendulum-v1"
    budget = {"max_env_steps": MAX_ENV_STEPS, "num_envs": NUM_ENVS, "seed": 0}
    half = AgentTrainer(**budget, **options, max_steps=3)
    half.fit(make(), env)
    half.save_checkpoint(folder / "half.ckpt")
    agent, trainer = make(), AgentTrainer(**budget, **options)
    trainer.fit(agent, env, ckpt_path=folder / "half.ckpt")
    shown = {name: float(trainer.callback_metrics[name]) for name in ("step", "learning_rate")}
    same = shown | {"env_steps": agent.env_steps, "updates": agent.num_updates}
    assert MAX_ENV_STEPS <= agent.env_steps < MAX_ENV_STEPS + 4 * NUM_ENVS
    seen = agent.replay_buffer.rewards if kind == "SAC" else agent.replay_buffer.observations
    return {"module": agent, "rank": trainer.global_rank, "same": same, "seen": seen}


def train_world_model(kind: str, folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Train a world model on stored steps, stop, and go on from the checkpoint."""
    parts = TrajectoryDataset(folder / "steps").split(0.8)
    loaders = [DataLoader(part, 64, shuffle=i == 0) for i, part in enumerate(parts)]
    half = lightning.Trainer(**options, max_epochs=1)
    half.fit(WorldModel(), *loaders)
    half.save_checkpoint(folder / "half.ckpt")
    model, seen = WorldModel(), []
    model.on_train_batch_start = lambda batch, _: seen.append(batch["observations"])
    trainer = lightning.Trainer(**options, max_epochs=3)
    trainer.fit(model, *loaders, ckpt_path=folder / "half.ckpt")
    same = {name: float(value) for name, value in trainer.callback_metrics.items()}
    same["global_step"] = trainer.global_step
    assert sum(map(len, seen)) == 2 * math.ceil(len(parts[0]) / 2)  # two epochs, half in each
    return {"module": model, "rank": trainer.global_rank, "same": same, "seen": torch.cat(seen)}


def train_other(kind: str, folder: Path) -> None:
    """Train something else than PPO in two processes; each writes what it saw."""
    warnings.simplefilter("error")
    for harmless in (".isinstance.treespec", ".*many workers", "Grad strides do not match"):
        warnings.filterwarnings("ignore", harmless)  # the last: of weights with one column
    options = {
        "enable_progress_bar": False, "enable_model_summary": False, "logger": False,
        "accelerator": "cpu", "strategy": "ddp", "devices": 2, "default_root_dir": folder,
        "enable_checkpointing": False, "gradient_clip_val": 0.5,
    }  # fmt: skip
    train = train_world_model if kind == "world model" else train_replay_agent
    found = train(kind, folder, options)
    state = [value.numpy().tobytes() for value in found["module"].state_dict().values()]
    report = {
        "state": hashlib.sha256(b"".join(state)).hexdigest(),
        "same": found["same"],
        "seen": hashlib.sha256(np.ascontiguousarray(found["seen"]).tobytes()).hexdigest(),
    }
    (folder / f"rank{found['rank']}.json").write_text(json.dumps(report))


if __name__ == "__main__":
    run = train if sys.argv[1] in CASES else train_other
    run(sys.argv[1], Path(sys.argv[2]))


@pytest.fixture(scope="module", params=CASES)
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Train one case in two processes and give their two reports."""
    return request.param, run_in_two(request.param, tmp_path_factory.mktemp("ddp"))


def run_in_two(case: str, folder: Path) -> list[Any]:
    """Run this file in two processes and read their two reports."""
    done = subprocess.run(
        [sys.executable, __file__, case, str(folder)],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"rank{i}.json").read_text()) for i in (0, 1)]


def test_both_processes_end_with_the_same_weights(ranks: Any) -> None:
    _, (first, second) = ranks
    assert first["weights"] == second["weights"]
    assert first["finite"]


def test_the_processes_see_different_episodes(ranks: Any) -> None:
    _, (first, second) = ranks
    assert first["returns"] != second["returns"]
    last = np.array(first["observations"]), np.array(second["observations"])
    assert not (last[0] == last[1]).all(axis=-1).any()


def test_env_steps_count_both_processes_and_meet_the_budget(ranks: Any) -> None:
    case, (first, second) = ranks
    assert first["env_steps"] == second["env_steps"] == first["shown_steps"]
    assert MAX_ENV_STEPS <= first["env_steps"] < MAX_ENV_STEPS + 2 * NUM_ENVS
    for report in (first, second):
        of_this_rank = sum(report["returns"])  # CartPole: one reward a step
        assert of_this_rank <= (0.75 if case != "resumed" else 1.0) * MAX_ENV_STEPS
        assert report["last_steps"] <= MAX_ENV_STEPS + 2 * NUM_ENVS


def test_both_processes_make_the_same_number_of_updates(ranks: Any) -> None:
    case, (first, second) = ranks
    assert first["iterations"] == second["iterations"] >= 4
    assert first["updates"] == second["updates"] > first["iterations"] / 2
    if case == "target_kl":
        assert first["updates"] < 10 * first["iterations"]  # of 20: it did stop early


@pytest.mark.parametrize("kind", ["world model", "DQN", "SAC"])
def test_other_data_in_each_process_make_one_module(kind: str, tmp_path: Path) -> None:
    """Weights, statistics, counters and logged means agree, after a resume too."""
    if kind == "world model":
        make_random_trajectory("CartPole-v1", tmp_path / "steps", 1000, progress=False)
    first, second = run_in_two(kind, tmp_path)
    assert first["state"] == second["state"]
    assert first["same"] == second["same"]
    assert first["seen"] != second["seen"]
