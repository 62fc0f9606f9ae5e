"""Promises about training in two processes (DDP, on the CPU): this file, run as a script."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_rl import AgentTrainer, PPOAgent, PPOConfig

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


if __name__ == "__main__":
    train(sys.argv[1], Path(sys.argv[2]))


@pytest.fixture(scope="module", params=CASES)
def ranks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Train one case in two processes and give their two reports."""
    folder = tmp_path_factory.mktemp("ddp")
    done = subprocess.run(
        [sys.executable, __file__, request.param, str(folder)],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return request.param, [json.loads((folder / f"rank{i}.json").read_text()) for i in (0, 1)]


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
