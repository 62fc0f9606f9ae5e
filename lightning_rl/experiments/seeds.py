"""Several seeds of one agent, side by side in processes."""

from __future__ import annotations

import json
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self, overload

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule
from numpy.typing import NDArray
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from lightning_rl.agent import LightningAgentModule
from lightning_rl.callbacks.live_returns import LiveReturns, LiveRun
from lightning_rl.callbacks.run_facts import env_name
from lightning_rl.envs.vectorize import EnvLike
from lightning_rl.errors import ConfigError, RunError
from lightning_rl.evaluation import EvaluationResult, evaluate
from lightning_rl.experiments.processes import Event, Task, run_in_processes
from lightning_rl.notebook.kernel import in_notebook
from lightning_rl.settings import count, seed_number, truth
from lightning_rl.stats.aggregates import bootstrap_interval, interquartile_mean
from lightning_rl.stats.history import COLUMNS, EpisodeHistory
from lightning_rl.trainer import DEFAULT_MAX_ENV_STEPS, EVALUATION_SEED_OFFSET, AgentTrainer

TELL_SECONDS = 0.2  # between two messages of a run
RUN_FILE, CHECKPOINT = "run.json", "agent.ckpt"
QUIET = {"enable_progress_bar": False, "enable_model_summary": False, "live": False}
NO_FILES = {"logger": False, "enable_checkpointing": False}


@dataclass(frozen=True)
class SeedRun:
    """One seed's run: its training episodes, and the greedy ones after it."""

    seed: int
    episodes: EpisodeHistory
    evaluation: EvaluationResult
    env_steps: int
    seconds: float  # of training, wall time
    checkpoint: Path | None = None

    @classmethod
    def from_plain(cls, run: dict[str, Any], checkpoint: Path | None = None) -> Self:
        """Take a run from what its process has told."""
        evaluation = EvaluationResult(
            np.array(run["returns"], float), np.array(run["lengths"], int)
        )
        history = history_of(run["episodes"])
        return cls(run["seed"], history, evaluation, run["env_steps"], run["seconds"], checkpoint)


class SeedRuns(Sequence[SeedRun]):
    """The runs of several seeds; `plot_returns` draws them with a band.

    Attributes:
        name: of the agent and the environment.
    """

    def __init__(self, name: str, runs: Sequence[SeedRun]) -> None:
        self.name, self._runs = name, tuple(runs)

    @overload
    def __getitem__(self, index: int) -> SeedRun: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[SeedRun]: ...
    def __getitem__(self, index: int | slice) -> SeedRun | Sequence[SeedRun]:
        """Give a run, in the order of the seeds as they were given."""
        return self._runs[index]

    def __len__(self) -> int:
        """Count the runs."""
        return len(self._runs)

    @property
    def returns(self) -> NDArray[np.float64]:
        """Mean greedy return of each seed, (seeds,)."""
        return np.array([run.evaluation.mean for run in self])

    def __repr__(self) -> str:
        """Say what they reach: the interquartile mean, with its 95 % bootstrap interval."""
        low, high = bootstrap_interval([self.returns])
        middle = float(interquartile_mean(self.returns))
        return (
            f"<SeedRuns: {len(self)} of {self.name}, return {middle:.1f} [{low:.1f}, {high:.1f}]>"
        )

    def table(self) -> str:
        """Give one line a seed, and one for all, as text."""
        lines = [f"{'seed':>6} {'return':>9} {'env steps':>10} {'seconds':>8}"]
        for run in self:
            numbers = f"{run.evaluation.mean:>9.1f} {run.env_steps:>10,} {run.seconds:>8.1f}"
            lines.append(f"{run.seed:>6} {numbers}")
        low, high = bootstrap_interval([self.returns])
        middle = float(interquartile_mean(self.returns))
        return "\n".join([*lines, f"{'IQM':>6} {middle:>9.1f}  95 % [{low:.1f}, {high:.1f}]"])


def fit_seeds(
    make_agent: Callable[[], LightningAgentModule],
    env: EnvLike,
    seeds: Iterable[int] = range(10),
    *,
    episodes: int = 100,
    processes: int | None = None,
    directory: str | Path | None = None,
    resume: bool = False,
    live: bool | LiveReturns = True,
    **trainer_options: Any,
) -> SeedRuns:
    """Train an agent with several seeds, a process a core, and play greedy episodes with each.

    Each run is exactly `AgentTrainer(seed=seed, ...).fit(make_agent(), env)`. In a notebook their
    returns move in one picture, a curve a seed, and end as one curve with a band; else a bar is
    shown. `plot_returns(fit_seeds(...))` draws the same.

    Args:
        make_agent: a class, or a function without arguments, that makes a new agent.
        env: what `make_vector_env` takes; a name or a function is best.
        seeds: one run each.
        episodes: greedy ones of each seed, in a separate environment.
        processes: runs at a time. Default: one a core that may be used.
        directory: a folder in which each run has its own, `seed_0` and so on, with the agent's
            checkpoint (`agent.ckpt`), its episodes (`run.json`) and logs. Default: no files.
        resume: take over the runs that have ended in the directory, and make the others, such as
            after an interrupt, or with more seeds. That the agent is the same is not checked.
        live: show the returns in a notebook; a `LiveReturns` of your own says how.
        **trainer_options: of `AgentTrainer`, such as `max_env_steps`.

    Returns:
        The runs, in the order of the seeds.

    Raises:
        ConfigError: if what is given is no function, there is no seed or one twice, the directory
            holds such a run already (with `resume`: one of another environment or other options),
            or something can't be sent to another process.
        RunError: if a run fails, naming its seed; the other runs are ended.

    Example:
        >>> from lightning_rl import PPOAgent, plot_returns
        >>> runs = fit_seeds(PPOAgent, "CartPole-v1", seeds=range(3))  # doctest: +SKIP
        >>> plot_returns(runs, target=475)  # doctest: +SKIP
    """
    seeds = [seed_number(seed) for seed in seeds]
    _check(make_agent, seeds, trainer_options)
    episodes = count("episodes", episodes)
    folders = [None if directory is None else Path(directory) / f"seed_{seed}" for seed in seeds]
    made_of = what_is_made(env, episodes, trainer_options)
    stored = stored_runs(folders, made_of, truth("resume", resume))
    tasks = {
        index: partial(train_one, make_agent, env, seed, episodes, folder, trainer_options)
        for index, (seed, folder) in enumerate(zip(seeds, folders, strict=True))
        if index not in stored
    }
    budget = trainer_options.get("max_env_steps", DEFAULT_MAX_ENV_STEPS)
    watch = SeedWatch(seeds, budget, live)
    events = watch.follow(_events(stored, tasks, processes))
    runs = dict(_finished(events, seeds))
    watch.end(runs[0]["agent"])
    checkpoints = [None if folder is None else folder / CHECKPOINT for folder in folders]
    found = [SeedRun.from_plain(runs[i], path) for i, path in enumerate(checkpoints)]
    return SeedRuns(f"{runs[0]['agent']} on {getattr(env, '__name__', env)}", found)


def _check(make_agent: Any, seeds: list[int], trainer_options: dict[str, Any]) -> None:
    if isinstance(make_agent, LightningModule) or not callable(make_agent):
        raise ConfigError(
            f"fit_seeds got {type(make_agent).__name__}; expected a class or a function that makes "
            "an agent, as each seed needs a new one: fit_seeds(PPOAgent, ...), or "
            "fit_seeds(lambda: PPOAgent(config=...), ...)."
        )
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds={seeds}; expected at least one, and none of them twice.")
    if "seed" in trainer_options:
        raise ConfigError("fit_seeds got seed; expected seeds, such as range(10).")


def what_is_made(env: EnvLike, episodes: int, trainer_options: Mapping[str, Any]) -> dict[str, Any]:
    """Say what a run is made of, but for its agent and its seed, as plain values."""
    options = {name: repr(value) for name, value in trainer_options.items() if name != "callbacks"}
    return {"env": env_name(env), "episodes": episodes, "trainer_options": options}


def stored_runs(
    folders: Sequence[Path | None], made_of: dict[str, Any], resume: bool
) -> dict[int, dict[str, Any]]:
    """Read the runs that have ended in an earlier call, by the place of their folder.

    Raises:
        ConfigError: if there are some, and they shall not or can't be gone on with.
    """
    stored = {}
    for index, folder in enumerate(folders):
        if folder is None or not (folder / RUN_FILE).exists():
            continue
        if not resume:
            raise ConfigError(
                f"{folder} holds a run already; expected another directory, or resume=True, which "
                "takes over the runs that have ended."
            )
        run = json.loads((folder / RUN_FILE).read_text())
        if run.get("made_of") != made_of:
            raise ConfigError(
                f"{folder} holds a run of {run.get('made_of')}; expected {made_of}. Give another "
                "directory."
            )
        stored[index] = run
    return stored


def _events(
    stored: Mapping[int, dict[str, Any]], tasks: Mapping[int, Task], processes: int | None
) -> Iterator[Event]:
    """Give what was made before, and then what is told of the others."""
    for index, run in stored.items():
        yield Event(index, "result", run)
    numbers = [*tasks]
    for event in run_in_processes([*tasks.values()], processes):
        yield event._replace(task=numbers[event.task])


def _finished(events: Iterable[Event], seeds: list[int]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give what runs return; the first that fails ends them all."""
    warned: set[str] = set()
    for event in events:
        if event.kind == "error":
            what, trace = event.content
            raise RunError(f"the run of seed {seeds[event.task]} has failed: {what}\n{trace}")
        if event.kind == "warning" and event.content not in warned:
            warned.add(event.content)
            warnings.warn(f"seed {seeds[event.task]}: {event.content}", stacklevel=3)
        if event.kind == "result":
            yield event.task, event.content


# ---- in the process of a run -------------------------------------------------------------------


def train_one(
    make_agent: Callable[[], LightningAgentModule],
    env: EnvLike,
    seed: int,
    episodes: int,
    folder: Path | None,
    trainer_options: dict[str, Any],
    tell: Callable[[Any], None],
) -> dict[str, Any]:
    """Train with one seed, play greedy episodes, and give all of it as plain values."""
    torch.manual_seed(seed)  # of what `make_agent` draws
    agent = make_agent()
    if not isinstance(agent, LightningAgentModule):
        raise ConfigError(f"make_agent returned {type(agent).__name__}; expected an agent.")
    files = NO_FILES if folder is None else {"default_root_dir": folder}
    options = {**QUIET, **files, **trainer_options}
    told = [Telling(tell), *(options.pop("callbacks", None) or [])]
    trainer = AgentTrainer(seed=seed, callbacks=told, **options)
    start = time.perf_counter()
    trainer.fit(agent, env)
    seconds = time.perf_counter() - start
    result = evaluate(agent, env, episodes, seed + EVALUATION_SEED_OFFSET, progress=False)
    run = {
        "seed": seed,
        "agent": type(agent).__name__,
        "env_steps": agent.env_steps,
        "seconds": seconds,
        "episodes": rows_of(agent.episodes),
        "returns": result.returns.tolist(),
        "lengths": result.lengths.tolist(),
        "made_of": what_is_made(env, episodes, trainer_options),
    }
    if folder is not None:
        trainer.save_checkpoint(folder / CHECKPOINT, weights_only=False)
        (folder / f"{RUN_FILE}.new").write_text(json.dumps(run))
        os.replace(folder / f"{RUN_FILE}.new", folder / RUN_FILE)  # whole or not at all
    return run


class Telling(Callback):
    """Tells another process of the episodes that have ended.

    Args:
        tell: sends plain values.
    """

    def __init__(self, tell: Callable[[Any], None]) -> None:
        self.tell, self._told, self._last = tell, 0, -math.inf

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Tell of what is new, a few times a second."""
        if time.monotonic() - self._last >= TELL_SECONDS:
            self._last = time.monotonic()
            new = rows_of(pl_module.episodes, self._told)
            self._told += len(new)
            self.tell([pl_module.env_steps, new])


def rows_of(history: EpisodeHistory, start: int = 0) -> list[list[float]]:
    """Give episodes, from one on, as rows of plain numbers."""
    return np.stack([history[name][start:] for name in COLUMNS], axis=1).tolist()  # type: ignore[no-any-return]


def history_of(rows: list[list[float]]) -> EpisodeHistory:
    """Make a history of rows."""
    columns = torch.tensor(rows, dtype=torch.float64).reshape(-1, len(COLUMNS)).T
    history = EpisodeHistory()
    history.load_state_dict(dict(zip(COLUMNS, columns, strict=True)))
    return history


# ---- beside the runs ---------------------------------------------------------------------------


class SeedWatch:
    """Shows how several runs are coming on: a picture in a notebook, and a bar.

    Args:
        seeds: of the runs.
        budget: env steps of one.
        live: whether and how to show the picture.
    """

    def __init__(self, seeds: list[int], budget: int, live: bool | LiveReturns) -> None:
        self.env_steps = [0] * len(seeds)
        self.runs = [LiveRun(f"seed {seed}", EpisodeHistory()) for seed in seeds]
        self.budget = budget
        self.live = LiveReturns() if live is True else live or None

    def follow(self, events: Iterable[Event]) -> Iterator[Event]:
        """Pass events on, and show what they tell."""
        if self.live is not None:
            self.live.runs += self.runs
        total = self.budget * len(self.runs)
        with tqdm(total=total, unit=" env steps", unit_scale=True, desc="seeds") as bar:
            for event in events:
                if event.kind in ("told", "result"):
                    self._note(event)
                    bar.update(min(sum(self.env_steps), total) - bar.n)
                yield event

    def _note(self, event: Event) -> None:
        history = self.runs[event.task].episodes
        if event.kind == "told":
            self.env_steps[event.task], rows = event.content
        else:
            self.env_steps[event.task] = event.content["env_steps"]
            rows = event.content["episodes"][len(history) :]
        for env_step, episode_return, length, _ in rows:
            history.append(int(env_step), episode_return, int(length))
        if self.live is not None and is_seen(self.live) and self.live.budget.is_due():
            self.live.draw(is_last=False)

    def end(self, label: str) -> None:
        """Draw all seeds as one curve with a band, which stays."""
        if self.live is not None and is_seen(self.live):
            for run in self.runs:
                run.label = self.live.label or label
            self.live.draw()


def is_seen(live: LiveReturns) -> bool:
    """Tell whether somebody looks at the picture."""
    return in_notebook() or live.path is not None
