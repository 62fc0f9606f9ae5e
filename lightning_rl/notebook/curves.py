"""Curves of episode returns, one run or many compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from matplotlib import rcParams
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightning_rl.errors import StateError
from lightning_rl.notebook.figures import PALETTE, NotebookFigure
from lightning_rl.stats.aggregates import bootstrap_interval, interquartile_mean
from lightning_rl.stats.history import EpisodeHistory

CURVE_POINTS = 400
FEWEST_OF_A_BAND = 3  # runs
PIXEL_COLUMNS = 600  # about the pixels of a picture's width: more points can't be seen
LEGEND_LETTERS = 80  # of a line as wide as a picture, with 6 for what stands before each name
TARGET = "target"  # the line's id in a figure
OF_EPISODES, OF_RUNS = "± std. deviation", "95 % interval"  # what bands mean
Point = tuple[float, float]  # env step, value
Array = NDArray[np.float64]


class Trained(Protocol):
    """Whatever has a history of training: an agent, or a run of `fit_seeds`."""

    @property
    def episodes(self) -> EpisodeHistory:
        """Its training episodes."""


Run = Trained | EpisodeHistory


def plot_returns(
    runs: Run | Sequence[Run] | Mapping[str, Run | Sequence[Run]],
    smooth: int = 20,
    target: float | None = None,
    path: str | None = None,
) -> Figure:
    """Plot episode returns against env steps.

    One run is drawn as its episodes and a smoothed curve with a band of one standard deviation
    over the episodes smoothed. Several runs (seeds) of one name are drawn as the interquartile mean
    of their smoothed curves with its 95 % bootstrap interval (`lightning_rl.stats.aggregates`).

    Args:
        runs: a trained agent or its `episodes`; a list of them, or what `fit_seeds` gives, as seeds
            of one algorithm; or a dict from names to either, to compare algorithms.
        smooth: episodes averaged for each point of a curve.
        target: a return to mark with a line, such as the one that counts as solved.
        path: where to write the picture; its ending chooses the format (`.png`, `.svg`, `.pdf`).

    Returns:
        The figure; a notebook shows it when it is a cell's last line.

    Raises:
        StateError: if a run has not finished an episode.

    Example:
        >>> history = EpisodeHistory()
        >>> for step in range(20, 400, 20):
        ...     history.append(env_step=step, episode_return=step / 4, episode_length=20)
        >>> figure = plot_returns(history, target=100)
        >>> figure.axes[0].get_xlabel()
        'env steps'
    """
    named = runs if isinstance(runs, Mapping) else {"": runs}
    histories = {
        name: [_history(run) for run in (group if isinstance(group, Sequence) else [group])]
        for name, group in named.items()
    }
    figure = NotebookFigure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    draw_curves(axes, histories, smooth)
    draw_labels(axes, target)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def _history(run: Run) -> EpisodeHistory:
    history = run if isinstance(run, EpisodeHistory) else run.episodes
    if len(history) == 0:
        raise StateError("a run has no finished episode, so there is no return to plot; train it.")
    return history


def draw_curves(
    axes: Any,
    runs: Mapping[str, Sequence[EpisodeHistory]],
    smooth: int = 20,
    evaluations: Sequence[Point] = (),
    each: bool = False,
) -> list[Artist]:
    """Draw the returns of named groups of runs into axes.

    Args:
        axes: of matplotlib.
        runs: from the names to the runs (seeds) of each, as `plot_returns` draws them.
        smooth: episodes averaged for each point of a curve.
        evaluations: (env step, mean return) of each evaluation, drawn as diamonds.
        each: draw the curve of each run of a group too, and its mean with a band from three on.

    Returns:
        What was drawn.
    """
    drawn: list[Artist] = []
    for index, (name, histories) in enumerate(runs.items()):
        color = PALETTE[index % len(PALETTE)]
        begun = [history for history in histories if len(history)]
        if len(begun) > 1 and each:
            drawn += _draw_each(axes, begun, smooth, color, name)
        elif len(begun) > 1:
            drawn += _draw_seeds(axes, begun, smooth, color, name)
        else:
            drawn += _draw_run(axes, [*begun, *histories][0], smooth, color, name)
    for meaning in (OF_EPISODES, OF_RUNS):  # named once in the legend
        bands = [artist for artist in drawn if artist.get_gid() == meaning]
        for band in bands[:1]:
            band.set_label(meaning)
    if evaluations:
        steps, means = zip(*evaluations, strict=True)
        color = rcParams["text.color"]
        drawn += axes.plot(steps, means, "D", color=color, ms=4, label="evaluation")
    return drawn


def draw_labels(axes: Any, target: float | None = None) -> None:
    """Draw what says how to read the curves: the axes' names, a grid, a target, a legend."""
    for line in [line for line in axes.lines if line.get_gid() == TARGET]:
        line.remove()
    if target is not None:
        style = {"color": "grey", "linestyle": "--", "linewidth": 1, "gid": TARGET}
        axes.axhline(target, label=f"target {target:g}", **style)
        axes.autoscale_view()  # a line within the limits would be left without a margin
    axes.set(xlabel="env steps", ylabel="episode return")
    axes.grid(visible=True, alpha=0.3)
    named = sorted(
        zip(*axes.get_legend_handles_labels(), strict=True),
        key=lambda pair: pair[1] in (OF_EPISODES, OF_RUNS),  # bands come last
    )
    if named:
        handles, labels = zip(*named, strict=True)
        above = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.2}
        is_long = sum(len(label) + 6 for label in labels) > LEGEND_LETTERS
        inside = {"loc": "upper left", "fontsize": "small", "framealpha": 0.6}
        row = {"ncols": 4, "frameon": False, "columnspacing": 1.0, "handlelength": 1.5}
        style = inside if is_long else {**above, **row}
        legend = axes.legend(
            handles, labels, **style
        )  # above, where no curve goes, if it is one line
        for text in legend.get_texts():
            text.set_parse_math(False)  # a name may have a $


def rolling(values: Array, window: int, at: NDArray[np.int64] | None = None) -> tuple[Array, Array]:
    """Give the mean and standard deviation of the last `window` values at each point.

    Args:
        values: (n,).
        window: how many values; fewer where fewer came before.
        at: (m,) indices of the points wanted. Default: all.

    Returns:
        Means and deviations, (m,).
    """
    sums = np.cumsum(np.concatenate([[0.0], values]))
    squares = np.cumsum(np.concatenate([[0.0], values**2]))
    stop = (np.arange(len(values)) if at is None else at) + 1
    start = np.maximum(stop - window, 0)
    means = (sums[stop] - sums[start]) / (stop - start)
    variances = (squares[stop] - squares[start]) / (stop - start) - means**2
    return means, np.sqrt(np.maximum(variances, 0.0))


def outline(x: Array, y: Array, columns: int = PIXEL_COLUMNS) -> tuple[Array, Array]:
    """Keep the lowest and the highest point of each column, so that the picture stays the same.

    Args:
        x: (n,) in rising order.
        y: (n,).
        columns: how many columns the range of `x` is cut into; fewer than half as many points
            are returned as they are.

    Returns:
        x and y, at most (2 · columns,).

    Example:
        >>> x = np.arange(1000.0)
        >>> kept, _ = outline(x, np.sin(x), columns=10)
        >>> len(kept)
        20
    """
    if len(x) <= 2 * columns:
        return x, y
    edges = np.linspace(x[0], x[-1], columns, endpoint=False)
    starts = np.unique(np.searchsorted(x, edges))
    extremes = [np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts)]
    return np.repeat(x[starts], 2), np.stack(extremes, axis=1).ravel()


def thinned(length: int, points: int = PIXEL_COLUMNS) -> NDArray[np.int64]:
    """Give at most `points` evenly spread indices of a curve, its first and last among them."""
    return np.unique(np.linspace(0, length - 1, min(length, points)).astype(np.int64))


def _draw_run(
    axes: Any, history: EpisodeHistory, smooth: int, color: str, name: str
) -> list[Artist]:
    label = name or f"mean of {smooth} episodes"
    if not len(history):  # it has its place in the legend
        return [
            _fill(axes, [], [], [], color, OF_EPISODES),
            *axes.plot([], color=color, label=label),
        ]
    steps, returns = history["env_step"], history["episode_return"]
    points = axes.plot(*outline(steps, returns), ".", color=color, alpha=0.25, markersize=3)
    kept = thinned(len(steps))
    means, deviations = rolling(returns, smooth, kept)
    band = _draw_band(axes, steps[kept], means, deviations, returns, color)
    return [band, *points, *axes.plot(steps[kept], means, color=color, label=label)]


def _draw_seeds(
    axes: Any, histories: Sequence[EpisodeHistory], smooth: int, color: str, name: str
) -> list[Artist]:
    last = min(history["env_step"][-1] for history in histories)
    steps = np.linspace(0, last, CURVE_POINTS)
    curves = np.stack(
        [
            np.interp(steps, h["env_step"], rolling(h["episode_return"], smooth)[0])
            for h in histories
        ]
    )
    mean = interquartile_mean(curves)
    low, high = _interval(curves.tobytes(), len(curves))
    band = _fill(axes, steps, low, high, color, OF_RUNS)
    label = f"{name or ('mean' if len(histories) < 4 else 'interquartile mean')}"
    return [band, *axes.plot(steps, mean, color=color, label=f"{label} ({len(histories)} runs)")]


@lru_cache(maxsize=32)
def _interval(curves: bytes, num_runs: int) -> tuple[Array, Array]:
    """Compute a band once for all frames of a live plot."""
    return bootstrap_interval([np.frombuffer(curves).reshape(num_runs, -1)])


def _draw_each(
    axes: Any, histories: Sequence[EpisodeHistory], smooth: int, color: str, name: str
) -> list[Artist]:
    drawn: list[Artist] = []
    has_band = len(histories) >= FEWEST_OF_A_BAND
    for history in histories:
        kept = thinned(len(history))
        means, _ = rolling(history["episode_return"], smooth, kept)
        style = {"color": color, "linewidth": 0.8, "alpha": 0.5} if has_band else {"color": color}
        drawn += axes.plot(history["env_step"][kept], means, label="_", **style)
    if has_band:
        return drawn + _draw_seeds(axes, histories, smooth, color, name)
    drawn[0].set_label(f"{name or 'mean'} ({len(histories)} runs)")
    return drawn


def _draw_band(
    axes: Any, steps: Array, means: Array, deviations: Array, values: Array, color: str
) -> Artist:
    """Draw one standard deviation to each side, but not beyond what has been."""
    low = (means - deviations).clip(values.min())
    high = (means + deviations).clip(max=values.max())
    return _fill(axes, steps, low, high, color, OF_EPISODES)


def _fill(axes: Any, steps: Any, low: Any, high: Any, color: str, meaning: str) -> Artist:
    band: Artist = axes.fill_between(steps, low, high, color=color, alpha=0.2, lw=0, gid=meaning)
    return band
