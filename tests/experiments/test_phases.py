"""The phases of an experiment in one run or split, read back from what each logger has written."""

from __future__ import annotations

import csv
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb_files import config, curve, of_kind, step_metrics, wandb_records

from lightning_rl.errors import ConfigError
from lightning_rl.experiments.phases import Kind, PhaseLog, log_episodes
from lightning_rl.experiments.weights_and_biases import SAID, mode_of, wandb_logger

FACTS: dict[str, Any] = {"seed": 3, "env": "CartPole-v1"}


@pytest.fixture(autouse=True)
def nobody_logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no_netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    SAID.clear()


def write(kind: Kind, folder: Path, split: bool) -> Path:
    """Log two rounds: a model whose steps start anew, an agent whose steps go on."""
    with PhaseLog(kind, folder, "dream", split, **FACTS) as log:
        log_episodes(log.phase("collect"), [20.0, math.nan, 30.0], [20, 5, 30])
        for round_number in range(2):
            model = log.phase("model", round_number)
            model.log_hyperparams({"config": {"batch_size": 8}, "run": {"num_envs": 4}})
            model.log_hyperparams({"config": {"batch_size": 8}})  # once more, as Lightning does
            for step in (10, 20):
                model.log_metrics({"loss": step / 10}, step)
            model.finalize("success")
            log.phase("agent", round_number).log_metrics({"loss": 0.5}, 64 * (round_number + 1))
    return log.folder


def rows_of(path: Path) -> list[dict[str, float]]:
    with path.open() as file:
        return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]


COLLECTED = [(20, 20), (55, 30)]
TWO_ROUNDS = [(10, 1), (20, 2), (30, 1), (40, 2)]


# ---- CSV -------------------------------------------------------------------------------------


def test_a_csv_of_all_phases_has_prefixes(tmp_path: Path) -> None:
    folder = write("csv", tmp_path, split=False)
    rows = rows_of(folder / "metrics.csv")

    def points(name: str) -> list[tuple[float, float]]:
        return [(row["step"], row[name]) for row in rows if name in row]

    assert points("collect/episode_return") == COLLECTED
    assert points("model/loss") == TWO_ROUNDS
    assert points("agent/loss") == [(64, 0.5), (128, 0.5)]
    made_of = yaml.safe_load((folder / "hparams.yaml").read_text())
    assert made_of["experiment"]["env"] == "CartPole-v1"
    assert made_of["model"] == {"config": {"batch_size": 8}, "run": {"num_envs": 4}}


def test_split_csvs_have_a_folder_each(tmp_path: Path) -> None:
    folder = write("csv", tmp_path, split=True)
    names = {path.name for path in folder.iterdir()}
    assert names == {"collect_0", "model_0", "model_1", "agent_0", "agent_1"}
    assert rows_of(folder / "model_1" / "metrics.csv") == [
        {"step": 10, "loss": 1}, {"step": 20, "loss": 2},
    ]  # fmt: skip
    made_of = yaml.safe_load((folder / "model_1" / "hparams.yaml").read_text())["experiment"]
    assert (made_of["phase"], made_of["round"], made_of["seed"]) == ("model", 1, 3)


# ---- TensorBoard -----------------------------------------------------------------------------


def scalars(folder: Path, name: str) -> list[tuple[float, float]]:
    events = EventAccumulator(str(folder)).Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_tensorboard_has_the_same(tmp_path: Path) -> None:
    one = write("tensorboard", tmp_path / "one", split=False)
    assert scalars(one, "collect/episode_return") == COLLECTED
    assert scalars(one, "model/loss") == TWO_ROUNDS
    split = write("tensorboard", tmp_path / "split", split=True)
    assert scalars(split / "model_1", "loss") == [(10, 1), (20, 2)]


# ---- W&B -------------------------------------------------------------------------------------


def test_one_run_of_wandb_has_a_prefix_and_an_x_axis_for_each_phase(tmp_path: Path) -> None:
    folder = write("wandb", tmp_path, split=False)
    ((name, records),) = wandb_records(folder).items()
    assert name == folder.name
    phases = ("collect", "model", "agent")
    assert step_metrics(records) == {f"{phase}/*": f"{phase}/step" for phase in phases}
    assert curve(records, "collect/step", "collect/episode_return") == COLLECTED
    assert curve(records, "model/step", "model/loss") == TWO_ROUNDS
    assert curve(records, "model/round", "model/loss") == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert curve(records, "agent/step", "agent/loss") == [(64, 0.5), (128, 0.5)]
    made_of = config(records)
    assert made_of["experiment"]["seed"] == 3
    assert made_of["model"] == {"config": {"batch_size": 8}, "run": {"num_envs": 4}}
    assert of_kind(records, "exit")[0]["exit_code"] == 0
    assert wandb.run is None


@pytest.mark.slow
def test_split_runs_of_wandb_are_one_group_with_a_job_type_each(tmp_path: Path) -> None:
    with PhaseLog("wandb", tmp_path, "dream", True, **FACTS) as log:
        for round_number in range(2):
            log.phase("agent", round_number).log_metrics({"loss": 0.5}, 64)
    runs = wandb_records(log.folder)
    assert sorted(runs) == ["agent_0", "agent_1"]
    for round_number, records in enumerate(runs[name] for name in sorted(runs)):
        (begun,) = of_kind(records, "run")
        assert (begun["run_group"], begun["job_type"]) == (log.folder.name, "agent")
        assert curve(records, "trainer/global_step", "loss") == [(64, 0.5)]
        assert config(records)["experiment"]["round"] == round_number


@pytest.mark.parametrize(
    ("has_own_steps", "expected"),
    [(False, [("trainer/global_step", None), ("*", "trainer/global_step")]), (True, [])],
)
def test_a_run_of_wandb_of_its_own_counts_everything_in_env_steps(
    has_own_steps: bool, expected: list[Any], tmp_path: Path
) -> None:
    defined: list[Any] = []

    def define(name: str, step_metric: str | None = None, step_sync: bool = False) -> None:
        assert step_sync == (step_metric is not None)
        defined.append((name, step_metric))

    logger = wandb_logger(
        SimpleNamespace(define_metric=define), tmp_path, "dream", has_own_steps=has_own_steps
    )
    assert defined == expected
    assert logger.save_dir == str(tmp_path)


def test_without_a_login_wandb_is_offline_which_is_said_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert mode_of(None) == "offline"  # and nothing is said: nobody asked for more
    with pytest.warns(UserWarning, match="no login for W&B.*wandb sync"):
        assert mode_of(True) == "offline"
    monkeypatch.setenv("WANDB_MODE", "online")
    assert mode_of(None) == "offline"  # said before
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    assert mode_of(None) == "online"
    assert mode_of(False) == "offline"


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'mlflow'; expected one of 'csv', 'tensorboard'"):
        PhaseLog("mlflow", tmp_path)  # type: ignore[arg-type]


def test_two_experiments_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    assert PhaseLog("csv", tmp_path).folder != PhaseLog("csv", tmp_path).folder
