"""Pictures of a run: its return curve."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightning_rl.agent import LightningAgentModule
from lightning_rl.errors import StateError
from lightning_rl.history import EpisodeHistory

# Okabe and Ito's palette, which colour-blind readers can tell apart.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
CURVE_POINTS = 400

Run = LightningAgentModule | EpisodeHistory


class NotebookFigure(Figure):
    """A matplotlib figure that Jupyter shows as a picture although pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        """Draw the figure; IPython looks for this name."""
        picture = io.BytesIO()
        self.savefig(picture, format="png", dpi=100)
        return picture.getvalue()


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
    figure = NotebookFigure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    named = runs if isinstance(runs, Mapping) else {"": runs}
    for index, (name, group) in enumerate(named.items()):
        histories = [_history(run) for run in (group if isinstance(group, Sequence) else [group])]
        color = PALETTE[index % len(PALETTE)]
        if len(histories) == 1:
            _draw_run(axes, histories[0], smooth, color, name)
        else:
            _draw_seeds(axes, histories, smooth, color, name)
    if target is not None:
        axes.axhline(target, color="grey", linestyle="--", linewidth=1, label=f"target {target:g}")
    axes.set(xlabel="env steps", ylabel="episode return")
    axes.grid(alpha=0.3)
    if any(named) or target is not None:
        axes.legend(loc="best")
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure


def _history(run: Run) -> EpisodeHistory:
    history = run if isinstance(run, EpisodeHistory) else run.episodes
    if len(history) == 0:
        raise StateError("a run has no finished episode, so there is no return to plot; train it.")
    return history


def rolling(values: NDArray[np.float64], window: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Give the mean and standard deviation of the last `window` values at each point, (n,)."""
    sums = np.cumsum(np.concatenate([[0.0], values]))
    squares = np.cumsum(np.concatenate([[0.0], values**2]))
    stop = np.arange(1, len(values) + 1)
    start = np.maximum(stop - window, 0)
    means = (sums[stop] - sums[start]) / (stop - start)
    variances = (squares[stop] - squares[start]) / (stop - start) - means**2
    return means, np.sqrt(np.maximum(variances, 0.0))


def _draw_run(axes: Any, history: EpisodeHistory, smooth: int, color: str, name: str) -> None:
    steps, returns = history["env_step"], history["episode_return"]
    means, deviations = rolling(returns, smooth)
    low, high = (
        (means - deviations).clip(returns.min()),
        (means + deviations).clip(max=returns.max()),
    )
    axes.plot(steps, returns, ".", color=color, alpha=0.25, markersize=3)
    axes.fill_between(steps, low, high, color=color, alpha=0.15, lw=0)
    axes.plot(steps, means, color=color, label=name or f"mean of {smooth} episodes")


def _draw_seeds(
    axes: Any, histories: list[EpisodeHistory], smooth: int, color: str, name: str
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
