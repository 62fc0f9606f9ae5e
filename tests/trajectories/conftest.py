"""Datasets that several tests read."""

from pathlib import Path

import pytest
from stored import fill, write_episodes

from lightning_rl.trajectories.dataset import TrajectoryDataset


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    fill(tmp_path / "dataset")
    return tmp_path / "dataset"


@pytest.fixture
def dataset(tmp_path: Path) -> TrajectoryDataset:
    write_episodes(tmp_path / "dataset", [4, 1, 6, 3], [1, 2, 0, 3])
    return TrajectoryDataset(tmp_path / "dataset")
