"""The manifest of a trajectory dataset: read as it was written, and never believed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from gymnasium import spaces
from stored import POINT, rewrite

from lightning_rl.errors import DatasetError, SpaceError
from lightning_rl.testing.probe_envs import IdentityEnv
from lightning_rl.trajectories.collect import make_random_trajectory
from lightning_rl.trajectories.dataset import TrajectoryDataset
from lightning_rl.trajectories.manifest import MANIFEST

# ---- the format ----------------------------------------------------------------------------------


class Unusual(IdentityEnv):
    """An environment with an observation space of any kind."""

    def __init__(self, space: spaces.Space) -> None:
        super().__init__()
        self.observation_space = space


@pytest.mark.parametrize(
    "space",
    [spaces.Text(3), spaces.Dict({1: POINT}),
     spaces.Dict({"a": spaces.Dict({"b": POINT})})],
    ids=str,
)  # fmt: skip
def test_a_space_that_no_file_can_hold_is_refused(tmp_path: Path, space: spaces.Space) -> None:
    with pytest.raises(SpaceError):
        make_random_trajectory(lambda: Unusual(space), tmp_path / "new", progress=False)
    assert not (tmp_path / "new").exists()


def test_a_newer_version_asks_for_an_update(directory: Path) -> None:
    rewrite(directory, lambda content: content.update(version=2, news=True))
    with pytest.raises(DatasetError, match=r"version 2 .*reads up to 1.*pip install"):
        TrajectoryDataset(directory)


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
    "a Dict of large boxes": lambda c: c.update(
        observation_space={"type": "Dict", "spaces": {
            f"{i}": c["observation_space"] | {"shape": [2**24]} for i in range(8)
        }}
    ),
    "a Dict of many parts": lambda c: c.update(
        observation_space={"type": "Dict", "spaces": {
            f"{i}": c["action_space"] for i in range(5000)
        }}
    ),
    "a MultiBinary of immense size": lambda c: c.update(
        action_space={"type": "MultiBinary", "dtype": "int8", "n": 2**40}
    ),
    "more episodes than fit into memory": lambda c: (
        c.update(num_steps=2**27, num_episodes=2**27),
        chunk(c).update(num_steps=2**27, num_episodes=2**27),
    ),
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
