"""Pictures in a run's logs: a curve, or a recorded episode."""

from __future__ import annotations

import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from lightning_rl.errors import ConfigError
from lightning_rl.experiments.phases import PhaseLogger
from lightning_rl.experiments.weights_and_biases import library
from lightning_rl.notebook.recording import EpisodeRecord

DPI = 120


def log_media(
    logger: Logger | None, name: str, media: Figure | EpisodeRecord, step: int | None = None
) -> None:
    """Log a figure, or a recorded episode, beside a run's scalars.

    W&B shows a figure as an image and an episode as a film. TensorBoard shows images, so an episode
    is its contact sheet there. Beside a `metrics.csv` they are files of the folder `media`.

    Args:
        logger: of a trainer, or a phase's; None logs nothing.
        name: of the picture.
        media: what `plot_returns` or `record_episode` gives, or another figure.
        step: on the x-axis, in env steps.

    Raises:
        ConfigError: if the logger is another one.

    Example:
        >>> import tempfile
        >>> from lightning_rl.stats.history import EpisodeHistory
        >>> from lightning_rl.notebook.curves import plot_returns
        >>> history = EpisodeHistory()
        >>> history.append(env_step=20, episode_return=20.0, episode_length=20)
        >>> logger = CSVLogger(tempfile.mkdtemp())
        >>> log_media(logger, "returns", plot_returns(history), step=20)
        >>> [path.name for path in Path(logger.log_dir).rglob("*.png")]
        ['returns_20.png']
    """
    shared = logger.shared if isinstance(logger, PhaseLogger) else logger
    if logger is None:
        return
    if isinstance(shared, WandbLogger):
        _log_to_wandb(logger, name, media, step)
    elif isinstance(shared, TensorBoardLogger):
        shared.experiment.add_image(_named(logger, name), _pixels(media), step, dataformats="HWC")
    elif isinstance(shared, CSVLogger):
        _write(media, Path(shared.log_dir) / "media", _named(logger, name), step)
    else:
        raise ConfigError(
            f"log_media got {type(logger).__name__}; expected a CSVLogger, a TensorBoardLogger, a "
            "WandbLogger or a phase's logger. Others' `experiment` takes pictures in its own way."
        )


def _named(logger: Logger, name: str) -> str:
    return f"{logger.name}/{name}" if isinstance(logger, PhaseLogger) else name


def _pixels(media: Figure | EpisodeRecord) -> NDArray[np.uint8]:
    """Give one picture, (rows, columns, 3)."""
    if isinstance(media, EpisodeRecord):
        return np.asarray(media.contact_sheet().convert("RGB"))
    buffer = BytesIO()
    media.savefig(buffer, format="png", dpi=DPI)
    return np.asarray(Image.open(buffer).convert("RGB"))


def _log_to_wandb(
    logger: Logger, name: str, media: Figure | EpisodeRecord, step: int | None
) -> None:
    wandb = library()
    with tempfile.TemporaryDirectory() as scratch:  # W&B copies from there when it logs
        path = Path(scratch) / ("film.gif" if isinstance(media, EpisodeRecord) else "picture.png")
        _save(media, path)
        shown = wandb.Image(str(path)) if path.suffix == ".png" else wandb.Video(str(path))
        logger.log_metrics({name: shown}, step)


def _write(media: Figure | EpisodeRecord, folder: Path, name: str, step: int | None) -> None:
    ending = "gif" if isinstance(media, EpisodeRecord) else "png"
    path = folder / f"{name if step is None else f'{name}_{step}'}.{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(media, path)


def _save(media: Figure | EpisodeRecord, path: Path) -> None:
    if isinstance(media, EpisodeRecord):
        media.save(path)
    else:
        media.savefig(path, dpi=DPI)
