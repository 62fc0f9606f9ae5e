"""Promises about training in two processes (DDP, on the CPU)."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import two_ranks
from two_ranks import EPISODES, MAX_ENV_STEPS, NUM_ENVS

from lightning_rl import AgentTrainer, WorldModel, make_random_trajectory
from lightning_rl.errors import ConfigError

pytestmark = pytest.mark.slow

TIMEOUT = 240  # seconds after which a run counts as deadlocked
RESUMED = ["PPO", "DQN", "SAC", "world model"]
PPO_ALONE = ["no seed", "target_kl", "whole rollout", "small minibatches"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train all cases in two processes, which write what they saw into this folder."""
    folder = tmp_path_factory.mktemp("ddp")
    steps = folder / "world model" / "steps"
    make_random_trajectory("CartPole-v1", steps, 1000, progress=False)
    done = subprocess.run(
        [sys.executable, two_ranks.__file__, str(folder)],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def ranks(folder: Path) -> list[dict[str, Any]]:
    """Give what each of the two processes saw."""
    return [json.loads((folder / f"rank{i}.json").read_text()) for i in (0, 1)]


def trainings(found: dict[str, Any]) -> dict[str, Any]:
    """Give all trainings of a process but the world model's, by name."""
    parts = {f"{kind} {part}": found[kind][part] for kind in RESUMED[:3] for part in found[kind]}
    return parts | {kind: found[kind] for kind in PPO_ALONE}


def test_all_that_is_common_is_equal_to_the_last_bit_after_every_iteration(ranks: Any) -> None:
    """Weights, normalisers, env steps, episodes, updates, and what is shown."""
    first, second = map(trainings, ranks)
    for name, found in first.items():
        assert found["finite"]
        assert len(found["weights"]) >= 4 or "resumed" in name
        assert len(set(found["weights"])) == len(found["weights"]), "something was learned"
        for what in set(found) - {"own"}:
            assert found[what] == second[name][what], f"{name}: {what}"
    for part in ("whole", "resumed"):
        one, other = (rank["world model"][part] for rank in ranks)
        assert (one["weights"], one["shown"]) == (other["weights"], other["shown"])


def test_the_processes_see_different_episodes(ranks: Any) -> None:
    first, second = map(trainings, ranks)
    for name, found in first.items():
        for what, own in found["own"].items():
            if own is not None:
                assert own != second[name]["own"][what], f"{name}: {what}"
        rows = zip(found["own"]["first"], second[name]["own"]["first"], strict=True)
        assert not any(one == other for one, other in rows)
    seen = [set(rank["world model"]["whole"]["own"]["seen"]) for rank in ranks]
    assert seen[0].isdisjoint(seen[1])


def test_env_steps_count_both_processes_and_meet_the_budget(ranks: Any) -> None:
    for name, found in trainings(ranks[0]).items():
        assert found["env_steps"] == found["shown"]["step"], name
        assert MAX_ENV_STEPS <= found["env_steps"] < MAX_ENV_STEPS + 8 * NUM_ENVS, name
        assert found["last_step"] <= found["env_steps"], name


def test_the_history_holds_the_episodes_of_both_processes(ranks: Any) -> None:
    """CartPole pays 1 a step: all but the episodes that still run is accounted for."""
    for name, found in trainings(ranks[0]).items():
        if name.startswith(("SAC", "DQN")):  # Pendulum pays less, DQN's episodes may be long
            continue
        assert 0.5 * MAX_ENV_STEPS < sum(found["returns"]) <= found["env_steps"], name


def test_normalisers_have_seen_the_env_steps_of_both_processes(ranks: Any) -> None:
    observations, rewards = ranks[0]["PPO"]["whole"]["counts"]
    env_steps = ranks[0]["PPO"]["whole"]["env_steps"]
    assert rewards == env_steps
    assert env_steps <= observations < 1.2 * env_steps  # a reset row shows an observation, too


def test_target_kl_stops_both_processes_at_the_same_update(ranks: Any) -> None:
    found = ranks[0]["target_kl"]
    assert found["updates"] < 10 * found["iterations"]  # of 20: it did stop early


@pytest.mark.parametrize("kind", RESUMED)
def test_a_resumed_run_is_exact_in_both_processes(kind: str, ranks: Any) -> None:
    for rank in ranks:
        whole, resumed = rank[kind]["whole"], rank[kind]["resumed"]
        assert 0 < len(resumed["weights"]) < len(whole["weights"])
        assert resumed["weights"] == whole["weights"][-len(resumed["weights"]) :]
        if kind == "world model":
            assert resumed["own"]["seen"] == whole["own"]["seen"][-len(resumed["own"]["seen"]) :]
        else:
            its_own = {"weights", "updates"} if kind == "PPO" else {"weights"}
            for what in set(whole) - its_own - {"shown"}:
                assert resumed[what] == whole[what], what


@pytest.mark.filterwarnings(
    "ignore:.*treespec", "ignore:.*many workers", "ignore:.*no `val_dataloader`"
)
@pytest.mark.parametrize("kind", RESUMED)
def test_a_resume_in_another_number_of_processes_is_refused(kind: str, folder: Path) -> None:
    module: Any = WorldModel()
    data: Any = None
    trainer = AgentTrainer(quiet=True, num_envs=NUM_ENVS, max_epochs=2)
    if kind == "world model":
        dataset = two_ranks.TrajectoryDataset(folder / kind / "steps")
        data = two_ranks.DataLoader(dataset, 64)
    else:
        made = {
            "PPO": lambda: two_ranks.make_ppo(**two_ranks.NORMALISED),
            "DQN": lambda: two_ranks.DQNAgent(config=two_ranks.DQN),
            "SAC": lambda: two_ranks.SACAgent(
                config=two_ranks.SACConfig(**two_ranks.SMALL_REPLAY, n_steps=2)
            ),
        }
        module, data = made[kind](), "Pendulum-v1" if kind == "SAC" else "CartPole-v1"
    with pytest.raises(ConfigError, match=r"in 2 processes; this trainer has 1.*load_from_check"):
        trainer.fit(module, data, ckpt_path=folder / kind / "half.ckpt")
    loaded = type(module).load_from_checkpoint(folder / kind / "half.ckpt")  # as it says
    assert sum(p.numel() for p in loaded.parameters())


def test_evaluation_is_shared_out_and_its_result_is_everywhere(ranks: Any) -> None:
    first, second = (rank["evaluated"] for rank in ranks)
    for what in ("shown", "validated", "predicted"):
        assert first[what] == second[what]
    assert len(first["predicted"]) == EPISODES
    assert sorted(first["predicted"]) == sorted(first["alone"])  # as one process would play them
    assert first["own"]["num_envs"] == second["own"]["num_envs"] == [3, 3, 3]


def test_what_stops_one_process_stops_all_in_the_same_iteration(ranks: Any) -> None:
    first, second = (rank["stopped"] for rank in ranks)
    assert first == second
    assert first["iterations"] == 2
    assert first["env_steps"] < MAX_ENV_STEPS


def test_different_environments_are_an_error_in_both_processes(ranks: Any) -> None:
    for rank in ranks:
        assert "differ in their observation space: rank 0 has" in rank["differing"]["error"]
        assert "rank 1 has" in rank["differing"]["error"]


def test_a_process_that_is_killed_ends_the_other_which_names_it(tmp_path: Path) -> None:
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, two_ranks.__file__, str(tmp_path), "killed"],
        capture_output=True, text=True, timeout=TIMEOUT, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "lost: rank 1 has ended with exit code -9" in done.stderr
    assert time.monotonic() - start < TIMEOUT / 2
    pids = [int((tmp_path / f"pid{i}").read_text()) for i in (0, 1)]
    assert not any(psutil.pid_exists(pid) for pid in pids)


def torchrun(folder: Path, *options: str, nodes: int = 1) -> Any:
    """Start torchrun with the script of this module's trainings."""
    return subprocess.Popen(
        [
            sys.executable, "-m", "torch.distributed.run", *options,
            f"--nproc-per-node={2 // nodes}", two_ranks.__file__, str(folder), "torchrun",
        ],
        stderr=subprocess.PIPE, text=True, env=os.environ | {"NODES": str(nodes)},
    )  # fmt: skip


def trained_alike(folder: Path, ranks: Any, *started: Any) -> None:
    """Check that all has ended well, with the very weights of the processes Lightning starts."""
    for process in started:
        _, errors = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0, errors
    for i in (0, 1):
        found = json.loads((folder / f"rank{i}.json").read_text())["PPO"]
        assert found == ranks[i]["PPO"]["whole"]


def test_torchrun_trains_as_lightnings_own_start_does(ranks: Any, tmp_path: Path) -> None:
    trained_alike(tmp_path, ranks, torchrun(tmp_path, "--standalone"))


def test_two_nodes_train_as_one_does(ranks: Any, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    meeting = ["--nnodes=2", "--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}"]
    started = [torchrun(tmp_path, *meeting, f"--node-rank={i}", nodes=2) for i in (0, 1)]
    trained_alike(tmp_path, ranks, *started)
