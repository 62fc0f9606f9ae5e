"""Writing trajectories: whatever fails, what was there before stays readable."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stored import ARRAYS, POINT, fill, read_all

from lightning_rl.errors import (
    ConfigError,
    DatasetError,
    LightningRLError,
    LockedError,
    ShapeError,
    SpaceError,
)
from lightning_rl.locks import LOCK
from lightning_rl.trajectories import writer as writer_module
from lightning_rl.trajectories.collect import make_random_trajectory
from lightning_rl.trajectories.dataset import TrajectoryDataset
from lightning_rl.trajectories.manifest import MANIFEST
from lightning_rl.trajectories.writer import TrajectoryWriter


def test_appending_leaves_one_plain_array_a_field(directory: Path) -> None:
    fill(directory, 3, append=True)
    assert np.load(directory / "rewards.npy").shape == (216,)
    TrajectoryDataset(directory).verify()


@pytest.mark.parametrize(
    ("name", "shape"), [("observations", (3, 2)), ("observations", (4, 1)), ("actions", (2,)),
                        ("actions", (3, 1)), ("rewards", (3, 1)), ("rewards", (0,))],
)  # fmt: skip
def test_an_episode_of_other_shapes_is_refused(
    tmp_path: Path, name: str, shape: tuple[int, ...]
) -> None:
    arrays = {"observations": np.zeros((4, 2)), "actions": np.zeros(3), "rewards": np.zeros(3)}
    arrays[name] = np.zeros(shape)
    writer = TrajectoryWriter(tmp_path, POINT, spaces.Discrete(2))
    with pytest.raises(ShapeError, match="expected"):
        writer.add(**arrays, terminated=True, truncated=False)
    writer.add(np.ones((2, 2)), np.ones(1), np.ones(1), terminated=True, truncated=False)
    writer.flush()  # nothing of the first
    assert TrajectoryDataset(tmp_path)[[0]]["observations"].tolist() == [[1, 1]]
    TrajectoryDataset(tmp_path).verify()


def test_an_episode_with_other_keys_is_refused(tmp_path: Path) -> None:
    writer = TrajectoryWriter(tmp_path, spaces.Dict({"a": POINT}), spaces.Discrete(2))
    for observations in (np.zeros((2, 2)), {}, {"b": np.zeros((2, 2))}):
        with pytest.raises(ShapeError, match=r"observations\.a"):
            writer.add(observations, np.zeros(1), np.zeros(1), terminated=True, truncated=False)


# ---- writing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [0, 1, 2, 3, 4, 5, 6, 7, 8])
def test_a_write_that_fails_loses_only_its_own_chunk(
    directory: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    before, files, left = read_all(directory), TrajectoryDataset(directory), [failing]

    def fsync(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(DatasetError, match=r"55 env steps could not .* 210 env steps"):
            fill(directory, 10, append=True)
    assert read_all(directory) == before
    assert sorted(file.name for file in directory.iterdir()) == sorted([*ARRAYS, MANIFEST, LOCK])
    TrajectoryDataset(directory).verify()
    fill(directory, 10, append=True)  # there is room again
    again = TrajectoryDataset(directory)
    again.verify()
    assert len(again) == 265
    assert torch.equal(files[range(210)]["rewards"], again[range(210)]["rewards"])


def test_a_first_write_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(DatasetError, match="No space left"):
        fill(tmp_path / "new")
    assert [file.name for file in (tmp_path / "new").iterdir()] == [LOCK]


@pytest.mark.parametrize("interrupted", range(9))
def test_a_first_write_that_is_interrupted_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: int
) -> None:
    calls, sync = [], os.fsync

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == interrupted + 1:
            raise KeyboardInterrupt
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(writer_module, "FLUSH_BYTES", 1000)
    with pytest.raises(KeyboardInterrupt):
        make_random_trajectory("CartPole-v1", tmp_path, 500, progress=False)
    dataset = TrajectoryDataset(tmp_path)
    dataset.verify()
    assert dataset.num_steps > 20


def test_what_was_collected_before_the_disk_was_full_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "FLUSH_BYTES", 40_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))  # the largest file it may write
    try:
        with pytest.raises(DatasetError, match="could not be written") as caught:
            make_random_trajectory("CartPole-v1", tmp_path, 100_000, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    dataset = TrajectoryDataset(tmp_path)
    dataset.verify()
    assert 5_000 < dataset.num_steps < 200_000 / 16
    assert f"The {dataset.num_steps} env steps written before can be read" in str(caught.value)
    size = 128 + 16 * (dataset.num_steps + dataset.num_episodes)
    assert (tmp_path / "observations.npy").stat().st_size == size  # the rest was given back


COLLECT = """
import sys
from lightning_rl import make_random_trajectory
from lightning_rl.trajectories import writer
writer.FLUSH_BYTES = 40_000
make_random_trajectory("CartPole-v1", sys.argv[1], 10_000_000, progress=False)
"""


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0.0, 0.1, 0.23])
def test_a_process_killed_while_it_appends_leaves_whole_chunks(
    tmp_path: Path, pause: float
) -> None:
    process = subprocess.Popen([sys.executable, "-c", COLLECT, str(tmp_path)])
    while not (tmp_path / MANIFEST).exists():
        assert process.poll() is None
    time.sleep(pause)
    process.kill()
    process.wait()
    dataset = TrajectoryDataset(tmp_path)
    dataset.verify()
    grown = make_random_trajectory("CartPole-v1", tmp_path, 100, append=True, progress=False)
    grown.verify()
    assert grown.num_steps == dataset.num_steps + 100


def test_an_unfinished_append_is_written_over(directory: Path) -> None:
    before = read_all(directory)
    for name in ARRAYS:
        with (directory / name).open("ab") as file:
            file.write(b"half of a chunk")
    assert read_all(directory) == before
    fill(directory, 2, append=True)
    TrajectoryDataset(directory).verify()


def test_a_directory_that_can_not_be_written_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match="could not be written"):
        fill(tmp_path / "file")


def test_other_peoples_files_are_not_overwritten(tmp_path: Path) -> None:
    np.save(tmp_path / "rewards.npy", np.ones(3))
    with pytest.raises(ConfigError, match="another directory"):
        fill(tmp_path)
    with pytest.raises(ConfigError, match="another directory"):
        fill(tmp_path, append=True)
    assert np.load(tmp_path / "rewards.npy").tolist() == [1, 1, 1]


def test_a_second_writer_is_refused_with_the_name_of_the_first(directory: Path) -> None:
    first = TrajectoryWriter(directory, POINT, spaces.Discrete(2), append=True)
    with pytest.raises(LockedError, match=rf"process {os.getpid()} .* append to these"):
        fill(directory, 3, append=True)
    with pytest.raises(LockedError, match="in use by"):
        make_random_trajectory("CartPole-v1", directory, 10, append=True, progress=False)
    assert len(TrajectoryDataset(directory)) == 210  # reading goes on
    first.close()
    fill(directory, 3, append=True)
    assert len(TrajectoryDataset(directory)) == 216


def test_a_refused_writer_holds_nothing(directory: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        fill(directory)
    fill(directory, 3, append=True)
    assert caught


def append_often(directory: Path, number: int, times: int) -> None:
    """Append episodes of `number`, each as soon as nobody else does."""
    while times:
        try:
            writer = TrajectoryWriter(directory, POINT, spaces.Discrete(2), append=True)
        except LockedError:
            time.sleep(0.001)
            continue
        values = np.full((number + 2, 2), number)
        writer.add(values, np.zeros(number + 1), values[1:, 0], terminated=True, truncated=False)
        writer.flush()
        writer.close()
        times -= 1


def test_processes_that_append_to_one_directory_mix_nothing(directory: Path) -> None:
    context = multiprocessing.get_context("fork")
    args = [(directory, number, 8) for number in range(3)]
    processes = [context.Process(target=append_often, args=these) for these in args]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    dataset = TrajectoryDataset(directory)
    dataset.verify()
    added = [dataset.episode(number)["rewards"].tolist() for number in range(20, 44)]
    assert sorted(added) == sorted([[number] * (number + 1) for number in range(3)] * 8)


def test_without_its_lock_a_writer_still_notices_another(directory: Path) -> None:
    late = TrajectoryWriter(directory, POINT, spaces.Discrete(2), append=True)
    late.add(np.zeros((2, 2)), np.zeros(1), np.zeros(1), terminated=True, truncated=False)
    (directory / LOCK).unlink()
    fill(directory, 3, append=True)
    with pytest.raises(DatasetError, match="one at a time"):
        late.flush()
    dataset = TrajectoryDataset(directory)
    dataset.verify()
    assert len(dataset) == 216


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "rewards.npy").symlink_to(tmp_path / "victim")
    with pytest.raises(LightningRLError):
        fill(tmp_path / "new")
    assert (tmp_path / "victim").read_text() == "precious"


def test_episodes_are_written_before_memory_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "FLUSH_BYTES", 1000)
    dataset = make_random_trajectory("CartPole-v1", tmp_path, 500, progress=False)
    assert len(json.loads((tmp_path / MANIFEST).read_text())["chunks"]) > 5
    dataset.verify()
    assert dataset.num_steps == 500


def test_a_slow_environments_episodes_are_written_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "FLUSH_SECONDS", 0.0)
    writer = TrajectoryWriter(tmp_path, POINT, spaces.Discrete(2))
    writer.add(np.zeros((2, 2)), np.zeros(1), np.zeros(1), terminated=True, truncated=False)
    assert len(TrajectoryDataset(tmp_path)) == 1


def test_only_append_writes_to_a_dataset(directory: Path) -> None:
    with pytest.raises(ConfigError, match="append=True"):
        fill(directory)
    with pytest.raises(SpaceError, match="Some-v0"):
        TrajectoryWriter(directory, POINT, spaces.Discrete(3), append=True)


@pytest.mark.parametrize(
    ("limit", "words"),
    [("MAX_EPISODES", "holds at most 2 episodes"), ("MAX_MANIFEST_BYTES", "too many to be read")],
)
def test_more_than_can_be_read_again_is_not_written(
    limit: str, words: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read_all(directory)
    monkeypatch.setattr(writer_module, limit, 2)
    with pytest.raises(DatasetError, match=words):
        fill(directory, 3, append=True)
    assert read_all(directory) == before
