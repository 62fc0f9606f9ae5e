"""Files of trajectories: damage is found, nothing is believed, and a full disk loses little."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from lightning_rl.checkpoints.spaces import space_from_state, space_state
from lightning_rl.errors import ConfigError, DatasetError, LightningRLError, ShapeError, SpaceError
from lightning_rl.testing.probe_envs import IdentityEnv
from lightning_rl.trajectories import files as trajectory_files
from lightning_rl.trajectories import writer as trajectory_recorder
from lightning_rl.trajectories.collect import make_random_trajectory
from lightning_rl.trajectories.dataset import TrajectoryDataset
from lightning_rl.trajectories.files import TrajectoryFiles
from lightning_rl.trajectories.manifest import MANIFEST
from lightning_rl.trajectories.writer import TrajectoryWriter

POINT = spaces.Box(-1, 1, (2,))
ARRAYS = ["observations.npy", "actions.npy", "rewards.npy", "episodes.npy"]


def fill(directory: Path, num_episodes: int = 20, append: bool = False) -> TrajectoryWriter:
    """Write episodes of 1, 2, 3, ... env steps, in one chunk."""
    writer = TrajectoryWriter(directory, POINT, spaces.Discrete(2), "Some-v0", append)
    for length in range(1, num_episodes + 1):
        values = np.random.default_rng(length).random((length + 1, 2))
        writer.add(values, np.arange(length) % 2, values[1:, 0], terminated=True, truncated=False)
    writer.flush()
    return writer


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    fill(tmp_path / "dataset")
    return tmp_path / "dataset"


def read_all(directory: Path) -> bytes:
    dataset = TrajectoryDataset(directory)
    return b"".join(value.numpy().tobytes() for value in dataset[range(len(dataset))].values())


def rewrite(directory: Path, change: Callable[[dict[str, Any]], Any], sign: bool = True) -> None:
    """Change the manifest as an attacker would, with a checksum that fits."""
    content = json.loads((directory / MANIFEST).read_text())
    content.pop("sha256")
    change(content)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (directory / MANIFEST).write_text(json.dumps({**content, "sha256": digest if sign else "0"}))


# ---- the format ----------------------------------------------------------------------------------

floats = st.floats(width=32, allow_nan=False)
bounds = st.lists(st.tuples(floats, floats), min_size=1, max_size=5)
array_spaces = st.one_of(
    bounds.map(lambda b: spaces.Box(np.float32(np.min(b, 1)), np.float32(np.max(b, 1)))),
    st.sampled_from([np.uint8, np.int64, np.float16, np.float64]).map(
        lambda dtype: spaces.Box(0, 100, (2, 3), dtype)
    ),
    st.builds(
        lambda n, start: spaces.Discrete(n, start=start), st.integers(1, 99), st.integers(-9, 9)
    ),
    st.lists(st.integers(1, 9), min_size=1, max_size=4).map(
        lambda nvec: spaces.MultiDiscrete(nvec, start=list(range(len(nvec))))
    ),
    st.sampled_from([3, (2, 3), [4]]).map(spaces.MultiBinary),
)


@given(
    st.one_of(array_spaces, st.dictionaries(st.text(), array_spaces, min_size=1).map(spaces.Dict))
)
def test_a_space_is_read_as_it_was_written(space: spaces.Space) -> None:
    text = json.dumps(space_state(space), allow_nan=False)
    read = space_from_state(json.loads(text))
    assert read == space
    assert read.dtype == space.dtype


@pytest.mark.skipif(
    "dtype" not in inspect.signature(spaces.Discrete).parameters, reason="Gymnasium is older"
)
def test_a_discrete_space_of_small_numbers_is_read_as_it_was_written() -> None:
    space = spaces.Discrete(3, start=-1, dtype=np.int8)
    read = space_from_state(json.loads(json.dumps(space_state(space))))
    assert (read, read.dtype) == (space, np.int8)


def test_a_space_with_bounds_of_its_own_class_is_read_as_a_box() -> None:
    class Pixels(spaces.Box):
        """A user's own class."""

    read = space_from_state(space_state(Pixels(0, 255, (84, 84), np.uint8)))
    assert read == spaces.Box(0, 255, (84, 84), np.uint8)
    assert len(json.dumps(space_state(read))) < 200


class Unusual(IdentityEnv):
    """An environment with an observation space of any kind."""

    def __init__(self, space: spaces.Space) -> None:
        super().__init__()
        self.observation_space = space


@pytest.mark.parametrize(
    "space",
    [spaces.Text(3), spaces.Tuple([POINT]), spaces.Dict({1: POINT}),
     spaces.Dict({"a": spaces.Dict({"b": POINT})})],
    ids=str,
)  # fmt: skip
def test_a_space_that_no_file_can_hold_is_refused(tmp_path: Path, space: spaces.Space) -> None:
    with pytest.raises(SpaceError):
        make_random_trajectory(lambda: Unusual(space), tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()


def test_the_files_are_plain_npy_arrays_and_json(directory: Path) -> None:
    assert sorted(file.name for file in directory.iterdir()) == sorted([*ARRAYS, MANIFEST])
    arrays = {name: np.load(directory / name, allow_pickle=False) for name in ARRAYS}
    assert arrays["observations.npy"].shape == (210 + 20, 2)
    assert len(arrays["actions.npy"]) == len(arrays["rewards.npy"]) == 210
    assert arrays["episodes.npy"].tolist() == [[n, 1, 1, 0] for n in range(1, 21)]
    manifest = json.loads((directory / MANIFEST).read_text())
    assert (manifest["num_steps"], manifest["num_episodes"]) == (210, 20)


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


# ---- damage --------------------------------------------------------------------------------------


def test_every_flipped_bit_is_found(directory: Path) -> None:
    rng, good = np.random.default_rng(0), read_all(directory)
    for name in [*ARRAYS, MANIFEST]:
        intact = (directory / name).read_bytes()
        for _ in range(100):
            damaged = bytearray(intact)
            damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
            (directory / name).write_bytes(damaged)
            with pytest.raises(DatasetError, match=r"damaged|newer|Update"):
                TrajectoryDataset(directory).verify()
        (directory / name).write_bytes(intact)
    TrajectoryDataset(directory).verify()
    assert read_all(directory) == good


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


def test_a_newer_version_asks_for_an_update(directory: Path) -> None:
    rewrite(directory, lambda content: content.update(version=2, news=True))
    with pytest.raises(DatasetError, match=r"version 2 .*reads up to 1.*pip install"):
        TrajectoryDataset(directory)


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


def chunk(content: dict[str, Any]) -> dict[str, Any]:
    return content["chunks"][0]


HOSTILE: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a path for a file": lambda c: chunk(c)["sha256"].update({"../../etc/passwd": "0"}),
    "an absolute path": lambda c: chunk(c)["sha256"].update({"/etc/passwd": "0"}),
    "another format": lambda c: c.update(format="replay"),
    "version 0": lambda c: c.update(version=0),
    "a version that is true": lambda c: c.update(version=True),
    "a version in words": lambda c: c.update(version="1"),
    "no spaces": lambda c: c.pop("observation_space"),
    "a space of an unknown type": lambda c: c["observation_space"].update(type="os.system"),
    "a space of objects": lambda c: c["observation_space"].update(dtype="O"),
    "a space of records": lambda c: c["observation_space"].update(dtype="f4,f4"),
    "an immense space": lambda c: c["observation_space"].update(shape=[2**31, 2**31]),
    "a larger space": lambda c: c["observation_space"].update(shape=[2**20]),
    "a negative shape": lambda c: c["observation_space"].update(shape=[-2]),
    "a shape of fractions": lambda c: c["observation_space"].update(shape=[2.0]),
    "bounds of NaN": lambda c: c["observation_space"].update(low="nan"),
    "bounds in words": lambda c: c["observation_space"].update(low=["a", "b"]),
    "an action space of size 0": lambda c: c["action_space"].update(n=0),
    "an action space of text": lambda c: c["action_space"].update(n="2"),
    "an action space that is a Dict": lambda c: c.update(
        action_space={"type": "Dict", "spaces": {}}
    ),
    "a Dict of Dicts": lambda c: c.update(
        observation_space={"type": "Dict", "spaces": {"a": {"type": "Dict", "spaces": {}}}}
    ),
    "immense counts": lambda c: (c.update(num_steps=2**60), chunk(c).update(num_steps=2**60)),
    "large counts": lambda c: (c.update(num_steps=2**40), chunk(c).update(num_steps=2**40)),
    "more episodes than steps": lambda c: (
        c.update(num_episodes=211), chunk(c).update(num_episodes=211)
    ),
    "another number of episodes": lambda c: (
        c.update(num_episodes=19), chunk(c).update(num_episodes=19)
    ),
    "negative counts": lambda c: (c.update(num_steps=-1), chunk(c).update(num_steps=-1)),
    "counts that do not add up": lambda c: c.update(num_steps=209),
    "counts of fractions": lambda c: chunk(c).update(num_steps=210.0),
    "no chunks": lambda c: c.update(chunks=[], num_steps=0, num_episodes=0),
    "chunks that are no list": lambda c: c.update(chunks=5),
    "a chunk with news": lambda c: chunk(c).update(news=1),
    "a chunk without checksums": lambda c: chunk(c).pop("sha256"),
    "a checksum of another kind": lambda c: chunk(c).update(sha256=[]),
    "seeds that are no list": lambda c: chunk(c).update(seeds=0),
    "seeds that are no numbers": lambda c: chunk(c).update(seeds=[[]]),
    "a name that is no text": lambda c: c.update(env_id=["os:system"]),
}  # fmt: skip


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_a_manifest_is_not_believed(directory: Path, change: Callable[..., Any]) -> None:
    rewrite(directory, change)
    before = psutil.Process().memory_info().rss
    with pytest.raises(DatasetError, match=r"damaged.*copy"):
        TrajectoryDataset(directory)
    assert psutil.Process().memory_info().rss - before < 100e6


def test_a_changed_manifest_is_found_by_its_checksum(directory: Path) -> None:
    rewrite(directory, lambda content: content.update(env_id="Other-v0"), sign=False)
    with pytest.raises(DatasetError, match="checksum"):
        TrajectoryDataset(directory)


def test_a_manifest_of_impossible_size_is_not_read(directory: Path) -> None:
    os.truncate(directory / MANIFEST, 2**40)  # a file with a hole
    with pytest.raises(DatasetError, match="1099511627776 bytes"):
        TrajectoryDataset(directory)


def test_an_environments_name_is_never_looked_up(directory: Path) -> None:
    rewrite(directory, lambda content: content.update(env_id="os:system"))
    assert TrajectoryDataset(directory).env_id == "os:system"


def test_marks_that_can_not_be_are_found_on_opening(directory: Path) -> None:
    intact = np.load(directory / "episodes.npy")
    for row, column, value in [(0, 0, 0), (0, 0, -5), (0, 0, 2), (3, 1, 2), (3, 2, -1)]:
        marks = intact.copy()
        marks[row, column] = value
        np.save(directory / "episodes.npy", marks)
        with pytest.raises(DatasetError, match="impossible"):
            TrajectoryDataset(directory)


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
    assert sorted(file.name for file in directory.iterdir()) == sorted([*ARRAYS, MANIFEST])
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
    assert not list((tmp_path / "new").iterdir())


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
    monkeypatch.setattr(trajectory_recorder, "FLUSH_BYTES", 1000)
    with pytest.raises(KeyboardInterrupt):
        make_random_trajectory("CartPole-v1", tmp_path, 500, progress=False)
    dataset = TrajectoryDataset(tmp_path)
    dataset.verify()
    assert dataset.num_steps > 20


def test_what_was_collected_before_the_disk_was_full_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trajectory_recorder, "FLUSH_BYTES", 40_000)
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


def test_two_writers_do_not_mix(directory: Path) -> None:
    late = TrajectoryWriter(directory, POINT, spaces.Discrete(2), append=True)
    late.add(np.zeros((2, 2)), np.zeros(1), np.zeros(1), terminated=True, truncated=False)
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
    monkeypatch.setattr(trajectory_recorder, "FLUSH_BYTES", 1000)
    dataset = make_random_trajectory("CartPole-v1", tmp_path, 500, progress=False)
    assert len(json.loads((tmp_path / MANIFEST).read_text())["chunks"]) > 5
    dataset.verify()
    assert dataset.num_steps == 500


def test_a_slow_environments_episodes_are_written_now_and_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trajectory_recorder, "FLUSH_SECONDS", 0.0)
    writer = TrajectoryWriter(tmp_path, POINT, spaces.Discrete(2))
    writer.add(np.zeros((2, 2)), np.zeros(1), np.zeros(1), terminated=True, truncated=False)
    assert len(TrajectoryDataset(tmp_path)) == 1


def test_only_append_writes_to_a_dataset(directory: Path) -> None:
    with pytest.raises(ConfigError, match="append=True"):
        fill(directory)
    with pytest.raises(SpaceError, match="Some-v0"):
        TrajectoryWriter(directory, POINT, spaces.Discrete(3), append=True)


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
    monkeypatch.setattr(trajectory_files, "MAPPED_BYTES", 2**20)
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
        monkeypatch.setattr(trajectory_files, "MAPPED_BYTES", mapped)
        before = psutil.Process().num_fds()
        files = TrajectoryFiles(directory)
        assert psutil.Process().num_fds() > before
        del files
        assert psutil.Process().num_fds() == before


def test_a_file_that_shrinks_while_it_is_read_is_a_typed_error(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trajectory_files, "MAPPED_BYTES", 0)
    dataset = TrajectoryDataset(directory)
    os.truncate(directory / "rewards.npy", 200)
    with pytest.raises(DatasetError, match="shorter"):
        dataset[range(len(dataset))]
