"""The live plot: episode returns that move while an agent is trained."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from lightning_rl.agent import LightningAgentModule
from lightning_rl.errors import ConfigError
from lightning_rl.notebook.curves import Point
from lightning_rl.notebook.kernel import cell_id, cell_memory, in_notebook
from lightning_rl.notebook.live_picture import LivePicture, size_in_pixels
from lightning_rl.notebook.panel import new_panel
from lightning_rl.settings import count
from lightning_rl.stats.history import EpisodeHistory

DRAWING_SHARE = 0.04  # of the wall time
FIRST_FRAMES = 0.08  # seconds of drawing that a run may begin with, after the empty axes
PAUSE = 0.2  # seconds between two frames, of which an iteration takes some more
LONGEST_PAUSE = 0.4  # so that the curve is never half a second behind the progress bar
STOPPED = 0.9  # of the budget: less was trained
LOGGED_LATER = ("val_", "episode_")  # from the first evaluation, the first episode's end
ALTERNATIVE = "Episode returns against env steps"  # where there are no pictures


class DrawingBudget:
    """Says when to draw: about five times a second, unless that took over 4 % of the time.

    Sending the frames takes some more, 5 % in all. Where frames are so dear that there would be
    less than two a second, up to three times as much is spent. The first and the last picture are
    always drawn.

    Example:
        >>> budget = DrawingBudget()
        >>> budget.is_due()  # the run has only just begun
        False
    """

    def __init__(self) -> None:
        self.spent = 0.0  # seconds of drawing
        self._start = self._last = time.perf_counter()  # of the run, and of the last frame

    def is_due(self) -> bool:
        """Tell whether a frame can be afforded now."""
        now = time.perf_counter()
        allowed = DRAWING_SHARE * (now - self._start) + FIRST_FRAMES
        pause = now - self._last
        if pause >= LONGEST_PAUSE:
            return self.spent <= 3 * allowed
        return pause >= PAUSE and self.spent <= allowed

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Count the time of one frame."""
        self._last = time.perf_counter()
        yield
        self.spent += time.perf_counter() - self._last


@dataclass
class LiveRun:
    """What is drawn of one run."""

    label: str
    episodes: EpisodeHistory
    settings: dict[str, Any] = field(default_factory=dict)  # of the agent
    evaluations: list[Point] = field(default_factory=list)
    scalars: dict[str, list[Point]] = field(default_factory=dict)  # by panel


class LiveReturns(Callback):
    """Plots episode returns against env steps while an agent is trained in a notebook.

    Each training episode is a point; the curve is their mean over the last `smooth` episodes, the
    diamonds are evaluations. `AgentTrainer` adds one by itself (not with `live=False`). Outside a
    notebook nothing is drawn, unless a file is asked for. Drawing takes at most 5 % of the time, or
    one frame where the run is that short; the last picture stays in the saved notebook. It has a
    background of its own, so that it can be read in any theme: white, unless matplotlib's style is
    another one, and dark where JupyterLab's or Notebook's theme is known to be. The colour-blind
    can tell its colours apart.

    The trainings of one cell in one environment, such as a loop over seeds, share a picture, with
    a curve for each; agents of other settings get a label of their own. To compare trainings of
    several cells, give one `LiveReturns` to all trainers; for a picture each, give each its own.
    Runs of one label are seeds: from three on, their mean and a band are drawn too.

    Args:
        target: a return to mark with a line. Default: the environment's `reward_threshold`, where
            it has one.
        panels: names of logged scalars to plot below, such as `"loss"`, `"entropy"`,
            `"approx_kl"`, `"explained_variance"` or `"episode_length"`.
        path: a file to write each picture to; its ending chooses the format (`.png`, `.svg`).
        smooth: episodes averaged for each point of the curve.
        label: of the runs that follow; it may be set between two of them. Default: the name of the
            agent's class, and how its settings differ from those of the first one.

    Raises:
        ConfigError: for a `smooth` below 1; before training, for a path in no folder; while
            training, for a panel that is not logged.

    Example:
        >>> from lightning_rl import AgentTrainer, PPOAgent
        >>> live = LiveReturns(target=475, panels=["entropy", "approx_kl"])
        >>> for seed in range(3):  # doctest: +SKIP
        ...     trainer = AgentTrainer(seed=seed, callbacks=[live])
        ...     trainer.fit(PPOAgent(), "CartPole-v1")
    """

    def __init__(
        self,
        target: float | None = None,
        panels: Sequence[str] = (),
        path: str | None = None,
        smooth: int = 20,
        label: str | None = None,
    ) -> None:
        smooth = count("smooth", smooth)
        self.target, self.path, self.smooth, self.label = target, path, smooth, label
        self.panels = (panels,) if isinstance(panels, str) else tuple(panels)
        self.runs: list[LiveRun] = []
        self.budget = DrawingBudget()
        self._running: LiveRun | None = None
        self._env_steps = 0.0  # where the budget ends
        self._picture: LivePicture | None = None
        self._handle: Any = None  # of the picture in the notebook
        self._cell: str | None = None  # where it is shown
        self.is_shared = False  # by the trainings of a cell
        self._env_name: str | None = None  # in which they are

    @classmethod
    def of_cell(cls) -> LiveReturns:
        """Give the one that the trainings of this cell share, each after the other."""
        memory = cell_memory()
        live: LiveReturns | None = memory.get("live")
        if live is None or live.is_running:
            live = memory["live"] = cls()
            live.is_shared = True
        return live

    @property
    def is_running(self) -> bool:
        """Whether a training is drawn now."""
        return self._running is not None

    # ---- Lightning's hooks -------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Show the axes at once, so that nothing below moves afterwards."""
        has_env = isinstance(pl_module, LightningAgentModule) and pl_module.runner is not None
        is_seen = in_notebook() or self.path is not None
        if not (has_env and is_seen and trainer.is_global_zero):
            return
        if self.path is not None and not Path(self.path).absolute().parent.is_dir():
            raise ConfigError(
                f"path={self.path!r} is in no existing folder; expected one. Make it."
            )
        if self.is_shared:
            self._share(pl_module.runner.env)
        if self.target is None:
            self.target = reward_threshold(pl_module.runner.env)
        self._running = self._run_of(pl_module)
        self._env_steps = max(self._env_steps, expected_env_steps(pl_module))
        if in_notebook() and self._cell != (cell := cell_id()):  # it has no picture yet
            self._cell, self._handle = cell, None
            new_panel()  # that of an earlier picture is above
            self.draw(is_last=False)
        self.budget = DrawingBudget()  # the first frame, which loads fonts, shall not delay others

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Note the panels' scalars, and draw if it is time."""
        if self._running is None:
            return
        if self.panels:  # asking for the metrics takes time
            self._note_scalars(self._running, trainer.callback_metrics)
        if self.budget.is_due():
            self.draw(is_last=False)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Note an evaluation."""
        value = trainer.callback_metrics.get("val_episode_return")
        if value is not None:
            self.note_evaluation(pl_module.env_steps, float(value))

    def note_evaluation(self, env_steps: int, value: float) -> None:
        """Note the mean return of an evaluation."""
        if self._running is not None and math.isfinite(value):
            self._running.evaluations.append((env_steps, value))

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Draw the last picture, which stays."""
        if self._running is not None:
            self._note_scalars(self._running, trainer.callback_metrics)
            self._running = None
            self._end_at(pl_module.env_steps)
            self.draw()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Draw how far the run came: its last frame may be some seconds old."""
        if self._running is not None:
            self._running = None
            self._end_at(pl_module.env_steps)
            self.draw()

    # ---- what is drawn -----------------------------------------------------------------------

    def _run_of(self, agent: LightningAgentModule) -> LiveRun:
        """Begin a run, or go on with the one of an agent that is trained further."""
        for run in self.runs:
            if run.episodes is agent.episodes:
                return run
        settings = getattr(agent, "config", None)
        known = asdict(settings) if is_dataclass(settings) else {}  # type: ignore[arg-type]
        label = self.label or self._label_of(type(agent).__name__, known)
        self.runs.append(LiveRun(label, agent.episodes, known))
        return self.runs[-1]

    def _label_of(self, name: str, settings: dict[str, Any]) -> str:
        """Name a run: runs of one name are seeds, so other settings than the first's are named."""
        first = next((run.settings for run in self.runs if run.label == name), settings)
        others = [f"{key}={value}" for key, value in settings.items() if value != first.get(key)]
        return ", ".join([name, *others])

    def _share(self, env: Any) -> None:
        """Begin another picture if the cell goes on with another environment."""
        name = env_name(env)
        if self._env_name not in (None, name):
            self.runs, self.target, self._picture, self._env_steps = [], None, None, 0.0
            self._cell = None
        self._env_name = name

    def _note_scalars(self, run: LiveRun, metrics: dict[str, Any]) -> None:
        if "step" not in metrics:  # nothing was logged yet
            return
        env_step = float(metrics["step"])
        for name in self.panels:
            if name in metrics:
                points = run.scalars.setdefault(name, [])
                if not points or points[-1][0] != env_step:
                    points.append((env_step, float(metrics[name])))
            elif not name.startswith(LOGGED_LATER):
                raise ConfigError(
                    f"panel {name!r} is not logged; expected one of {sorted(metrics)}. "
                    "Return it from `training_step`."
                )

    def _groups(self) -> dict[str, list[EpisodeHistory]]:
        """Give the runs to draw by name: the ended ones by label, the running one for itself."""
        groups: dict[str, list[EpisodeHistory]] = {}
        single = len(self.runs) == 1  # it needs no name
        for number, run in enumerate(self.runs, start=1):
            name = f"{run.label}, run {number}" if run is self._running else run.label
            groups.setdefault("" if single else name, []).append(run.episodes)
        return groups

    def _end_at(self, env_steps: float) -> None:
        """Let the last picture of a run that was stopped end there, not at the budget's end."""
        ends = [run.episodes["env_step"][-1] for run in self.runs if len(run.episodes)]
        end = max([env_steps, *ends])
        if end < STOPPED * self._env_steps:
            self._env_steps, self._picture = end, None

    def draw(self, is_last: bool = True) -> None:
        """Draw a frame, show it and write it, on the drawing budget.

        Args:
            is_last: draw it with all care, as the picture that stays.
        """
        with self.budget.drawing():
            if self._picture is None:
                self._picture = LivePicture(self.panels, self.smooth, self.target)
            picture = self._picture
            evaluations = [point for run in self.runs for point in run.evaluations]
            scalars = [run.scalars for run in self.runs]
            picture.draw(self._groups(), evaluations, scalars, self._env_steps, is_last)
            if in_notebook() and (is_last or self._handle is None):
                self._show("image/png", picture.png(quick=not is_last))
            elif in_notebook():
                self._show("image/jpeg", picture.jpeg())
            if self.path is not None:
                picture.figure.savefig(self.path)

    def _show(self, kind: str, picture: bytes) -> None:
        """Show a picture in this cell's output, or exchange the one that is there.

        A cell's first and last are PNGs of one size: a notebook's checker compares them, and what
        is below does not move.
        """
        from IPython.display import display

        bundle = {kind: picture, "text/plain": ALTERNATIVE}
        width, height = size_in_pixels(len(self.panels))
        options: dict[str, Any] = {"metadata": {kind: {"width": width, "height": height}}}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True, **options)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True, **options)


def expected_env_steps(agent: LightningAgentModule) -> float:
    """Give the env steps at which this run will end, as far as that is known; else 0."""
    if agent.max_env_steps is not None:
        return agent.env_steps_at_fit_start + agent.max_env_steps
    batches = agent.trainer.estimated_stepping_batches
    return agent.env_steps + (batches * agent.rollout_steps if math.isfinite(batches) else 0.0)


def reward_threshold(env: Any) -> float | None:
    """Give the return from which an environment counts as solved, where it says one."""
    specs = _specs(env)
    return specs[0].reward_threshold if specs else None


def env_name(env: Any) -> str:
    """Name an environment as it is registered, or by its class."""
    specs = _specs(env)
    return str(specs[0].id if specs else type([env, *getattr(env, "envs", ())][-1].unwrapped))


def _specs(env: Any) -> list[Any]:
    specs = [getattr(part, "spec", None) for part in (env, *getattr(env, "envs", ())[:1])]
    return [spec for spec in specs if spec is not None]
