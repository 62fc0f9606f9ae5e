"""The main job, `python -m lightning_rl`, as a user runs it."""

from __future__ import annotations

import csv
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_rl import PPOAgent, evaluate
from lightning_rl import __main__ as program
from lightning_rl.__main__ import main
from lightning_rl.errors import ConfigError
from lightning_rl.experiments import seeds
from lightning_rl.experiments.sweep import sweep
from lightning_rl.testing import ConstantRewardEnv
from lightning_rl.worlds.eye import Eye
from lightning_rl.worlds.world_model import WorldModel
from tests.experiments.tasks_here import tasks_here
from tests.experiments.wandb_files import config, curve, of_kind, wandb_records

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")


def run(folder: Path, *options: str) -> None:
    main(["--max_env_steps", "600", "--episodes", "3", "--output_dir", str(folder), *options])


def test_it_says_what_was_learned_and_where_everything_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, "--settings.rollout_steps", "256", "--settings.batch_size", "128")
    said = capsys.readouterr().out
    assert re.search(r"greedy evaluation: return \d+\.\d ± \d+\.\d over 3 episodes", said)
    for name in ("returns.png", "episodes.csv", "agent.ckpt"):
        assert str(tmp_path / name) in said
        assert (tmp_path / name).stat().st_size > 0


def test_the_episodes_are_a_table_and_the_checkpoint_an_agent(tmp_path: Path) -> None:
    run(tmp_path, "--num_envs", "4", "--seed", "3")
    with (tmp_path / "episodes.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["episode_return"]) == float(row["episode_length"]) for row in rows)
    checkpoint = torch.load(tmp_path / "agent.ckpt", weights_only=True)
    assert checkpoint["lightning_rl"]["episodes"]["env_step"].tolist() == [
        float(row["env_step"]) for row in rows
    ]
    agent = PPOAgent.load_from_checkpoint(tmp_path / "agent.ckpt")
    assert len(evaluate(agent, "CartPole-v1", episodes=2).returns) == 2


def test_a_budget_too_short_for_an_episode_is_said_and_nothing_else_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--max_env_steps", "64", "--episodes", "1", "--output_dir", str(tmp_path)]
    main(["ppo", "--env", "Pendulum-v1", "--num_envs", "2", *options])
    assert "no episode ended within the budget" in capsys.readouterr().out
    assert (tmp_path / "agent.ckpt").exists()


def test_other_agents_are_subcommands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--max_env_steps", "2000", "--episodes", "2", "--output_dir", str(tmp_path)]
    main(["reinforce", *options, "--settings.rollout_steps", "1000"])
    assert "ReinforceAgent on CartPole-v1" in capsys.readouterr().out


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make several runs in this process."""
    monkeypatch.setattr(seeds, "run_in_processes", tasks_here)
    monkeypatch.setitem(sweep.__globals__, "run_in_processes", tasks_here)


def run_two_seeds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "--seeds", "2", "--seed", "4", "--settings.rollout_steps", "512")
    said = capsys.readouterr().out
    assert "PPOAgent on CartPole-v1, greedy evaluation of each seed" in said
    for name in ("returns.png", "seed_4", "seed_5"):
        assert str(tmp_path / name) in said
        assert (tmp_path / name).exists()
    assert PPOAgent.load_from_checkpoint(tmp_path / "seed_5" / "agent.ckpt").env_steps >= 600


@pytest.mark.usefixtures("here")
def test_each_seed_has_a_folder_and_all_have_one_curve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_two_seeds(tmp_path, capsys)


@pytest.mark.usefixtures("here")
def test_seeds_whose_budget_is_too_short_for_an_episode_have_no_curve(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--max_env_steps", "64", "--episodes", "1", "--output_dir", str(tmp_path)]
    main(["ppo", "--env", "Pendulum-v1", "--num_envs", "2", "--seeds", "2", *options])
    said = capsys.readouterr().out
    assert "returns.png" not in said
    assert str(tmp_path / "seed_1") in said
    assert (tmp_path / "seed_1" / "agent.ckpt").exists()


@pytest.mark.usefixtures("here")
def test_a_sweep_says_the_best_settings_and_where_its_curves_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--trials", "2", "--seeds", "1", "--episodes", "2", "--max_env_steps", "1024"]
    space = '{"gamma": [0.9], "rollout_steps": [128], "batch_size": [128]}'
    main(["sweep", *words, "--output_dir", str(tmp_path), "--space", space])
    said = capsys.readouterr().out
    assert "PPOAgent on CartPole-v1, greedy return over 1 seeds" in said
    assert "best: {'gamma': 0.9, 'rollout_steps': 128, 'batch_size': 128}" in said
    assert f"curves: {tmp_path / 'returns.png'}" in said
    assert (tmp_path / "returns.png").stat().st_size > 0


def test_without_an_episode_the_evaluation_is_logged_without_a_curve(tmp_path: Path) -> None:
    options = ["--max_env_steps", "64", "--episodes", "1", "--output_dir", str(tmp_path)]
    main(["ppo", "--env", "Pendulum-v1", "--num_envs", "2", "--log", "csv", *options])
    (folder,) = (tmp_path / "logs").iterdir()
    assert "evaluation/episode_return" in (folder / "metrics.csv").read_text()
    media = {path.name.rpartition("_")[0] for path in (folder / "media" / "evaluation").iterdir()}
    assert media == {"episode"}


@pytest.mark.slow
def test_so_it_is_in_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_two_seeds(tmp_path, capsys)


def test_dreaming_is_a_subcommand_that_can_be_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"random_steps": 300, "model_epochs": 1, "dream_steps": 3000}
    options = [word for name, n in small.items() for word in (f"--settings.{name}", str(n))]
    for _ in range(2):
        main(["dream", *options, "--episodes", "2", "--output_dir", str(tmp_path)])
    said = capsys.readouterr().out
    assert said.count("PPOAgent in a dream of CartPole-v1, 300 real env steps") == 2
    names = ("returns.png", "agent.ckpt", "world_model.ckpt", "predictions.png")
    for name in (*names, "horizon_errors.png", "trajectories_1"):
        assert str(tmp_path / name) in said
        assert (tmp_path / name).exists()
    assert WorldModel.load_from_checkpoint(tmp_path / "world_model.ckpt").network.is_measured


def test_the_phases_of_a_dream_are_logged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"random_steps": 300, "model_epochs": 1, "dream_steps": 512, "rounds": 1}
    options = [word for name, n in small.items() for word in (f"--settings.{name}", str(n))]
    options += ["--log", "csv", "--split", "true", "--episodes", "2"]
    main(["dream", *options, "--output_dir", str(tmp_path)])
    (folder,) = (tmp_path / "logs").iterdir()
    assert str(folder) in capsys.readouterr().out
    phases = ("collect_0", "world_model_0", "agent_0", "collect_1", "world_model_1", "agent_1")
    assert {path.name for path in folder.iterdir()} == {*phases, "evaluation_0"}
    made_of = yaml.safe_load((folder / "agent_0" / "hparams.yaml").read_text())
    assert made_of["experiment"]["env"] == "CartPole-v1"
    assert made_of["config"]["gamma"] == 0.98
    assert list((folder / "evaluation_0" / "media").glob("episode_*.gif"))


def logged_in_files(folder: Path) -> tuple[dict, list[tuple[float, float]], set[str]]:
    """Read a CSV's run: what it was made of, its evaluation by env steps, and its names."""
    with (folder / "metrics.csv").open() as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    name = "evaluation/episode_return"
    reached = [(row["step"], row[name]) for row in rows if name in row]
    pictures = {f"evaluation/{path.stem}" for path in (folder / "media" / "evaluation").iterdir()}
    made_of = yaml.safe_load((folder / "hparams.yaml").read_text())
    return made_of, reached, {name.rpartition("_")[0] for name in pictures}.union(*rows)


def logged_in_tensorboard(folder: Path) -> tuple[dict, list[tuple[float, float]], set[str]]:
    """Read the same of TensorBoard's."""
    events = EventAccumulator(str(folder)).Reload()
    reached = [(e.step, e.value) for e in events.Scalars("evaluation/episode_return")]
    made_of = yaml.safe_load((folder / "hparams.yaml").read_text())
    return made_of, reached, {*events.Tags()["images"], *events.Tags()["scalars"]}


def logged_in_wandb(folder: Path) -> tuple[dict, list[tuple[float, float]], set[str]]:
    """Read the same of W&B's, offline."""
    ((name, records),) = wandb_records(folder).items()
    assert name == folder.name
    reached = curve(records, "evaluation/step", "evaluation/episode_return")
    names = {key for row in of_kind(records, "history") for key in row["item"]}
    return config(records), reached, {name.removesuffix("._type") for name in names}


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("csv", logged_in_files), ("tensorboard", logged_in_tensorboard),
        ("wandb", logged_in_wandb),
    ],
)  # fmt: skip
def test_an_agents_run_is_logged_with_all_it_was_made_of(
    kind: str,
    read: Callable[[Path], Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run(tmp_path, "--log", kind, "--seed", "3", "--settings.gamma", "0.9", "--num_envs", "4")
    (folder,) = (tmp_path / "logs").iterdir()
    assert str(folder) in capsys.readouterr().out
    made_of, reached, names = read(folder)
    agent = PPOAgent.load_from_checkpoint(tmp_path / "agent.ckpt")
    score = evaluate(agent, "CartPole-v1", 3, seed=3)
    assert reached == [(agent.env_steps, pytest.approx(score.mean))]
    assert {"agent/episode_return", "evaluation/returns", "evaluation/episode"} <= names
    assert made_of["experiment"].items() >= {"env": "CartPole-v1", "seed": 3}.items()
    assert "git_revision" in made_of["experiment"]
    assert made_of["experiment"]["versions"]["torch"] == torch.__version__
    assert made_of["agent"]["config"]["gamma"] == 0.9
    assert made_of["agent"]["run"]["num_envs"] == 4


def test_one_log_of_several_seeds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--log csv with several --seeds; expected one of"):
        run(tmp_path, "--log", "csv", "--seeds", "2")


def test_an_episode_that_cant_be_drawn_is_said_and_nothing_else_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gym.register("Undrawn-v0", lambda: ConstantRewardEnv(length=5))
    run(tmp_path, "--log", "csv", "--env", "Undrawn-v0", "--num_envs", "2")
    gym.registry.pop("Undrawn-v0")
    said = capsys.readouterr().out
    assert "no episode is logged" in said
    (folder,) = (tmp_path / "logs").iterdir()
    assert list((folder / "media" / "evaluation").glob("returns_*.png"))
    assert (tmp_path / "agent.ckpt").exists()


@pytest.mark.parametrize("log", [None, "csv"])
def test_dreaming_in_pixels_writes_a_film(
    log: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"random_steps": 300, "eye_epochs": 1, "model_epochs": 1, "dream_steps": 1024}
    options = [word for name, n in small.items() for word in (f"--settings.{name}", str(n))]
    options += ["--log", log] if log else []
    options += ["--episodes", "2", "--output_dir", str(tmp_path)]
    main(["dream", "--pixels", *options])
    said = capsys.readouterr().out
    assert (tmp_path / "logs").exists() == (log is not None)
    for folder in (tmp_path / "logs").iterdir() if log else ():
        assert str(folder) in said
        assert "evaluation/episode_return" in (folder / "metrics.csv").read_text()
        assert list((folder / "media" / "evaluation").glob("episode_*.gif"))
    assert "PPOAgent in a dream of CartPole-v1 in pictures, 300 real env steps" in said
    for name in ("film.gif", "agent.ckpt", "eye.ckpt", "world_model.ckpt", "trajectories_0"):
        assert str(tmp_path / name) in said
        assert (tmp_path / name).exists()
    assert Eye.load_from_checkpoint(tmp_path / "eye.ckpt").network.is_trained


def test_an_unknown_option_is_refused_with_its_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit):
        main(["--speed", "9"])
    assert "--speed" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["lightning_rl", "--speed", "9"])  # as a program
    with pytest.raises(SystemExit):
        runpy.run_path(str(program.__file__), run_name="__main__")
    assert "--speed" in capsys.readouterr().err
