"""A curve and a recorded episode in the logs: images, films, files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.loggers.logger import DummyLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb_files import curve, of_kind, wandb_records

from lightning_rl import plot_returns
from lightning_rl.errors import ConfigError
from lightning_rl.experiments.media import log_media
from lightning_rl.experiments.phases import PhaseLog
from lightning_rl.notebook.recording import EpisodeRecord
from lightning_rl.stats.history import EpisodeHistory


@pytest.fixture
def episode() -> EpisodeRecord:
    frames = np.zeros((4, 20, 30, 3), np.uint8)
    frames[1:] = 255
    return EpisodeRecord(frames, np.zeros(3, int), np.ones(3), True, False)


@pytest.fixture
def history() -> EpisodeHistory:
    history = EpisodeHistory()
    for step in range(10, 100, 10):
        history.append(step, float(step), 10)
    return history


def test_wandb_has_an_image_and_a_film(
    tmp_path: Path, episode: EpisodeRecord, history: EpisodeHistory
) -> None:
    with PhaseLog("wandb", tmp_path) as log:
        log_media(log.phase("agent"), "returns", plot_returns(history), 90)
        log_media(log.phase("agent"), "episode", episode, 90)
    (records,) = wandb_records(log.folder).values()
    kinds = {"returns": "image-file", "episode": "video-file"}
    for name, kind in kinds.items():
        assert curve(records, "agent/step", f"agent/{name}._type") == [(90, kind)]
    files = [file["path"] for said in of_kind(records, "files") for file in said["files"]]
    (film,) = (path for path in files if path.endswith(".gif"))
    (saved,) = log.folder.rglob(f"files/{film}")
    with Image.open(saved) as picture:
        assert getattr(picture, "n_frames", 1) > 1


def test_tensorboard_has_images(
    tmp_path: Path, episode: EpisodeRecord, history: EpisodeHistory
) -> None:
    logger = TensorBoardLogger(str(tmp_path))
    log_media(logger, "returns", plot_returns(history), 90)
    log_media(logger, "episode", episode, 90)
    logger.save()
    events = EventAccumulator(logger.log_dir).Reload()
    for name in ("returns", "episode"):
        (image,) = events.Images(name)
        assert image.step == 90
        assert image.width > 30


def test_beside_a_csv_they_are_files(tmp_path: Path, episode: EpisodeRecord) -> None:
    with PhaseLog("csv", tmp_path) as log:
        log_media(log.phase("agent"), "episode", episode, 90)
    assert (log.folder / "media" / "agent" / "episode_90.gif").stat().st_size > 0


def test_without_a_logger_nothing_is_logged_and_another_one_is_refused(
    tmp_path: Path, episode: EpisodeRecord
) -> None:
    log_media(None, "episode", episode)
    logger = CSVLogger(tmp_path, name="", version="")
    log_media(logger, "episode", episode)
    assert (tmp_path / "media" / "episode.gif").exists()
    with pytest.raises(ConfigError, match="got DummyLogger; expected a CSVLogger"):
        log_media(DummyLogger(), "episode", episode)
