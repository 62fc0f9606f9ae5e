"""Pictures of what a world model predicts, beside the truth."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from lightning_rl.notebook.figures import PALETTE, NotebookFigure
from lightning_rl.worlds.horizon import compare, horizon_errors
from lightning_rl.worlds.probe import Probe
from lightning_rl.worlds.world_model import WorldModel

PANELS_PER_ROW = 2  # panels side by side


def plot_predictions(
    model: WorldModel,
    windows: dict[str, Tensor],
    index: int = 0,
    path: str | None = None,
    probe: Probe | None = None,
) -> Figure:
    """Plot what happened against what the model predicts, open loop, from the first observation.

    One panel a number of the observation: the truth, the mean of the members, and a band of two
    standard deviations over members, which is where they disagree.

    Args:
        model: a trained world model.
        windows: B windows of k consecutive steps, (B, k, ...), best ones it was not trained on,
            such as `dataset.with_window(20)[range(256)]`.
        index: which of them.
        path: where to write the picture; its ending chooses the format (`.png`, `.svg`, `.pdf`).
        probe: reads the true state off percepts; `windows` are then those of `join_windows`, and
            the panels show the state.

    Returns:
        The figure; a notebook shows it when it is a cell's last line.

    Raises:
        ShapeError: if these are no windows, or another environment's.

    Example:
        >>> import torch
        >>> from gymnasium import spaces
        >>> model = WorldModel()
        >>> model.build(spaces.Box(-1, 1, (4,)), spaces.Discrete(2))
        >>> names = ("observations", "next_observations")
        >>> windows = {name: torch.zeros(1, 9, 4) for name in names}
        >>> windows |= {"actions": torch.zeros(1, 9), "rewards": torch.zeros(1, 9)}
        >>> figure = plot_predictions(model, windows)
        >>> figure.axes[3].get_ylabel()
        'observation 3'
    """
    chosen = {name: values[index : index + 1] for name, values in windows.items()}
    seen = compare(model, chosen, probe)
    truth, members = seen.truth[0], seen.members[:, 0]  # (k, D), (E, k, D)
    mean, band = members.mean(0), 2 * members.std(0, correction=0)
    name = "observation" if probe is None else "state"
    size = truth.shape[-1]
    rows = -(-size // PANELS_PER_ROW)
    figure = NotebookFigure(figsize=(8, 2.2 * rows), layout="constrained")
    panels = figure.subplots(rows, PANELS_PER_ROW, sharex=True, squeeze=False).ravel()
    for number, axes in enumerate(panels):
        if number < size:
            _draw_panel(axes, truth[:, number], mean[:, number], band[:, number])
            axes.set_ylabel(f"{name} {number}")
        axes.set_visible(number < size)
    panels[0].legend(loc="best")
    panels[0].xaxis.set_major_locator(MaxNLocator(integer=True))  # shared by all
    figure.supxlabel("steps ahead")
    return _saved(figure, path)


def _draw_panel(axes: Any, truth: Tensor, mean: Tensor, band: Tensor) -> None:
    ahead = range(1, len(truth) + 1)
    axes.fill_between(ahead, mean - band, mean + band, color=PALETTE[0], alpha=0.2, lw=0)
    axes.plot(ahead, mean, color=PALETTE[0], label="predicted")
    axes.plot(ahead, truth, color=PALETTE[6], linestyle="--", linewidth=1, label="true")
    axes.grid(alpha=0.3)


def plot_horizon_errors(
    model: WorldModel,
    windows: dict[str, Tensor],
    path: str | None = None,
    probe: Probe | None = None,
) -> Figure:
    """Plot the error of predictions 1 to k steps ahead, with what the model itself expects.

    Args:
        model: a trained world model.
        windows: as `lightning_rl.worlds.horizon_errors` takes them.
        path: where to write the picture.
        probe: as `lightning_rl.worlds.horizon_errors` takes it.

    Returns:
        The figure.

    Raises:
        ShapeError: if these are no windows, or another environment's.

    Example:
        >>> import torch
        >>> from gymnasium import spaces
        >>> model = WorldModel()
        >>> model.build(spaces.Box(-1, 1, (4,)), spaces.Discrete(2))
        >>> names = ("observations", "next_observations")
        >>> windows = {name: torch.zeros(1, 9, 4) for name in names}
        >>> windows |= {"actions": torch.zeros(1, 9), "rewards": torch.zeros(1, 9)}
        >>> figure = plot_horizon_errors(model, windows)
        >>> figure.axes[0].get_xlabel()
        'steps ahead'
    """
    errors = horizon_errors(model, windows, probe)
    figure = NotebookFigure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    ahead = range(1, len(errors.error) + 1)
    axes.plot(ahead, errors.error.cpu(), color=PALETTE[0], label="error of the mean prediction")
    axes.plot(ahead, errors.disagreement.cpu(), color=PALETTE[1], label="members' disagreement")
    axes.plot(ahead, errors.no_change.cpu(), color="grey", linestyle="--", label="nothing moves")
    axes.set(xlabel="steps ahead", ylabel="standard deviations in the data")
    axes.set_yscale("log", nonpositive="clip")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    return _saved(figure, path)


def _saved(figure: Figure, path: str | None) -> Figure:
    if path is not None:
        figure.savefig(path, dpi=120)
    return figure
