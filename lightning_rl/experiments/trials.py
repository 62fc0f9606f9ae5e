"""One trial of a sweep, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lightning.pytorch import Callback

from lightning_rl.agent import LightningAgentModule
from lightning_rl.envs.vectorize import EnvLike
from lightning_rl.errors import NonFiniteError, needs_extra
from lightning_rl.experiments.seeds import train_one
from lightning_rl.stats.aggregates import interquartile_mean
from lightning_rl.trainer import DEFAULT_MAX_ENV_STEPS

STUDY, STUDY_FILE = "sweep", "study.log"
REPORTS = 10  # of one seed's run, each a chance to end a hopeless trial
STARTUP = 5  # trials that are neither chosen by what is known nor ended early


class Plan(NamedTuple):
    """What all trials of a sweep have in common."""

    make_agent: Callable[[dict[str, Any]], LightningAgentModule]
    env: EnvLike
    space: dict[str, str]  # of each setting, Optuna's distribution as JSON
    seeds: list[int]
    episodes: int  # greedy ones
    folder: Path
    prune: bool
    trainer_options: dict[str, Any]


def optuna() -> Any:
    """Import Optuna, which is an extra, and keep it quiet.

    Raises:
        ConfigError: if it is not installed.
    """
    with needs_extra("sweep", "for a sweep"):
        import optuna
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def open_study(folder: Path, seed: int = 0, prune: bool = True) -> Any:
    """Open the study of a folder, or begin one; several processes may have it open.

    Args:
        folder: of the sweep.
        seed: of what is chosen next.
        prune: end trials that are worse than the median of the others.
    """
    library = optuna()
    storages = library.storages
    file = storages.journal.JournalFileBackend(str(folder / STUDY_FILE))
    pruners = library.pruners
    return library.create_study(
        storage=storages.JournalStorage(file),
        study_name=STUDY,
        load_if_exists=True,
        direction="maximize",
        sampler=library.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP),
        pruner=pruners.MedianPruner(STARTUP, REPORTS // 5) if prune else pruners.NopPruner(),
    )


def run_trial(plan: Plan, index: int, tell: Callable[[Any], None]) -> list[Any]:
    """Try settings with every seed; give the trial's number, how it has ended, and its return.

    Args:
        plan: of the sweep.
        index: how many trials were begun before, by which the settings are drawn.
        tell: not used: trials meet in the study.
    """
    library = optuna()
    study = open_study(plan.folder, index, plan.prune)
    space = {
        name: library.distributions.json_to_distribution(text) for name, text in plan.space.items()
    }
    trial = study.ask(space)
    states = library.trial.TrialState
    try:
        result = interquartile_mean(np.array(list(returns_of(plan, trial))))
    except library.TrialPruned:
        study.tell(trial, state=states.PRUNED)
        return [trial.number, "pruned", None]
    except NonFiniteError as error:  # these settings' fault; any other error is the sweep's
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=states.FAIL)
        return [trial.number, "failed", None]
    study.tell(trial, float(result))
    return [trial.number, "complete", float(result)]


def returns_of(plan: Plan, trial: Any) -> Any:
    """Train with one seed after the other, and give the mean greedy return of each."""
    options = dict(plan.trainer_options)
    callbacks = options.pop("callbacks", None) or []
    for index, seed in enumerate(plan.seeds):
        reporting = Reporting(trial, index * REPORTS)
        run = train_one(
            lambda: plan.make_agent(dict(trial.params)),
            plan.env,
            seed,
            plan.episodes,
            trial_folder(plan.folder, trial.number) / f"seed_{seed}",
            {"enable_checkpointing": False, **options, "callbacks": [reporting, *callbacks]},
            lambda told: None,
        )
        yield float(np.mean(run["returns"]))


def trial_folder(folder: Path, number: int) -> Path:
    """Name the folder of a trial."""
    return folder / f"trial_{number:04d}"


class Reporting(Callback):
    """Reports the training's return some times a run, and ends a trial that is hopeless.

    Args:
        trial: Optuna's.
        first: number of the first report.
    """

    def __init__(self, trial: Any, first: int) -> None:
        self.trial, self.first, self.reported = trial, first, 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Report at each tenth of the budget, from the first episode's end on.

        Raises:
            TrialPruned: if other trials were better at the same point.
        """
        budget = pl_module.max_env_steps or DEFAULT_MAX_ENV_STEPS
        done = min(int(pl_module.env_steps / budget * REPORTS), REPORTS)
        if done <= self.reported or not len(pl_module.episodes):
            return
        self.reported = done
        self.trial.report(pl_module.episodes.mean_return(), self.first + done)
        if self.trial.should_prune():
            raise optuna().TrialPruned()
