"""The main job, `python -m lightning_rl`, as a user runs it."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest
import torch
import yaml

from lightning_rl import PPOAgent, evaluate
from lightning_rl.__main__ import main
from lightning_rl.worlds.eye import Eye
from lightning_rl.worlds.world_model import WorldModel

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


@pytest.mark.slow
def test_several_seeds_are_one_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, "--seeds", "2", "--seed", "4", "--settings.rollout_steps", "512")
    said = capsys.readouterr().out
    assert "PPOAgent on CartPole-v1, greedy evaluation of each seed" in said
    for name in ("returns.png", "seed_4", "seed_5"):
        assert str(tmp_path / name) in said
        assert (tmp_path / name).exists()
    agent = PPOAgent.load_from_checkpoint(tmp_path / "seed_5" / "agent.ckpt")
    assert agent.env_steps >= 600


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


def test_dreaming_in_pixels_writes_a_film(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = {"random_steps": 300, "eye_epochs": 1, "model_epochs": 1, "dream_steps": 3000}
    options = [word for name, n in small.items() for word in (f"--settings.{name}", str(n))]
    main(["dream", "--pixels", *options, "--episodes", "2", "--output_dir", str(tmp_path)])
    said = capsys.readouterr().out
    assert "PPOAgent in a dream of CartPole-v1 in pictures, 300 real env steps" in said
    for name in ("film.gif", "agent.ckpt", "eye.ckpt", "world_model.ckpt", "trajectories_0"):
        assert str(tmp_path / name) in said
        assert (tmp_path / name).exists()
    assert Eye.load_from_checkpoint(tmp_path / "eye.ckpt").network.is_trained


def test_an_unknown_option_is_refused_with_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--speed", "9"])
    assert "--speed" in capsys.readouterr().err
