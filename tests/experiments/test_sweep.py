"""Sweeps: what a trial is worth, which are ended early, and how an interrupted one goes on."""

from __future__ import annotations

import json
import os
import pkgutil
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import pytest

from lightning_rl import PPOAgent, PPOConfig
from lightning_rl.__main__ import main
from lightning_rl.errors import ConfigError, LockedError, NonFiniteError, RunError
from lightning_rl.experiments.processes import Event
from lightning_rl.experiments.sweep import (
    check_plan,
    distribution,
    interrupted,
    load_sweep,
    retry_interrupted,
    sweep,
    with_config,
)
from lightning_rl.experiments.trials import Plan, Reporting, open_study, run_trial
from lightning_rl.locks import lock_folder
from lightning_rl.stats.history import EpisodeHistory
from tests.experiments.tasks_here import tasks_here

SMALL = {"rollout_steps": 64, "batch_size": 64, "update_epochs": 1}
MODULE: Any = sys.modules[sweep.__module__]  # the package has the function under its name
RATES = {"low": 1e-4, "high": 1e-2, "log": True}
SPACE = {"learning_rate": RATES}
OPTIONS: dict[str, Any] = {"max_env_steps": 512, "num_envs": 4}


def make_small(settings: dict[str, Any]) -> PPOAgent:
    return PPOAgent(config=PPOConfig(**SMALL, **settings))  # type: ignore[arg-type]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    space = {name: distribution(name, given) for name, given in SPACE.items()}
    plan = Plan(make_small, "CartPole-v1", space, [0, 1], 2, tmp_path, True, OPTIONS)
    check_plan(plan)
    return plan


def nobody(told: Any) -> None:
    raise AssertionError("trials meet in the study")


# ---- trials ----------------------------------------------------------------------------------


def test_a_trial_is_worth_the_mean_of_its_seeds(plan: Plan) -> None:
    number, state, value = run_trial(plan, 0, nobody)
    (trial,) = load_sweep(plan.folder)
    assert (
        (trial.number, trial.state, trial.value) == (number, state, value) == (0, "complete", value)
    )
    assert value == np.mean(trial.runs.returns)
    assert [run.seed for run in trial.runs] == [0, 1]
    assert 1e-4 <= trial.settings["learning_rate"] <= 1e-2
    found = load_sweep(plan.folder)
    assert found.best is found[0]
    assert f"{value:.1f}" in found.table()
    assert found.plot().axes[0].get_lines()


def test_settings_are_drawn_by_the_number_of_the_trial_alone(plan: Plan, tmp_path: Path) -> None:
    other = plan._replace(folder=tmp_path / "other", seeds=[0])
    other.folder.mkdir()
    check_plan(other)
    drawn = []
    for where in (plan._replace(seeds=[0]), other):
        run_trial(where, 3, nobody)
        drawn.append(open_study(where.folder).trials[0].params)
    assert drawn[0] == drawn[1]


def add_good_trials(plan: Plan, number: int) -> None:
    rates = optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)
    reports = dict.fromkeys(range(1, 21), 500.0)
    for _ in range(number):
        open_study(plan.folder).add_trial(
            optuna.trial.create_trial(
                value=500.0,
                params={"learning_rate": 1e-3},
                distributions={"learning_rate": rates},
                intermediate_values=reports,
            )
        )


def test_a_hopeless_trial_is_ended_before_its_first_seed_is_trained(plan: Plan) -> None:
    add_good_trials(plan, 5)
    assert run_trial(plan, 5, nobody)[1] == "pruned"
    trial = load_sweep(plan.folder)[-1]
    assert (trial.state, trial.value, len(trial.runs)) == ("pruned", None, 0)
    reports = open_study(plan.folder).trials[-1].intermediate_values
    assert 1 <= len(reports) < 10


def test_nothing_is_ended_early_before_there_are_enough_to_compare_with_or_on_demand(
    plan: Plan,
) -> None:
    add_good_trials(plan, 4)
    assert run_trial(plan._replace(seeds=[0]), 4, nobody)[1] == "complete"
    assert run_trial(plan._replace(seeds=[0], prune=False), 5, nobody)[1] == "complete"


def test_settings_that_lead_to_nan_have_failed_and_the_sweep_goes_on(plan: Plan) -> None:
    def ill(settings: dict[str, Any]) -> Any:
        raise NonFiniteError("the loss is nan")

    assert run_trial(plan._replace(make_agent=ill), 0, nobody)[1] == "failed"
    found = load_sweep(plan.folder)
    assert (found[0].state, found[0].error) == ("failed", "the loss is nan")
    with pytest.raises(RunError, match="none of 1 trials came to its end: the loss is nan"):
        _ = found.best


def test_what_was_interrupted_is_tried_again_with_the_same_settings(plan: Plan) -> None:
    study = open_study(plan.folder)
    space = {"learning_rate": optuna.distributions.FloatDistribution(1e-4, 1e-2, log=True)}
    begun = study.ask(space)  # and then its process has died
    assert retry_interrupted(study) == 1
    assert interrupted(study) == {0}
    assert run_trial(plan._replace(seeds=[0]), 1, nobody)[:2] == [1, "complete"]
    (trial,) = load_sweep(plan.folder)
    assert trial.settings == begun.params


def test_a_return_is_reported_at_each_tenth_once_there_is_one() -> None:
    reports: list[tuple[float, int]] = []
    trial = SimpleNamespace(report=lambda *given: reports.append(given), should_prune=lambda: False)
    agent = SimpleNamespace(max_env_steps=100, env_steps=25, episodes=EpisodeHistory())
    reporting = Reporting(trial, 10)
    reporting.on_train_batch_end(None, agent)
    assert reports == []  # no episode has ended
    agent.episodes.append(20, 7.0, 20)
    for agent.env_steps in (25, 29, 30, 500):
        reporting.on_train_batch_end(None, agent)
    assert reports == [(7.0, 12), (7.0, 13), (7.0, 20)]


# ---- folders ---------------------------------------------------------------------------------


def call(folder: Path, **changes: Any) -> Any:
    options: dict[str, Any] = {"trials": 1, "seeds": [0], "episodes": 2, "progress": False}
    return sweep(make_small, "CartPole-v1", SPACE, folder, **options | OPTIONS | changes)


def test_a_folder_of_another_version_or_another_sweep_is_refused(plan: Plan) -> None:
    with pytest.raises(ConfigError, match=r"holds another sweep \(seeds: \[0, 1\], not \[0\]\)"):
        call(plan.folder)
    file = plan.folder / "sweep.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2}))
    with pytest.raises(ConfigError, match="is of format 2; expected 1"):
        call(plan.folder)
    with pytest.raises(ConfigError, match="is of format 2; expected 1"):
        load_sweep(plan.folder)
    file.write_text("[]")
    with pytest.raises(ConfigError, match="holds no sweep that can be read"):
        load_sweep(plan.folder)


def test_a_sweep_that_is_running_is_left_alone(plan: Plan) -> None:
    lock = lock_folder(plan.folder)
    with pytest.raises(LockedError, match="make trials there"):
        call(plan.folder)
    lock.release()


@pytest.mark.parametrize("given", [{"low": 1.0}, {"low": 2.0, "high": 1.0}, 0.9, []])
def test_a_space_that_is_none_is_refused_by_name(given: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the space of 'gamma'"):
        sweep(make_small, "CartPole-v1", {"gamma": given}, tmp_path)


def test_whole_numbers_stay_whole_and_a_class_takes_its_config() -> None:
    kind = optuna.distributions.json_to_distribution(distribution("n", {"low": 1, "high": 8}))
    assert isinstance(kind, optuna.distributions.IntDistribution)
    agent: Any = with_config(PPOAgent, {"gamma": 0.9})
    assert agent.config.gamma == 0.9


# ---- processes -------------------------------------------------------------------------------


def dies_once(folder: str, settings: dict[str, Any]) -> PPOAgent:
    flag = Path(folder) / "died"
    if not flag.exists():
        flag.touch()
        os._exit(3)
    return make_small(settings)


@pytest.mark.slow
def test_a_sweep_whose_process_has_died_goes_on_to_the_number_of_trials(tmp_path: Path) -> None:
    options: dict[str, Any] = {"trials": 3, "seeds": [0], "episodes": 2, "processes": 2}
    make_agent = partial(dies_once, str(tmp_path))
    again = partial(sweep, make_agent, "CartPole-v1", SPACE, tmp_path / "sweep")
    with pytest.raises(RunError, match="its process ended with exit code 3"):
        again(**options, **OPTIONS)
    found = again(**options, **OPTIONS)
    assert len(found) == 3
    assert {trial.state for trial in found} <= {"complete", "pruned"}


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the trials in this process."""
    monkeypatch.setattr(MODULE, "run_in_processes", tasks_here)


@pytest.mark.usefixtures("here")
def test_the_same_call_makes_what_is_missing_and_nothing_else(tmp_path: Path) -> None:
    space = SPACE | {name: [value] for name, value in SMALL.items()}
    options: dict[str, Any] = {"seeds": [0], "episodes": 1, "progress": False}
    again = partial(sweep, PPOAgent, "CartPole-v1", space, tmp_path, **options, **OPTIONS)
    first = again(trials=1)
    assert [trial.state for trial in first] == ["complete"]
    assert first[0].settings["rollout_steps"] == 64
    found = again(trials=2)
    settings = {trial.number: trial.settings for trial in found}
    assert settings[0] == first[0].settings
    assert set(settings) == {0, 1}
    assert len(found) == len(again(trials=2)) == len(again(trials=1)) == 2


def breaks(settings: dict[str, Any]) -> Any:
    raise ValueError("it breaks")


@pytest.mark.usefixtures("here")
def test_a_trial_that_fails_ends_the_sweep_which_can_be_gone_on_with(tmp_path: Path) -> None:
    options: dict[str, Any] = {"seeds": [0], "episodes": 1, "progress": False, "trials": 1}
    with pytest.raises(RunError, match="a trial has failed: ValueError: it breaks"):
        sweep(breaks, "CartPole-v1", SPACE, tmp_path, **options, **OPTIONS)
    found = sweep(make_small, "CartPole-v1", SPACE, tmp_path, **options, **OPTIONS)
    assert [trial.state for trial in found] == ["complete"]


def test_a_warning_of_several_trials_is_passed_on_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = ("look out", "look out", "mind the gap")
    events = [Event(task, "warning", text) for task, text in enumerate(said)]
    monkeypatch.setattr(MODULE, "run_in_processes", lambda tasks, processes: iter(events))
    with pytest.warns(UserWarning, match="in a trial") as caught:
        call(tmp_path, trials=3)
    assert [str(one.message) for one in caught] == [
        "in a trial: look out",
        "in a trial: mind the gap",
    ]


@pytest.mark.slow
def test_it_is_a_subcommand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--trials", "1", "--seeds", "1", "--episodes", "2", "--max_env_steps", "2048"]
    main(["sweep", *words, "--output_dir", str(tmp_path), "--space", '{"gamma": [0.9]}'])
    said = capsys.readouterr().out
    assert "PPOAgent on CartPole-v1, greedy return over 1 seeds" in said
    assert "best: {'gamma': 0.9}" in said
    assert (tmp_path / "returns.png").stat().st_size > 0


@pytest.mark.parametrize("seeds", [[], [1, 1]])
def test_seeds_that_are_none_or_twice_the_same_are_refused(seeds: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least one, and none of them twice"):
        sweep(make_small, "CartPole-v1", SPACE, tmp_path, 2, seeds, **OPTIONS)


@pytest.mark.parametrize(
    ("extra", "get", "words"),
    [
        ("optuna", "lightning_rl.experiments.trials.optuna", r"lightning_rl\[sweep\]"),
        ("wandb", "lightning_rl.experiments.weights_and_biases.library", r"lightning_rl\[wandb\]"),
    ],
)
def test_an_extra_that_is_not_installed_is_named_with_how_to_install_it(
    extra: str, get: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, extra, None)
    with pytest.raises(ConfigError, match=f"^{extra} is not installed; expected it .*{words}"):
        pkgutil.resolve_name(get)()
