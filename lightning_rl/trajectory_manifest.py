"""The manifest of a trajectory dataset: what its arrays are, in JSON, without a file's name."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from lightning_rl.buffers import ARRAY_SPACES, allocate
from lightning_rl.errors import DatasetError, SpaceError

FORMAT, VERSION = "lightning_rl trajectories", 1
MANIFEST = "trajectories.json"
MAX_MANIFEST_BYTES = 2**26  # spaces with bounds of their own for each pixel are long
MAX_ELEMENTS = 2**24  # of one observation or action
MAX_ROWS = 2**48

EPISODE_COLUMNS = ("length", "starts", "terminated", "truncated")


# ---- spaces as JSON ------------------------------------------------------------------------------


def space_to_json(space: Space) -> dict[str, Any]:
    """Describe a space by plain values.

    Raises:
        SpaceError: if arrays can't hold its elements, or a Dict has keys that are no strings.

    Example:
        >>> space_to_json(spaces.Box(0, 1, (3,)))["low"]
        0.0
        >>> space_from_json(space_to_json(spaces.Discrete(2)))
        Discrete(2)
    """
    allocate(space, 0)  # raises for what no array can hold
    if isinstance(space, spaces.Dict):
        if not all(isinstance(key, str) for key in space):
            raise SpaceError(f"got a Dict space with the keys {list(space)}; expected strings.")
        return {"type": "Dict", "spaces": {k: space_to_json(s) for k, s in space.items()}}
    kind = next(kind.__name__ for kind in ARRAY_SPACES if isinstance(space, kind))
    described: dict[str, Any] = {"type": kind, "dtype": str(space.dtype)}
    if isinstance(space, spaces.Box):
        bounds = {"low": _bound_to_json(space.low), "high": _bound_to_json(space.high)}
        return {**described, "shape": list(space.shape), **bounds}
    if isinstance(space, spaces.Discrete):
        return {**described, "n": int(space.n), "start": int(space.start)}
    if isinstance(space, spaces.MultiDiscrete):
        return {**described, "nvec": space.nvec.tolist(), "start": space.start.tolist()}
    n = space.n if isinstance(space, spaces.MultiBinary) else ()
    return {**described, "n": int(n) if isinstance(n, int | np.integer) else [int(i) for i in n]}


def space_from_json(described: dict[str, Any]) -> Space:
    """Make the space that `space_to_json` described; other errors than ValueError may be raised."""
    kind = described["type"]
    if kind == "Dict":
        return spaces.Dict({str(k): space_from_json(s) for k, s in described["spaces"].items()})
    dtype = np.dtype(described["dtype"])
    if dtype.kind not in "fiub" or dtype.itemsize > 8:
        raise ValueError(f"it has a space of dtype {dtype}")
    if kind == "Discrete":
        return spaces.Discrete(described["n"], start=described["start"])
    if kind == "MultiDiscrete":
        start = described["start"]
        return spaces.MultiDiscrete(described["nvec"], dtype=dtype.type, start=start)
    sizes = described["n" if kind == "MultiBinary" else "shape"]
    shape = tuple(_count(size, 0, MAX_ELEMENTS) for size in np.atleast_1d(sizes).tolist())
    _count(math.prod(shape), 0, MAX_ELEMENTS)
    if kind == "MultiBinary":
        return spaces.MultiBinary(sizes)
    if kind != "Box":
        raise ValueError(f"it has a space of type {kind!r}")
    low, high = (_bound_from_json(described[name], shape, dtype) for name in ("low", "high"))
    return spaces.Box(low, high, shape, dtype.type)


def _bound_to_json(bound: NDArray[Any]) -> Any:
    """Give a bound as nested lists, or as one number if all are equal; infinity as a string."""
    if bound.size and (bound == bound.flat[0]).all():
        bound = bound.flat[0]
    if np.isfinite(bound).all():
        return bound.tolist()
    return bound.astype(np.float64).astype(str).tolist()


def _bound_from_json(bound: Any, shape: tuple[int, ...], dtype: np.dtype) -> NDArray[Any]:
    given = np.asarray(bound)
    if given.dtype.kind == "U":
        given = given.astype(np.float64)
    if given.dtype.kind not in "fiub" or np.isnan(given).any():
        raise ValueError(f"it has the bound {bound!r}")
    return np.broadcast_to(given.astype(dtype), shape).copy()


def _count(number: Any, smallest: int, largest: int) -> int:
    if type(number) is not int or not smallest <= number <= largest:
        raise ValueError(f"it says {number!r} where a number from {smallest} to {largest} belongs")
    return number


# ---- the manifest --------------------------------------------------------------------------------


class Field(NamedTuple):
    """One array of a dataset, in a file of its own."""

    file: str  # named here, never by a manifest
    dtype: np.dtype
    shape: tuple[int, ...]  # of a row


def layout(observation_space: Space, action_space: Space) -> dict[str, Field]:
    """Lay out the arrays: name -> field. An episode of L env steps has L + 1 observations.

    Example:
        >>> list(layout(spaces.Box(-1, 1, (3,)), spaces.Discrete(2)))
        ['observations', 'actions', 'rewards', 'episodes']
    """
    observations = allocate(observation_space, 0)
    if isinstance(observations, dict):
        parts = {f"observations.{key}": part for key, part in observations.items()}
    else:
        parts = {"observations": observations}
    fields = {
        name: Field(f"observations_{i}.npy" if len(parts) > 1 else "observations.npy",
                    part.dtype, part.shape[1:])
        for i, (name, part) in enumerate(parts.items())
    }  # fmt: skip
    actions = allocate(action_space, 0)
    if isinstance(actions, dict):
        raise SpaceError(f"got the action space {action_space}; expected one that is no Dict.")
    return {
        **fields,
        "actions": Field("actions.npy", actions.dtype, actions.shape[1:]),
        "rewards": Field("rewards.npy", np.dtype(np.float32), ()),
        "episodes": Field("episodes.npy", np.dtype(np.int32), (len(EPISODE_COLUMNS),)),
    }


@dataclass(frozen=True)
class Chunk:
    """What was written at once: its size, the seeds it was collected with, and its checksums."""

    num_steps: int
    num_episodes: int
    seeds: list[int]
    sha256: dict[str, str]  # file -> of the chunk's bytes

    def num_rows(self, name: str) -> int:
        """Count its rows of one array."""
        rows = 0 if name == "episodes" else self.num_steps
        per_episode = name == "episodes" or name.startswith("observations")
        return rows + (self.num_episodes if per_episode else 0)


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
        """Count the rows of one array."""
        return sum(chunk.num_rows(name) for chunk in self.chunks)

    def fields(self) -> dict[str, Field]:
        """Lay out the arrays."""
        return layout(self.observation_space, self.action_space)

    def to_json(self) -> str:
        """Write it down, with a checksum over all of it."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "env_id": self.env_id,
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            "num_steps": self.num_steps,
            "num_episodes": self.num_episodes,
            "chunks": [asdict(chunk) for chunk in self.chunks],
        }
        return json.dumps({**content, "sha256": _digest(content)}, indent=1)


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_manifest(directory: Path) -> Manifest:
    """Read a dataset's manifest. No other file is opened.

    Raises:
        DatasetError: if there is none, or it is damaged, or of a newer version.
    """
    file = directory / MANIFEST
    if not os.path.lexists(file):
        raise DatasetError(
            f"{str(directory)!r} holds no trajectories: it has no {MANIFEST}. Give the directory "
            "that make_random_trajectory or make_trajectory was given."
        )
    try:
        check_regular(file)
        if file.stat().st_size > MAX_MANIFEST_BYTES:
            raise ValueError(f"it has {file.stat().st_size} bytes")
        return _parse(json.loads(file.read_text("utf-8")))
    except DatasetError:
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, AssertionError,
            OverflowError, RecursionError) as error:  # fmt: skip
        raise damaged(directory, f"{MANIFEST} can't be read: {error}") from error


def _parse(content: Any) -> Manifest:
    if content["format"] != FORMAT:
        raise ValueError(f"its format is {content['format']!r}; expected {FORMAT!r}")
    if _count(content["version"], 1, 2**31) > VERSION:
        raise DatasetError(
            f"the trajectories were written in version {content['version']} of their format; this "
            f"lightning_rl reads up to {VERSION}. Update it: pip install --upgrade lightning_rl."
        )
    if content.pop("sha256") != _digest(content):
        raise ValueError("it is not as it was written (its checksum differs)")
    manifest = Manifest(
        space_from_json(content["observation_space"]),
        space_from_json(content["action_space"]),
        content["env_id"],
        tuple(Chunk(**chunk) for chunk in content["chunks"]),
    )
    if not isinstance(manifest.env_id, str | None):
        raise ValueError(f"its environment is called {manifest.env_id!r}")
    files = {field.file for field in manifest.fields().values()}
    for chunk in manifest.chunks:
        _count(chunk.num_steps, 1, MAX_ROWS)
        _count(chunk.num_episodes, 1, chunk.num_steps)
        if set(chunk.sha256) != files or any(type(seed) is not int for seed in chunk.seeds):
            raise ValueError("a chunk has other files than the spaces ask for, or other seeds")
    if (content["num_steps"], content["num_episodes"]) != (
        _count(manifest.num_steps, 1, MAX_ROWS), manifest.num_episodes,
    ):  # fmt: skip
        raise ValueError("its counts are not the sums of its chunks")
    return manifest


def damaged(directory: Path, reason: str) -> DatasetError:
    """Make the error for a dataset that is not as it was written."""
    return DatasetError(
        f"the trajectories in {str(directory)!r} are damaged: {reason}. Restore the directory from "
        "a copy, or collect them again into a new one."
    )


def check_regular(file: Path) -> None:
    """Check that a file is one: a link could lead anywhere, and a pipe never ends.

    Raises:
        OSError: if it is missing.
        ValueError: if it is something else.
    """
    if not stat.S_ISREG(file.lstat().st_mode):
        raise ValueError(f"{file.name} is a link or no regular file")


def check_same_spaces(manifest: Manifest, observation_space: Space, action_space: Space) -> None:
    """Check that an environment has the spaces of a dataset.

    Raises:
        SpaceError: naming those that differ.
    """
    stored = (manifest.observation_space, manifest.action_space)
    if stored != (observation_space, action_space):
        raise SpaceError(
            f"the trajectories are of {manifest.env_id or 'an environment'} with {stored[0]} and "
            f"{stored[1]}; got {observation_space} and {action_space}. Give the environment they "
            "were collected in, or another directory."
        )


def sync(file: Any) -> None:
    """Wait until a file's bytes are on the disk."""
    file.flush()
    os.fsync(file.fileno())


def replace_file(file: Path, text: str) -> None:
    """Replace a text file in one step: a reader finds the old one or the new one, whole.

    Raises:
        OSError: if it can't be written; the old one stays.
    """
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)  # of a process that was killed
    try:
        with new.open("x", encoding="utf-8") as opened:
            opened.write(text)
            sync(opened)
        new.replace(file)
    except OSError:
        new.unlink(missing_ok=True)
        raise
