"""Files of trajectories: damage is found, nothing is believed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from gymnasium import spaces
from stored import ARRAYS, POINT, fill, read_all, sign
from torch.utils.data import DataLoader

from lightning_rl.errors import DatasetError
from lightning_rl.locks import LOCK
from lightning_rl.trajectories import files as files_module
from lightning_rl.trajectories.dataset import TrajectoryDataset
from lightning_rl.trajectories.files import TrajectoryFiles
from lightning_rl.trajectories.manifest import MANIFEST
from lightning_rl.trajectories.writer import TrajectoryWriter


def test_the_files_are_plain_npy_arrays_and_json(directory: Path) -> None:
    assert sorted(file.name for file in directory.iterdir()) == sorted([*ARRAYS, MANIFEST, LOCK])
    arrays = {name: np.load(directory / name, allow_pickle=False) for name in ARRAYS}
    assert arrays["observations.npy"].shape == (210 + 20, 2)
    assert len(arrays["actions.npy"]) == len(arrays["rewards.npy"]) == 210
    assert arrays["episodes.npy"].tolist() == [[n, 1, 1, 0] for n in range(1, 21)]
    manifest = json.loads((directory / MANIFEST).read_text())
    assert (manifest["num_steps"], manifest["num_episodes"]) == (210, 20)


# ---- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapped_bytes", [0, 2**27])
def test_every_flipped_bit_is_found_on_reading(
    directory: Path, monkeypatch: pytest.MonkeyPatch, mapped_bytes: int
) -> None:
    monkeypatch.setattr(files_module, "MAPPED_BYTES", mapped_bytes)
    rng, good = np.random.default_rng(0), read_all(directory)
    for name in [*ARRAYS, MANIFEST]:
        intact = (directory / name).read_bytes()
        for _ in range(50):
            damaged = bytearray(intact)
            damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
            (directory / name).write_bytes(damaged)
            with pytest.raises(DatasetError, match=r"damaged|newer|Update"):
                read_all(directory)
        (directory / name).write_bytes(intact)
    TrajectoryDataset(directory).verify()
    assert read_all(directory) == good


@pytest.mark.parametrize("mapped_bytes", [0, 2**27])
@pytest.mark.parametrize("name", ["observations", "actions", "rewards"])
def test_what_is_read_was_compared_with_its_checksum(
    directory: Path, monkeypatch: pytest.MonkeyPatch, name: str, mapped_bytes: int
) -> None:
    """Chunk by chunk, whatever it is read by; the chunks before are of use still."""
    monkeypatch.setattr(files_module, "MAPPED_BYTES", mapped_bytes)
    fill(directory, 3, append=True)
    with (directory / f"{name}.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    dataset = TrajectoryDataset(directory)
    assert len(dataset[range(210)]["rewards"]) == 210
    assert len(dataset.episode(19)["rewards"]) == 20
    reads: list[Callable[[], Any]] = [
        lambda: dataset[210],
        lambda: dataset[[0, -1]],
        lambda: dataset.episode(22),
        lambda: dataset.with_window(2)[[-1]],
        lambda: dataset.split(0.5)[0].copy_to(directory / "copy"),
        lambda: list(DataLoader(dataset, batch_size=7)),
        dataset.verify,
    ]
    for read in reads:
        with pytest.raises(DatasetError, match=rf"{name}\.npy was altered"):
            read()
    assert not (directory / "copy").exists()


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on one core
def test_a_chunk_is_compared_once_for_all_workers(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "MAPPED_BYTES", 0)
    dataset, other = TrajectoryDataset(directory), TrajectoryDataset(directory)
    list(DataLoader(dataset, batch_size=50, num_workers=2, multiprocessing_context="fork"))
    with (directory / "rewards.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    assert torch.isfinite(dataset[range(209)]["rewards"]).all()  # it isn't compared again
    with pytest.raises(DatasetError, match="altered"):
        other[0]


@pytest.mark.parametrize("name", [*ARRAYS, MANIFEST])
def test_a_file_that_is_shorter_missing_or_something_else_is_found(
    directory: Path, name: str
) -> None:
    intact = (directory / name).read_bytes()
    cuts = [0, 1, 7, 64, 127, 128, len(intact) // 2, len(intact) - 1]
    others = [b"garbage", b"\x93NUMPY" * 50, intact[::-1], b"{}", b"[" * 100_000, b"null"]
    for content in [intact[:size] for size in cuts if size < len(intact)] + others:
        (directory / name).write_bytes(content)
        with pytest.raises(DatasetError):
            TrajectoryDataset(directory)
    (directory / name).unlink()
    with pytest.raises(DatasetError):
        TrajectoryDataset(directory)


def test_an_open_dataset_finds_what_was_altered_since(directory: Path) -> None:
    dataset = TrajectoryDataset(directory)
    dataset.verify()
    with (directory / "rewards.npy").open("r+b") as file:
        file.seek(130)
        file.write(b"x")
    with pytest.raises(DatasetError, match=r"rewards\.npy was altered"):
        dataset.verify()
    (directory / "rewards.npy").unlink()
    with pytest.raises(DatasetError, match="No such file"):
        dataset.verify()


def test_a_directory_without_trajectories_says_what_makes_them(tmp_path: Path) -> None:
    for missing in (tmp_path, tmp_path / "none"):
        with pytest.raises(DatasetError, match="make_random_trajectory"):
            TrajectoryDataset(missing)


def test_an_array_with_objects_is_never_unpickled(directory: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "sprung",)

    np.save(directory / "rewards.npy", np.array([Trap()] * 210), allow_pickle=True)
    with pytest.raises(DatasetError, match=r"rewards\.npy"):
        TrajectoryDataset(directory)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("name", [*ARRAYS, MANIFEST])
@pytest.mark.parametrize("kind", ["link", "pipe", "directory"])
def test_what_is_no_regular_file_is_not_opened(directory: Path, name: str, kind: str) -> None:
    file = directory / name
    outside = shutil.move(file, directory.parent / name)
    make = {"link": lambda: file.symlink_to(outside), "pipe": lambda: os.mkfifo(file)}
    make.get(kind, file.mkdir)()
    with pytest.raises(DatasetError, match="regular file"):
        TrajectoryDataset(directory)
    with pytest.raises(DatasetError, match="regular file"):
        fill(directory, append=True)


def test_marks_that_can_not_be_are_found_on_opening(directory: Path) -> None:
    intact = np.load(directory / "episodes.npy")
    for row, column, value in [(0, 0, 0), (0, 0, -5), (0, 0, 2), (3, 1, 2), (3, 2, -1)]:
        marks = intact.copy()
        marks[row, column] = value
        np.save(directory / "episodes.npy", marks)
        with pytest.raises(DatasetError, match=r"episodes\.npy was altered"):
            TrajectoryDataset(directory)
        sign(directory)
        with pytest.raises(DatasetError, match="impossible"):
            TrajectoryDataset(directory)


# ---- size ----------------------------------------------------------------------------------------


def write_long(directory: Path, num_chunks: int) -> None:
    """Write 1,000 episodes of 100 env steps a chunk, 3.2 MB."""
    writer = TrajectoryWriter(directory, POINT, spaces.Discrete(2))
    values = np.random.default_rng(0).random((101, 2))
    for _ in range(num_chunks):
        for _ in range(1000):
            writer.add(values, np.zeros(100), values[1:, 0], terminated=True, truncated=False)
        writer.flush()


def test_memory_stays_flat_while_more_is_read_than_may_be_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_long(tmp_path, num_chunks=8)  # 22 MB
    monkeypatch.setattr(files_module, "MAPPED_BYTES", 2**20)
    dataset, rng = TrajectoryDataset(tmp_path, window=5), np.random.default_rng(0)
    assert len(dataset) == 8 * 1000 * 96
    dataset[rng.integers(len(dataset), size=256)]
    before = psutil.Process().memory_info().rss
    for _ in range(300):
        dataset[rng.integers(len(dataset), size=256)]
    assert psutil.Process().memory_info().rss - before < 10e6


def test_files_are_closed_with_the_dataset(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for mapped in (0, 2**27):
        monkeypatch.setattr(files_module, "MAPPED_BYTES", mapped)
        before = psutil.Process().num_fds()
        files = TrajectoryFiles(directory)
        assert psutil.Process().num_fds() > before
        del files
        assert psutil.Process().num_fds() == before


def test_a_file_that_shrinks_while_it_is_read_is_a_typed_error(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "MAPPED_BYTES", 0)
    dataset, other = TrajectoryDataset(directory), TrajectoryDataset(directory)
    dataset[range(len(dataset))]
    os.truncate(directory / "rewards.npy", 200)
    with pytest.raises(DatasetError, match="shorter"):
        dataset[range(len(dataset))]
    with pytest.raises(DatasetError, match="altered"):
        other[0]
