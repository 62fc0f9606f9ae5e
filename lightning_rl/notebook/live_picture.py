"""A picture of running returns that is drawn several times a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import Bbox

from lightning_rl.notebook.curves import Point, draw_curves, draw_labels, outline
from lightning_rl.notebook.figures import PALETTE, NotebookFigure, jpeg, pixels, still
from lightning_rl.notebook.theme import darken, is_dark
from lightning_rl.stats.history import EpisodeHistory

WIDTH, RETURNS_HEIGHT, PANELS_HEIGHT, DPI = 700, 350, 160, 100  # pixels, and those of an inch
ROUND_NUMBERS = MaxNLocator(nbins=4, steps=[1, 2, 2.5, 5, 10])
OVERSHOOT = 1.01  # the last iteration goes a little beyond the budget
WAITING = "no episode has ended yet"

Limits = tuple[float, float]
Scalars = Mapping[str, Sequence[Point]]  # of one run: from a panel's name to its points


class LivePicture:
    """Axes, ticks, grid, legend and texts are drawn once and kept; points and curves are put on.

    What is kept of a plot is drawn anew only where its limits or its legend change, which is
    seldom: the env steps span the budget from the start, and the values grow in steps (`roomy`).

    Args:
        panels: names of the scalars to draw below the returns.
        smooth: episodes averaged for each point of a curve.
        target: a return to mark with a line.

    Example:
        >>> picture = LivePicture()
        >>> picture.draw({}, env_steps=1000)  # before the first episode has ended
        >>> picture.jpeg()[:2].hex()
        'ffd8'
    """

    def __init__(
        self, panels: Sequence[str] = (), smooth: int = 20, target: float | None = None
    ) -> None:
        self.panels, self.smooth, self.target = tuple(panels), smooth, target
        self.figure = make_figure(self.panels)
        self._is_dark = is_dark()
        if self._is_dark:
            darken(self.figure.findobj())
        canvas: Any = FigureCanvasAgg(self.figure)  # untyped in matplotlib
        self._canvas = canvas
        self.figure.draw_artist(self.figure.patch)
        self._empty = canvas.copy_from_bbox(self.figure.bbox)  # pixels
        count = len(self.figure.axes)
        self._kept: list[Any] = [None] * count  # of each plot: its part of the picture
        self._shown: list[Any] = [None] * count  # what that shows: limits, legend
        self._limits: list[Limits | None] = [None] * count
        self._env_steps = 0.0  # where the axis of env steps ends
        self._moving: list[tuple[Any, Artist]] = []  # axes, and what was put onto them
        self._lines: dict[str, list[Any]] = {}  # of each panel: a line for each run
        axes = self.figure.axes[0]
        self._waiting = axes.text(
            0.5, 0.5, WAITING, ha="center", alpha=0.6, transform=axes.transAxes, animated=True
        )

    def draw(
        self,
        runs: Mapping[str, Sequence[EpisodeHistory]],
        evaluations: Sequence[Point] = (),
        scalars: Sequence[Scalars] = (),
        env_steps: float = 0.0,
        is_last: bool = False,
    ) -> None:
        """Draw what there is now, in place of what was there.

        Args:
            runs: from the names to the runs (seeds) of each, as `plot_returns` draws them.
            evaluations: (env step, mean return) of each.
            scalars: of each run.
            env_steps: where the budget ends.
            is_last: let the values' axes fit what is seen now, also if they were wider before.
        """
        for _, artist in self._moving:
            artist.remove()
        returns, *panels = self.figure.axes
        curves = draw_curves(returns, runs, self.smooth, evaluations, each=True)
        self._moving = [(returns, artist) for artist in curves]
        if self._is_dark:
            darken(curves)
        for artist in curves:
            artist.set_animated(True)  # left out of what is kept
        lines = [
            self._panel_lines(axes, name, scalars)
            for axes, name in zip(panels, self.panels, strict=True)
        ]
        begun = [history for group in runs.values() for history in group if len(history)]
        if is_last:
            self._limits = [None] * len(self._limits)
        self._widen(begun, curves, scalars, env_steps)
        self._keep([str(artist.get_label()) for artist in curves])
        for part in self._kept:
            self._canvas.restore_region(part)
        self._waiting.set_visible(not begun)
        for axes, artist in [*self._moving, (returns, self._waiting), *chain(*lines)]:
            axes.draw_artist(artist)

    def jpeg(self) -> bytes:
        """Encode what was drawn last, in a millisecond."""
        return jpeg(pixels(self._canvas))

    def png(self, quick: bool = False) -> bytes:
        """Encode what was drawn last, for keeping; the quick way merges similar colours."""
        return still(pixels(self._canvas), quick)

    def _widen(
        self,
        histories: Sequence[EpisodeHistory],
        curves: Sequence[Any],
        scalars: Sequence[Scalars],
        env_steps: float,
    ) -> None:
        """Let the axes hold the budget and all that is drawn."""
        points = [points for run in scalars for points in run.values() if points]
        ends = [h["env_step"][-1] for h in histories] + [p[-1][0] for p in points]
        self._env_steps = max(self._env_steps, OVERSHOOT * env_steps)
        if max(ends, default=0.0) > self._env_steps:  # a long iteration, or no budget was known
            self._env_steps = (OVERSHOOT if env_steps else 2.0) * max(ends)
        returns = [np.array(c.get_ydata(), float) for c in curves if isinstance(c, Line2D)]
        if self.target is not None:
            returns.append(np.array([self.target if histories else 1.2 * self.target]))
        values: list[Any] = [np.concatenate([[], *returns])]
        values += [[y for run in scalars for _, y in run.get(name, ())] for name in self.panels]
        self._limits = [roomy(y, old) for y, old in zip(values, self._limits, strict=True)]

    def _panel_lines(
        self, axes: Any, name: str, scalars: Sequence[Scalars]
    ) -> list[tuple[Any, Artist]]:
        """Bring the lines of a panel up to date, one for each run; making new ones is dear."""
        lines = self._lines.setdefault(name, [])
        for color in (PALETTE * len(scalars))[len(lines) : len(scalars)]:
            lines += axes.plot([], [], color=color, linewidth=1, animated=True)
        for line, run in zip(lines, scalars, strict=True):
            points = np.array(run.get(name, []), dtype=np.float64).reshape(-1, 2)
            line.set_data(*outline(*points.T))
            line.set_marker("." if len(points) == 1 else "")
        return [(axes, line) for line in lines]

    def _keep(self, labels: Sequence[str]) -> None:
        """Draw the plots without their curves, where other limits or another legend are due."""
        legend = [label for label in labels if not label.startswith("_")]
        for index, axes in enumerate(self.figure.axes):
            shown = (self._env_steps, self._limits[index], () if index else legend)
            if shown == self._shown[index]:
                continue
            self._shown[index] = shown
            axes.set(xlim=(0.0, self._env_steps or 1.0), ylim=self._limits[index] or (0.0, 1.0))
            if index == 0:
                draw_labels(axes, self.target)
            if self._is_dark:
                darken(axes.findobj())
            self._canvas.restore_region(self._empty)
            self.figure.draw_artist(axes)
            self._kept[index] = self._canvas.copy_from_bbox(self._part(index))

    def _part(self, index: int) -> Bbox:
        """Give a plot's part of the picture, in pixels: the returns above, the panels in a row."""
        width, height = size_in_pixels(len(self.panels))
        if index == 0:
            return Bbox.from_bounds(0, height - RETURNS_HEIGHT, width, RETURNS_HEIGHT)
        share = width / len(self.panels)
        return Bbox.from_bounds((index - 1) * share, 0, share, PANELS_HEIGHT)


def roomy(values: Any, before: Limits | None) -> Limits | None:
    """Give limits that hold zero and all finite values: those before, or else wider round ones.

    Example:
        >>> roomy([9.0, 37.0], None)
        (0.0, 40.0)
        >>> roomy([9.0, 38.0], (0.0, 40.0))
        (0.0, 40.0)
        >>> roomy([9.0, 44.0], (0.0, 40.0))
        (0.0, 60.0)
    """
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if not len(numbers):
        return before
    low, high = min(0.0, numbers.min()), max(0.0, numbers.max())
    if before is not None and before[0] <= low and high <= before[1]:
        return before
    if before is not None:
        low, high = min(low, before[0]), max(high, before[1])
    edges = ROUND_NUMBERS.tick_values(low, high if high > low else 1.0)
    return float(edges[0]), float(edges[-1])


def size_in_pixels(num_panels: int) -> tuple[int, int]:
    """Give the width and height of the picture."""
    return WIDTH, RETURNS_HEIGHT + (PANELS_HEIGHT if num_panels else 0)


def make_figure(panels: Sequence[str]) -> NotebookFigure:
    """Make a figure of fixed size, without pyplot, whose layout costs nothing per frame."""
    width, height = size_in_pixels(len(panels))
    figure = NotebookFigure(figsize=(width / DPI, height / DPI), dpi=DPI)
    unit = RETURNS_HEIGHT / height
    bottom = 1 - unit
    returns = figure.add_axes((0.12, bottom + 0.13 * unit, 0.85, 0.79 * unit))
    returns.locator_params(nbins=5)  # texts are most of what the background costs
    share = 1 / max(len(panels), 1)  # of the width
    for index, name in enumerate(panels):
        left = index * share + 0.06
        axes = figure.add_axes((left, 0.08 * bottom, share - 0.075, 0.7 * bottom))
        axes.set_title(name, fontsize="small", parse_math=False)
        axes.tick_params(labelsize="x-small", labelbottom=False)  # the env steps are those above
        axes.locator_params(nbins=3)
        axes.grid(visible=True, alpha=0.3)
    return figure
