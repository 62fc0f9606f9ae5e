"""A sweep: many settings, each tried with several seeds, in processes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from lightning_rl.agent import LightningAgentModule
from lightning_rl.callbacks.run_facts import env_name
from lightning_rl.envs.vectorize import EnvLike
from lightning_rl.errors import ConfigError, RunError
from lightning_rl.experiments.processes import run_in_processes
from lightning_rl.experiments.seeds import RUN_FILE, SeedRun, SeedRuns
from lightning_rl.experiments.trials import Plan, open_study, optuna, run_trial, trial_folder
from lightning_rl.locks import lock_folder
from lightning_rl.notebook.curves import plot_returns
from lightning_rl.settings import count, seed_number, truth

FORMAT = 1  # of a sweep's folder
PLAN_FILE = "sweep.json"
INTERRUPTED = "interrupted"  # the study's attribute with the numbers of such trials
Space = Mapping[str, Any]


@dataclass(frozen=True)
class SweepTrial:
    """Settings that were tried."""

    number: int
    settings: dict[str, Any]
    state: str  # complete, pruned (ended early), failed or running
    value: float | None  # interquartile mean over seeds of their greedy returns
    runs: SeedRuns  # those seeds that came to their end
    error: str | None = None


class Sweep(Sequence[SweepTrial]):
    """The trials of a sweep, best ones first; those that did not come to their end are last.

    Args:
        trials: in any order.
        folder: of the sweep.
    """

    def __init__(self, trials: Iterable[SweepTrial], folder: Path) -> None:
        def rank(trial: SweepTrial) -> tuple[float, int]:
            return (-np.inf if trial.value is None else trial.value), -trial.number

        self._trials = sorted(trials, key=rank, reverse=True)
        self.folder = folder

    def __getitem__(self, index: Any) -> Any:
        """Give a trial, or a list of them."""
        return self._trials[index]

    def __len__(self) -> int:
        """Count the trials."""
        return len(self._trials)

    @property
    def best(self) -> SweepTrial:
        """The best trial.

        Raises:
            RunError: if none came to its end.
        """
        if not self._trials or self._trials[0].value is None:
            errors = [trial.error for trial in self if trial.error]
            raise RunError(
                f"none of {len(self)} trials came to its end{f': {errors[0]}' if errors else ''}"
            )
        return self._trials[0]

    def table(self) -> str:
        """Give one line a trial, best ones first, as text."""
        names = sorted({name for trial in self for name in trial.settings})
        head = " ".join(f"{name:>16}" for name in names)
        lines = [f"{'trial':>5} {'return':>9} {'seeds':>5} {head}"]
        for trial in self:
            value = trial.state if trial.value is None else f"{trial.value:.1f}"
            cells = " ".join(f"{short(trial.settings.get(name)):>16}" for name in names)
            lines.append(f"{trial.number:>5} {value:>9} {len(trial.runs):>5} {cells}")
        return "\n".join(lines)

    def plot(self, top: int = 5, path: str | None = None) -> Figure:
        """Draw the curves of the best trials, each with its band over seeds.

        Args:
            top: how many.
            path: where to write the picture.

        Raises:
            RunError: if no trial came to its end.
        """
        drawn = [self.best, *[trial for trial in self[1:top] if trial.value is not None]]
        return plot_returns({f"trial {trial.number}": trial.runs for trial in drawn}, path=path)


def sweep(
    make_agent: Callable[[dict[str, Any]], LightningAgentModule] | type[LightningAgentModule],
    env: EnvLike,
    space: Space,
    directory: str | Path,
    trials: int = 20,
    seeds: Iterable[int] = range(3),
    *,
    episodes: int = 20,
    processes: int | None = None,
    prune: bool = True,
    progress: bool = True,
    **trainer_options: Any,
) -> Sweep:
    """Look for good settings: try some, choose the next by what they reach, in processes.

    Optuna draws the first five settings at random, and then by its tree-structured Parzen
    estimator. A trial trains with one seed after the other and is worth the interquartile mean of
    their greedy returns. At every tenth of a seed's budget it reports the mean return of the last
    100 training episodes, and is ended early if that is below the median of the other trials.

    Everything is in the directory. The same call goes on where it was interrupted or, given more
    `trials`, with further ones. With one process, the same trials are made again.

    Args:
        make_agent: an agent's class, whose config takes the settings, or a function of a dict.
        env: what `make_vector_env` takes; a name or a function is best.
        space: of each setting, a list of choices, `{"low": 1e-4, "high": 1e-2, "log": True}` for a
            range (of whole numbers, if both ends are), or one of Optuna's distributions.
        directory: of the sweep, and of nothing else.
        trials: in all, with those that are in the directory already.
        seeds: of each trial.
        episodes: greedy ones of each seed, in a separate environment.
        processes: trials at a time. Default: one a core that may be used.
        prune: end hopeless trials early.
        progress: show a bar.
        **trainer_options: of `AgentTrainer`, such as `max_env_steps`.

    Raises:
        ConfigError: if a setting has no such range, something can't be sent to another process,
            Optuna is not installed, or the directory holds another sweep, or one of another
            version.
        LockedError: if the directory's sweep is running.
        RunError: if a trial fails, but for numbers that are not finite; the others are ended, and
            the same call tries it again.

    Example:
        >>> from lightning_rl import PPOAgent
        >>> rates = {"low": 1e-4, "high": 1e-2, "log": True}
        >>> space = {"learning_rate": rates, "gamma": [0.95, 0.98, 0.99]}
        >>> found = sweep(PPOAgent, "CartPole-v1", space, "runs/sweep")  # doctest: +SKIP
        >>> print(found.table())  # doctest: +SKIP
        >>> found.plot()  # doctest: +SKIP
    """
    if isinstance(make_agent, type):
        make_agent = partial(with_config, make_agent)
    folder, seeds = Path(directory), [seed_number(seed) for seed in seeds]
    trials, episodes, prune = (
        count("trials", trials),
        count("episodes", episodes),
        truth("prune", prune),
    )
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds={seeds}; expected at least one, and none of them twice.")
    distributions = {name: distribution(name, given) for name, given in space.items()}
    plan = Plan(make_agent, env, distributions, seeds, episodes, folder, prune, trainer_options)
    folder.mkdir(parents=True, exist_ok=True)
    lock = lock_folder(folder, "make trials there")
    try:
        check_plan(plan)
        _run(plan, trials, processes, progress)
        return load_sweep(folder)
    finally:
        lock.release()


def _run(plan: Plan, trials: int, processes: int | None, progress: bool) -> None:
    study = open_study(plan.folder)
    begun = retry_interrupted(study)
    left = max(trials - begun + len(interrupted(study)), 0)
    tasks = [partial(run_trial, plan, begun + index) for index in range(left)]
    warned: set[str] = set()
    with tqdm(total=trials, initial=trials - left, desc="trials", disable=not progress) as bar:
        for event in run_in_processes(tasks, processes):
            if event.kind == "error":
                what, trace = event.content
                raise RunError(f"a trial has failed: {what}\n{trace}")
            if event.kind == "warning" and event.content not in warned:
                warned.add(event.content)
                warnings.warn(f"in a trial: {event.content}", stacklevel=4)
            if event.kind == "result":
                bar.update()


def interrupted(study: Any) -> set[int]:
    """Give the numbers of trials that were begun and not ended, which don't count."""
    return set(study.user_attrs.get(INTERRUPTED, []))


def retry_interrupted(study: Any) -> int:
    """Let what an earlier process has begun but not ended be tried again; count all trials."""
    states = optuna().trial.TrialState
    found = study.get_trials(deepcopy=False)
    cut = [trial for trial in found if trial.state == states.RUNNING]
    for trial in cut:
        study.tell(trial.number, state=states.FAIL)
    if cut:
        numbers = interrupted(study) | {trial.number for trial in cut}
        study.set_user_attr(INTERRUPTED, sorted(numbers))
    for trial in cut:
        study.enqueue_trial(trial.params)
    return len([trial for trial in found if trial.state != states.WAITING])


def with_config(agent_class: Any, settings: dict[str, Any]) -> LightningAgentModule:
    """Make an agent of its class and its config's settings."""
    agent: LightningAgentModule = agent_class(config=settings)
    return agent


def distribution(name: str, given: Any) -> str:
    """Say as JSON from where a setting is drawn.

    Raises:
        ConfigError: if that is neither a list, nor a range, nor a distribution.
    """
    known = optuna().distributions
    try:
        if isinstance(given, list | tuple):
            given = known.CategoricalDistribution(given)
        elif isinstance(given, Mapping):
            whole = all(isinstance(given[end], int) for end in ("low", "high"))
            given = (known.IntDistribution if whole else known.FloatDistribution)(**given)
        text: str = known.distribution_to_json(given)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"the space of {name!r} is {given!r} ({error}); expected a list of choices, such as "
            '[0.9, 0.99], or a range, such as {"low": 1e-4, "high": 1e-2, "log": True}.'
        ) from error
    return text


def check_plan(plan: Plan) -> None:
    """Write what a folder's sweep is, or check that it is this one.

    Raises:
        ConfigError: if it is another one, or one of another version.
    """
    file = plan.folder / PLAN_FILE
    what = {
        "format": FORMAT,
        "env": env_name(plan.env),
        "space": plan.space,
        "seeds": plan.seeds,
        "episodes": plan.episodes,
        "trainer_options": {name: repr(value) for name, value in plan.trainer_options.items()},
    }
    if not file.exists():
        file.write_text(json.dumps(what, indent=1))
        return
    stored = stored_plan(plan.folder)
    if other := [name for name in what if stored.get(name) != what[name]]:
        told = "; ".join(f"{name}: {stored.get(name)!r}, not {what[name]!r}" for name in other)
        raise ConfigError(
            f"{str(plan.folder)!r} holds another sweep ({told}); expected another directory."
        )


def stored_plan(folder: Path) -> dict[str, Any]:
    """Read what a folder's sweep is.

    Raises:
        ConfigError: if there is none, or one of another version.
    """
    try:
        stored = json.loads((folder / PLAN_FILE).read_text())
        version = stored["format"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{str(folder)!r} holds no sweep that can be read ({error}).") from error
    if version != FORMAT:
        raise ConfigError(
            f"the sweep in {str(folder)!r} is of format {version!r}; expected {FORMAT}. Go on with "
            "it by the version of lightning_rl that began it, or give another directory."
        )
    return dict(stored)


def load_sweep(directory: str | Path) -> Sweep:
    """Read the trials that a directory holds; a sweep that is running may be read, too.

    Raises:
        ConfigError: if there is no sweep, or one of another version.
    """
    folder = Path(directory)
    stored = stored_plan(folder)
    study = open_study(folder)
    found, cut = study.get_trials(deepcopy=False), interrupted(study)
    kept = [trial for trial in found if trial.number not in cut and trial.params]
    return Sweep([_trial(folder, stored, trial) for trial in kept], folder)


def _trial(folder: Path, stored: dict[str, Any], trial: Any) -> SweepTrial:
    files = [
        trial_folder(folder, trial.number) / f"seed_{seed}" / RUN_FILE for seed in stored["seeds"]
    ]
    runs = [SeedRun.from_plain(json.loads(file.read_text())) for file in files if file.exists()]
    state = {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
    value = trial.value if state == "complete" else None
    names = dict(trial.params)
    return SweepTrial(
        trial.number, names, state, value, SeedRuns(f"trial {trial.number}", runs),
        trial.user_attrs.get("error"),
    )  # fmt: skip


def short(value: Any) -> str:
    """Write a setting in few letters."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)
