"""Curves of episode returns, one run or many compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightning_rl.agent import LightningAgentModule
from lightning_rl.errors import StateError
from lightning_rl.notebook.figures import PALETTE, NotebookFigure
from lightning_rl.stats.history import EpisodeHistory

CURVE_POINTS = 400
PIXEL_COLUMNS = 600  # about the pixels of a picture's width: more points can't be seen
Run = LightningAgentModule | EpisodeHistory
Array = NDArray[np.float64]


def plot_returns(
    runs: Run | Sequence[Run] | Mapping[str, Run | Sequence[Run]],
    smooth: int = 20,
    target: float | None = None,
    path: str | None = None,
) -> Figure:
    """Plot episode returns against env steps.

    One run is drawn as its episodes and a smoothed curve with a band of one standard deviation
    over the episodes smoothed. Several runs (seeds) of one name are drawn as the mean of their
    smoothed curves with a band of one standard deviation over the runs.

    Args:
        runs: a trained agent or its `episodes`; a list of them, as seeds of one algorithm; or a
            dict from names to either, to compare algorithms.
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
    draw_returns(figure.add_subplot(), histories, smooth, target)
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def _history(run: Run) -> EpisodeHistory:
    history = run if isinstance(run, EpisodeHistory) else run.episodes
    if len(history) == 0:
        raise StateError("a run has no finished episode, so there is no return to plot; train it.")
    return history


def draw_returns(
    axes: Any,
    runs: Mapping[str, Sequence[EpisodeHistory]],
    smooth: int = 20,
    target: float | None = None,
    evaluations: Sequence[tuple[float, float]] = (),
) -> None:
    """Draw the returns of named groups of runs into axes, in place of what was there.

    Args:
        axes: of matplotlib.
        runs: from the names to the runs (seeds) of each, as `plot_returns` draws them.
        smooth: episodes averaged for each point of a curve.
        target: a return to mark with a line.
        evaluations: (env step, mean return) of each evaluation, drawn as diamonds.
    """
    clear(axes)
    for index, (name, histories) in enumerate(runs.items()):
        color = PALETTE[index % len(PALETTE)]
        if len(histories) == 1:
            _draw_run(axes, histories[0], smooth, color, name)
        else:
            _draw_seeds(axes, histories, smooth, color, name)
    if evaluations:
        steps, means = zip(*evaluations, strict=True)
        axes.plot(steps, means, "D", color=rcParams["text.color"], ms=4, label="evaluation")
    if target is not None:
        axes.axhline(target, color="grey", linestyle="--", linewidth=1, label=f"target {target:g}")
        axes.autoscale_view()  # a line within the old limits would be left without a margin
    axes.set(xlabel="env steps", ylabel="episode return")
    axes.grid(visible=True, alpha=0.3)
    if any(runs) or target is not None or evaluations:
        axes.legend(loc="upper left")  # where a rising curve leaves room; "best" is slow


def clear(axes: Any) -> None:
    """Take everything drawn out of axes; labels, ticks and grid, which are slow to make, stay."""
    for artist in [*axes.lines, *axes.collections]:
        artist.remove()
    axes.relim()


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


def _draw_run(axes: Any, history: EpisodeHistory, smooth: int, color: str, name: str) -> None:
    steps, returns = history["env_step"], history["episode_return"]
    axes.plot(*outline(steps, returns), ".", color=color, alpha=0.25, markersize=3)
    kept = thinned(len(steps))
    means, deviations = rolling(returns, smooth, kept)
    low = (means - deviations).clip(returns.min())
    high = (means + deviations).clip(max=returns.max())
    axes.fill_between(steps[kept], low, high, color=color, alpha=0.15, lw=0)
    axes.plot(steps[kept], means, color=color, label=name or f"mean of {smooth} episodes")


def _draw_seeds(
    axes: Any, histories: Sequence[EpisodeHistory], smooth: int, color: str, name: str
) -> None:
    last = min(history["env_step"][-1] for history in histories)
    steps = np.linspace(0, last, CURVE_POINTS)
    curves = np.stack(
        [
            np.interp(steps, h["env_step"], rolling(h["episode_return"], smooth)[0])
            for h in histories
        ]
    )
    mean, deviation = curves.mean(0), curves.std(0)
    axes.fill_between(steps, mean - deviation, mean + deviation, color=color, alpha=0.2, lw=0)
    axes.plot(steps, mean, color=color, label=f"{name or 'mean'} of {len(histories)} runs")
