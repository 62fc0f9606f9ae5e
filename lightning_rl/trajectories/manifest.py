"""The manifest of a trajectory dataset: which arrays it has, how much of each is complete."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Space, spaces

from lightning_rl.buffers.arrays import allocate, named_arrays
from lightning_rl.checkpoints.spaces import checked_count, space_from_state, space_state
from lightning_rl.errors import DatasetError, SpaceError
from lightning_rl.regular_files import read_small

FORMAT, VERSION = "lightning_rl trajectories", 1
MANIFEST = "trajectories.json"
MAX_MANIFEST_BYTES = 2**24  # spaces with bounds of their own for each pixel are long
MAX_ROWS = 2**48
MAX_EPISODES = 2**24  # whose lengths are held in memory, 256 MiB
LENGTH, BEGINS_WITH_RESET, TERMINATED, TRUNCATED = range(4)  # columns of the episodes' table


@dataclass(frozen=True)
class Field:
    """One array of a dataset, in a `.npy` file of its own."""

    file: str  # named here, never by a manifest
    row: np.dtype  # with the shape of a row

    def header(self, num_rows: int) -> bytes:
        """Write the header of the file. Its size does not depend on the number of rows."""
        file, shape = BytesIO(), (num_rows, *self.row.shape)
        descr = np.lib.format.dtype_to_descr(self.row.base)
        described = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, described)
        return file.getvalue()

    @cached_property
    def start(self) -> int:
        """The bytes before the first row."""
        return len(self.header(0))


def count_rows(name: str, num_steps: int, num_episodes: int) -> int:
    """Count the rows of an array. An episode of L env steps has L + 1 observations."""
    if name == "episodes":
        return num_episodes
    return num_steps + num_episodes * name.startswith("observations")


@dataclass(frozen=True)
class Chunk:
    """What was written at once: its size, the seeds it was collected with, and its checksums."""

    num_steps: int
    num_episodes: int
    seeds: list[int]
    sha256: dict[str, str]  # file -> of the chunk's bytes


@dataclass(frozen=True)
class Manifest:
    """What a dataset's arrays are, and how much of them is complete."""

    observation_space: Space
    action_space: Space
    env_id: str | None
    chunks: tuple[Chunk, ...] = ()

    @property
    def num_steps(self) -> int:
        """Env steps stored."""
        return sum(chunk.num_steps for chunk in self.chunks)

    @property
    def num_episodes(self) -> int:
        """Episodes stored."""
        return sum(chunk.num_episodes for chunk in self.chunks)

    def num_rows(self, name: str) -> int:
        """Count the complete rows of one array."""
        return count_rows(name, self.num_steps, self.num_episodes)

    def num_bytes(self, name: str) -> int:
        """Count the bytes of its file up to the last complete row."""
        field = self.fields[name]
        return field.start + self.num_rows(name) * field.row.itemsize

    @cached_property
    def fields(self) -> dict[str, Field]:
        """The arrays by name; raises a SpaceError if none can hold what the spaces say."""
        observations = allocate(self.observation_space, 0)
        if isinstance(observations, dict) and not all(isinstance(k, str) for k in observations):
            raise SpaceError(f"got a Dict with the keys {list(observations)}; expected strings.")
        if isinstance(self.action_space, spaces.Dict):
            raise SpaceError(f"got {self.action_space} for actions; expected one that is no Dict.")
        parts = named_arrays(observations)
        files = {name: f"observations_{i}" for i, name in enumerate(parts)}
        if len(parts) == 1:
            files = dict.fromkeys(parts, "observations")
        arrays = {
            **parts,
            "actions": allocate(self.action_space, 0),
            "rewards": np.zeros(0, dtype=np.float32),
            "episodes": np.zeros((0, 4), dtype=np.int32),
        }
        return {
            name: Field(f"{files.get(name, name)}.npy", np.dtype((array.dtype, array.shape[1:])))
            for name, array in arrays.items()
        }

    def check_spaces(self, observation_space: Space, action_space: Space) -> None:
        """Raise a SpaceError if an environment has other spaces."""
        stored = (self.observation_space, self.action_space)
        if stored != (observation_space, action_space):
            raise SpaceError(
                f"the trajectories are of {self.env_id or 'an environment'} with {stored[0]} and "
                f"{stored[1]}; got {observation_space} and {action_space}. Give the environment "
                "they were collected in, or another directory."
            )

    def to_json(self) -> str:
        """Write it down, with a checksum over all of it."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "env_id": self.env_id,
            "observation_space": space_state(self.observation_space),
            "action_space": space_state(self.action_space),
            "num_steps": self.num_steps,
            "num_episodes": self.num_episodes,
            "chunks": [asdict(chunk) for chunk in self.chunks],
        }
        return json.dumps({**content, "sha256": _digest(content)}, indent=1)


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(directory: Path) -> Manifest:
    """Read a dataset's manifest; raise a DatasetError if that can't be. No other file is opened."""
    file = directory / MANIFEST
    if not os.path.lexists(file):
        raise DatasetError(
            f"{str(directory)!r} holds no trajectories: it has no {MANIFEST}. Give the directory "
            "that make_random_trajectory or make_trajectory was given."
        )
    try:
        return _parse(json.loads(read_small(file, MAX_MANIFEST_BYTES)))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, AssertionError,
            OverflowError, RecursionError) as error:  # fmt: skip
        raise damaged(directory, f"{MANIFEST} can't be read: {error}") from error


def _parse(content: Any) -> Manifest:
    if content["format"] != FORMAT:
        raise ValueError(f"its format is {content['format']!r}; expected {FORMAT!r}")
    if checked_count(content["version"], 1, 2**31) > VERSION:
        raise DatasetError(
            f"the trajectories were written in version {content['version']} of their format; this "
            f"lightning_rl reads up to {VERSION}. Update it: pip install --upgrade lightning_rl."
        )
    if content.pop("sha256") != _digest(content):
        raise ValueError("it is not as it was written (its checksum differs)")
    manifest = Manifest(
        space_from_state(content["observation_space"]),
        space_from_state(content["action_space"]),
        content["env_id"],
        tuple(Chunk(**chunk) for chunk in content["chunks"]),
    )
    if not isinstance(manifest.env_id, str | None):
        raise ValueError(f"its environment is called {manifest.env_id!r}")
    files = {field.file for field in manifest.fields.values()}
    for chunk in manifest.chunks:
        checked_count(chunk.num_steps, 1, MAX_ROWS)
        checked_count(chunk.num_episodes, 1, chunk.num_steps)
        if set(chunk.sha256) != files or any(type(seed) is not int for seed in chunk.seeds):
            raise ValueError("a chunk has other files than the spaces ask for, or other seeds")
    steps, episodes = manifest.num_steps, manifest.num_episodes
    counts = checked_count(steps, 1, MAX_ROWS), checked_count(episodes, 1, MAX_EPISODES)
    if (content["num_steps"], content["num_episodes"]) != counts:
        raise ValueError("its counts are not the sums of its chunks")
    return manifest


def damaged(directory: Path, reason: str) -> DatasetError:
    """Say of a dataset that it can't be used as it is, and what to do."""
    return DatasetError(
        f"the trajectories in {str(directory)!r} are damaged: {reason}. Restore the directory from "
        "a copy, or collect them again into a new one."
    )
