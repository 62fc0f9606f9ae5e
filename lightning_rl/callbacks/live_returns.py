"""The live plot: episode returns that move while an agent is trained."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from lightning.pytorch import Callback, Trainer
from PIL import Image

from lightning_rl.agent import LightningAgentModule
from lightning_rl.errors import ConfigError, check_counts
from lightning_rl.notebook.curves import clear, draw_returns, outline
from lightning_rl.notebook.figures import PALETTE, NotebookFigure, png
from lightning_rl.notebook.kernel import in_notebook, kernel_shell
from lightning_rl.stats.history import EpisodeHistory

DRAWING_SHARE = 0.03  # of the wall time; sending the frames takes some more, 5 % in all
SHORTEST_PAUSE = 0.25  # seconds between two frames: faster is not seen
WIDTH, RETURNS_HEIGHT, PANELS_HEIGHT, DPI = 700, 350, 160, 100  # pixels, and those of an inch
FIRST_COST = 0.03  # seconds of a frame, before one was measured
LOGGED_LATER = ("val_", "episode_")  # from the first evaluation, the first episode's end
ALTERNATIVE = "Episode returns against env steps"  # where there are no pictures

Point = tuple[float, float]  # env step, value


class DrawingBudget:
    """Says when to draw, so that all frames cost at most 5 % of a run's wall time.

    A frame is affordable if it and the last one, which is always drawn, fit into 3 % of the time
    that the run will take by its progress so far, should they cost what the last two did.

    Example:
        >>> budget = DrawingBudget()
        >>> budget.is_due(progress=0.5)  # the run has only just begun
        False
    """

    def __init__(self) -> None:
        self.spent = 0.0  # seconds of drawing
        self._costs = (FIRST_COST, FIRST_COST)  # of the last two frames
        self._start = self._last_end = time.perf_counter()

    def is_due(self, progress: float) -> bool:
        """Tell whether a frame can be afforded now, at this part of the run (0 to 1)."""
        now = time.perf_counter()
        cost = min(self._costs)  # the first frame loads fonts, any may be held up
        if now - self._last_end < max(SHORTEST_PAUSE, cost / DRAWING_SHARE):
            return False
        training = (now - self._start - self.spent) / (progress or 1.0)
        whole_run = training + self.spent
        return self.spent + sum(self._costs) <= DRAWING_SHARE * whole_run

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Count the time of one frame."""
        start = time.perf_counter()
        yield
        self._last_end = time.perf_counter()
        cost = self._last_end - start
        self.spent += cost
        self._costs = (self._costs[1], cost)


@dataclass
class LiveRun:
    """What is drawn of one run."""

    label: str
    episodes: EpisodeHistory
    evaluations: list[Point] = field(default_factory=list)
    scalars: dict[str, list[Point]] = field(default_factory=dict)  # by panel


class LiveReturns(Callback):
    """Plots episode returns against env steps while an agent is trained in a notebook.

    Each training episode is a point; the curve is their mean over the last `smooth` episodes, the
    diamonds are evaluations. `AgentTrainer` adds one by itself (not with `live=False`). Outside a
    notebook nothing is drawn, unless a file is asked for. Drawing takes at most 5 % of the time, or
    one frame where the run is that short; the last picture stays in the saved notebook. It has a
    background of its own, for dark themes: white, unless matplotlib's style is another one. The
    colour-blind can tell its colours apart.

    Give one `LiveReturns` to several trainers to compare their runs in one plot, while they are
    made: runs of one label are seeds, drawn as their mean with a band once they have ended.

    Args:
        target: a return to mark with a line. Default: the environment's `reward_threshold`, where
            it has one.
        panels: names of logged scalars to plot below, such as `"loss"`, `"entropy"`,
            `"approx_kl"`, `"explained_variance"` or `"episode_length"`.
        path: a file to write each picture to; its ending chooses the format (`.png`, `.svg`).
        smooth: episodes averaged for each point of the curve.
        label: of the runs that follow; it may be set between two of them. Default: the name of the
            agent's class.

    Raises:
        ConfigError: for a `smooth` below 1; while training, for a panel that is not logged.

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
        check_counts(smooth=smooth)
        self.target, self.path, self.smooth, self.label = target, path, smooth, label
        self.panels = (panels,) if isinstance(panels, str) else tuple(panels)
        self.runs: list[LiveRun] = []
        self.budget = DrawingBudget()
        self._running: LiveRun | None = None
        self._figure: NotebookFigure | None = None
        self._handle: Any = None  # of the picture in the notebook
        self._cell: Any = None  # where it is shown

    # ---- Lightning's hooks -------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Show an empty picture of full size, so that nothing below moves afterwards."""
        has_env = isinstance(pl_module, LightningAgentModule) and pl_module.runner is not None
        is_seen = in_notebook() or self.path is not None
        if not (has_env and is_seen and trainer.is_global_zero):
            return
        if self.target is None:
            self.target = reward_threshold(pl_module.runner.env)
        self._running = self._run_of(pl_module)
        self.budget = DrawingBudget()
        if in_notebook() and self._cell != (cell := _cell_id()):  # it has no picture yet
            self._cell, self._handle = cell, None
            self._show(png(Image.new("L", _pixels(len(self.panels)), "white")))

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Note the panels' scalars, and draw if it is time."""
        if self._running is None:
            return
        if self.panels:  # asking for the metrics takes time
            self._note_scalars(self._running, trainer.callback_metrics)
        if self.budget.is_due(pl_module.progress):
            self.draw()

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Note an evaluation."""
        value = trainer.callback_metrics.get("val_episode_return")
        if self._running is not None and value is not None:
            self._running.evaluations.append((pl_module.env_steps, float(value)))

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Draw the last picture, which stays."""
        if self._running is not None:
            self._note_scalars(self._running, trainer.callback_metrics)
            self._running = None
            self.draw()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Draw how far the run came: its last frame may be some seconds old."""
        if self._running is not None:
            self._running = None
            self.draw()

    # ---- what is drawn -----------------------------------------------------------------------

    def _run_of(self, agent: LightningAgentModule) -> LiveRun:
        """Begin a run, or go on with the one of an agent that is trained further."""
        for run in self.runs:
            if run.episodes is agent.episodes:
                return run
        self.runs.append(LiveRun(self.label or type(agent).__name__, agent.episodes))
        return self.runs[-1]

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
            if len(run.episodes):
                groups.setdefault("" if single else name, []).append(run.episodes)
        return groups

    def draw(self) -> None:
        """Draw a frame, show it and write it, on the drawing budget."""
        with self.budget.drawing():
            if self._figure is None:
                self._figure = _make_figure(len(self.panels))
            self._draw_axes(self._figure)
            if in_notebook():
                self._show(self._figure._repr_png_())
            if self.path is not None:
                self._figure.savefig(self.path)

    def _draw_axes(self, figure: NotebookFigure) -> None:
        returns, *panels = figure.axes
        evaluations = [point for run in self.runs for point in run.evaluations]
        draw_returns(returns, self._groups(), self.smooth, self.target, evaluations)
        noted = [points[-1][0] for run in self.runs for points in run.scalars.values()]
        left, right = returns.get_xlim()  # of the episodes, and there may be none yet
        limits = min(left, 0.0), max(right, *noted, 0.0)
        returns.set_xlim(limits, auto=None)
        for axes, name in zip(panels, self.panels, strict=True):
            clear(axes)
            axes.set_title(name, fontsize="small")
            axes.set_xlim(limits)
            for index, run in enumerate(self.runs):
                points = np.array(run.scalars.get(name, []), dtype=np.float64).reshape(-1, 2)
                color = PALETTE[index % len(PALETTE)]
                axes.plot(*outline(*points.T), ".-", color=color, linewidth=1, markersize=2)

    def _show(self, picture: bytes) -> None:
        """Show a PNG in this cell's output, or exchange the one that is there.

        All pictures of a cell have the same types and size: a notebook's checker compares the
        first with the last, and what is below does not move.
        """
        from IPython.display import display

        bundle = {"image/png": picture, "text/plain": ALTERNATIVE}
        width, height = _pixels(len(self.panels))
        options: dict[str, Any] = {"metadata": {"image/png": {"width": width, "height": height}}}
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True, **options)  # type: ignore[no-untyped-call]
        else:
            self._handle.update(bundle, raw=True, **options)


def _cell_id() -> str:
    """Name the execution of a cell that this code is a part of."""
    return str(kernel_shell().get_parent()["header"]["msg_id"])


def _pixels(num_panels: int) -> tuple[int, int]:
    """Give the width and height of the picture."""
    return WIDTH, RETURNS_HEIGHT + (PANELS_HEIGHT if num_panels else 0)


def _make_figure(num_panels: int) -> NotebookFigure:
    """Make a figure of fixed size, without pyplot, whose layout costs nothing per frame."""
    width, height = _pixels(num_panels)
    figure = NotebookFigure(figsize=(width / DPI, height / DPI), dpi=DPI)
    unit = RETURNS_HEIGHT / height
    bottom = 1 - unit
    figure.add_axes((0.12, bottom + 0.13 * unit, 0.85, 0.81 * unit))
    share = 0.97 / max(num_panels, 1)  # of the width
    for index in range(num_panels):
        left = 0.075 + index * share
        axes = figure.add_axes((left, 0.08 * bottom, share - 0.07, 0.7 * bottom))
        axes.tick_params(labelsize="x-small", labelbottom=False)  # the env steps are those above
        axes.locator_params(nbins=4)  # texts are most of what a frame costs
        axes.grid(visible=True, alpha=0.3)
    return figure


def reward_threshold(env: Any) -> float | None:
    """Give the return from which an environment counts as solved, where it says one."""
    specs = [getattr(part, "spec", None) for part in (env, *getattr(env, "envs", ())[:1])]
    thresholds = [spec.reward_threshold for spec in specs if spec is not None]
    return thresholds[0] if thresholds else None
