"""Promises about training in two workers of Ray Train, on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from lightning_rl import AgentTrainer, PPOAgent, PPOConfig
from lightning_rl.errors import ConfigError
from lightning_rl.experiments.ray_train import RayReport, last_checkpoint

TIMEOUT = 400  # seconds after which a run counts as deadlocked
ROOT = Path(__file__).parents[2]
MAX_ENV_STEPS, EPOCH = 4096, 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train all cases in two workers, which write what they saw into this folder."""
    pytest.importorskip(
        "ray.train.lightning", reason="Ray is an extra of 440 MB: pip install -e '.[ray]'"
    )
    folder = tmp_path_factory.mktemp("ray")
    private = {"HOME": str(folder), "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    script = str(ROOT / "tests" / "ray_workers.py")
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as short:  # for sockets
        done = subprocess.run(
            [sys.executable, script, str(folder), short], env=os.environ | private,
            capture_output=True, text=True, timeout=TIMEOUT, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr[-5000:]
    return folder


def ranks(folder: Path) -> list[dict[str, Any]]:
    """Give what each of the two workers saw."""
    return [json.loads((folder / f"rank{i}.json").read_text()) for i in (0, 1)]


def reported(folder: Path) -> list[dict[str, float]]:
    """Give what was reported to Ray, epoch by epoch."""
    return json.loads((folder / "reported.json").read_text())


@pytest.mark.slow
def test_two_workers_train_one_agent_in_environments_of_their_own(folder: Path) -> None:
    first, second = ranks(folder / "whole")
    assert MAX_ENV_STEPS <= first["env_steps"] < MAX_ENV_STEPS + 8
    for what in ("weights", "env_steps", "returns"):
        assert first[what] == second[what]
    assert first["first"] != second["first"]


@pytest.mark.slow
def test_what_is_reported_has_env_steps_as_its_x_axis(folder: Path) -> None:
    epochs = reported(folder / "whole")
    steps = [epoch["step"] for epoch in epochs]
    assert steps == sorted(set(steps))
    assert steps[-1] == ranks(folder / "whole")[0]["env_steps"]
    assert steps[0] < 2 * EPOCH
    for epoch in epochs:
        assert {"epoch", "episode_return", "val_episode_return", "value_loss"} <= set(epoch)


@pytest.mark.slow
def test_a_killed_worker_leaves_the_result_as_it_would_have_been(folder: Path) -> None:
    assert (folder / "killed" / "killed").exists()
    for whole, again in zip(ranks(folder / "whole"), ranks(folder / "killed"), strict=True):
        assert not whole.pop("resumed")
        assert again.pop("resumed")
        assert again == whole
    assert reported(folder / "killed")[-1] == reported(folder / "whole")[-1]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["whole", "rays own"])
def test_rays_checkpoints_go_through_the_packages_own_writer(folder: Path, case: str) -> None:
    assert all(rank["writer"] == "SafeCheckpointIO" for rank in ranks(folder / case))
    path = Path((folder / case / "checkpoint").read_text()) / "checkpoint.ckpt"
    assert torch.load(path, weights_only=True)["lightning_rl"]
    agent = PPOAgent.load_from_checkpoint(path)
    assert agent.env_steps == ranks(folder / case)[0]["env_steps"]


@pytest.mark.slow
def test_rays_own_callback_serves_too_and_counts_iterations(folder: Path) -> None:
    whole, own = ranks(folder / "whole"), ranks(folder / "rays own")
    assert [rank["weights"] for rank in own] == [rank["weights"] for rank in whole]
    assert reported(folder / "rays own")[-1]["step"] < MAX_ENV_STEPS / 100


@pytest.fixture
def small_ray(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stand in for `ray.train`: it keeps each report, with the bytes of its checkpoint."""
    ray, train = ModuleType("ray"), ModuleType("ray.train")
    reports: list[tuple[dict[str, Any], dict[str, bytes]]] = []

    def files(folder: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}

    def report(metrics: dict[str, Any], checkpoint: Any) -> None:
        reports.append((metrics, checkpoint))

    made = {"Checkpoint": SimpleNamespace(from_directory=files), "report": report}
    vars(train).update(made, reports=reports, get_checkpoint=lambda: None)
    vars(ray).update(train=train)
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.train", train)
    return train


def test_each_epoch_is_reported_with_its_metrics_and_a_whole_checkpoint(
    small_ray: Any, tmp_path: Path
) -> None:
    agent = PPOAgent(config=PPOConfig(rollout_steps=64, batch_size=64, update_epochs=1))
    trainer = AgentTrainer(
        max_env_steps=256, num_envs=4, seed=1, default_root_dir=tmp_path, logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        callbacks=[RayReport()],
    )  # fmt: skip
    trainer.fit(agent, "CartPole-v1")
    epochs = [metrics["epoch"] for metrics, _ in small_ray.reports]
    assert epochs == [*range(len(epochs))] != []
    metrics, files = small_ray.reports[-1]
    assert metrics["step"] == agent.env_steps
    assert all(isinstance(value, int | float) for value in metrics.values())
    assert list(files) == ["checkpoint.ckpt"]
    (tmp_path / "checkpoint.ckpt").write_bytes(files["checkpoint.ckpt"])
    assert PPOAgent.load_from_checkpoint(tmp_path / "checkpoint.ckpt").env_steps == agent.env_steps


def test_only_the_first_worker_hands_over_a_checkpoint_but_all_report(small_ray: Any) -> None:
    saved: list[Path] = []
    trainer: Any = SimpleNamespace(
        callback_metrics={"loss": torch.tensor(0.5)}, current_epoch=2, is_global_zero=False,
        save_checkpoint=saved.append,
    )  # fmt: skip
    RayReport().on_train_epoch_end(trainer, None)
    assert small_ray.reports == [({"epoch": 2, "loss": 0.5}, None)]
    (path,) = saved  # all of them save, as each has a part of the state
    assert not path.parent.exists()


def test_a_worker_goes_on_from_what_was_reported_last(small_ray: Any, tmp_path: Path) -> None:
    with last_checkpoint() as path:
        assert path is None  # the first start

    @contextmanager
    def as_directory() -> Iterator[str]:
        yield str(tmp_path)

    small_ray.get_checkpoint = lambda: SimpleNamespace(as_directory=as_directory)
    with last_checkpoint() as path:
        assert path == tmp_path / "checkpoint.ckpt"


def test_without_ray_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ray", "ray.train"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigError, match=r"pip install \"lightning_rl\[ray\]\""):
        RayReport()
    with (
        pytest.raises(ConfigError, match="expected it to train under Ray Train"),
        last_checkpoint(),
    ):
        pass
