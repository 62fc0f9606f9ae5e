"""Files of a trajectory dataset, and how they are read: plain `.npy` arrays and a JSON manifest.

Nothing in a directory is believed: no file's name is taken from the manifest, nothing is unpickled,
and every size is checked before it is used.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
import weakref
from dataclasses import asdict, dataclass
from functools import cached_property
from io import BytesIO, FileIO
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Space, spaces
from numpy.typing import NDArray

from lightning_rl.buffers import ARRAY_SPACES, allocate
from lightning_rl.errors import DatasetError, SpaceError
from lightning_rl.storage import named

FORMAT, VERSION = "lightning_rl trajectories", 1
MANIFEST = "trajectories.json"
MAX_MANIFEST_BYTES = 2**26  # spaces with bounds of their own for each pixel are long
MAX_ELEMENTS = 2**24  # of one observation or action
MAX_ROWS = 2**48
MAPPED_BYTES = 2**27  # of the arrays that are mapped: as much memory may count as in use

EPISODE_COLUMNS = ("length", "starts", "terminated", "truncated")
SPACE_ATTRIBUTES = {
    "Box": ("shape", "low", "high"),
    "Discrete": ("n", "start"),
    "MultiDiscrete": ("nvec", "start"),
    "MultiBinary": ("n",),
}


# ---- spaces as JSON ------------------------------------------------------------------------------


def space_to_json(space: Space) -> dict[str, Any]:
    """Describe a space of arrays, or a Dict of them, by plain values.

    Example:
        >>> space_to_json(spaces.Box(0, 1, (3,)))["low"]
        0.0
        >>> space_from_json(space_to_json(spaces.Discrete(2)))
        Discrete(2)
    """
    if isinstance(space, spaces.Dict):
        return {"type": "Dict", "spaces": {k: space_to_json(s) for k, s in space.items()}}
    kind = next(kind.__name__ for kind in ARRAY_SPACES if isinstance(space, kind))
    values = {name: np.asarray(getattr(space, name)) for name in SPACE_ATTRIBUTES[kind]}
    plain = {
        n: _bound_to_json(v) if n in ("low", "high") else v.tolist() for n, v in values.items()
    }
    return {"type": kind, "dtype": str(space.dtype), **plain}


def space_from_json(described: dict[str, Any]) -> Space:
    """Make the space that `space_to_json` described; other errors than ValueError may be raised."""
    kind = described["type"]
    if kind == "Dict":
        return spaces.Dict({k: space_from_json(s) for k, s in described["spaces"].items()})
    dtype = np.dtype(described["dtype"])
    if dtype.kind not in "fiub":
        raise ValueError(f"it has a space of dtype {dtype}")
    values = {name: described[name] for name in SPACE_ATTRIBUTES[kind]}
    if kind == "Box":
        sizes = [_count(size, 0, MAX_ELEMENTS) for size in values["shape"]]
        _count(math.prod(sizes), 0, MAX_ELEMENTS)
        for name in ("low", "high"):
            bound = np.asarray(values[name], dtype if dtype.kind == "f" else None)
            values[name] = np.broadcast_to(bound, sizes).copy()
    if (kind, dtype.name) not in (("MultiBinary", "int8"), ("Discrete", "int64")):
        values["dtype"] = dtype.type  # MultiBinary takes none, nor Discrete in older Gymnasiums
    return getattr(spaces, kind)(**values)  # type: ignore[no-any-return]  # one of the four


def _bound_to_json(bound: NDArray[Any]) -> Any:
    """Give a bound as nested lists, or as one number if all are equal; infinity as a string."""
    if bound.size and (bound == bound.flat[0]).all():
        bound = bound.flat[0]
    if np.isfinite(bound).all():
        return bound.tolist()
    return bound.astype(np.float64).astype(str).tolist()


def _count(number: Any, smallest: int, largest: int) -> int:
    if type(number) is not int or not smallest <= number <= largest:
        raise ValueError(f"it says {number!r} where a number from {smallest} to {largest} belongs")
    return number


# ---- the arrays and the manifest -----------------------------------------------------------------


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
        parts = named(observations)
        files = {name: f"observations_{i}" for i, name in enumerate(parts)}
        if len(parts) == 1:
            files = dict.fromkeys(parts, "observations")
        arrays = {
            **parts,
            "actions": allocate(self.action_space, 0),
            "rewards": np.zeros(0, dtype=np.float32),
            "episodes": np.zeros((0, len(EPISODE_COLUMNS)), dtype=np.int32),
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
    """Read a dataset's manifest; raise a DatasetError if that can't be. No other file is opened."""
    file = directory / MANIFEST
    if not os.path.lexists(file):
        raise DatasetError(
            f"{str(directory)!r} holds no trajectories: it has no {MANIFEST}. Give the directory "
            "that make_random_trajectory or make_trajectory was given."
        )
    try:
        _check_regular(file)
        if file.stat().st_size > MAX_MANIFEST_BYTES:
            raise ValueError(f"it has {file.stat().st_size} bytes")
        return _parse(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError, AttributeError, AssertionError,
            OverflowError, RecursionError) as error:  # fmt: skip
        raise _damaged(directory, f"{MANIFEST} can't be read: {error}") from error


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
    files = {field.file for field in manifest.fields.values()}
    for chunk in manifest.chunks:
        _count(chunk.num_steps, 1, MAX_ROWS)
        _count(chunk.num_episodes, 1, chunk.num_steps)
        if set(chunk.sha256) != files or any(type(seed) is not int for seed in chunk.seeds):
            raise ValueError("a chunk has other files than the spaces ask for, or other seeds")
    counts = _count(manifest.num_steps, 1, MAX_ROWS), manifest.num_episodes
    if (content["num_steps"], content["num_episodes"]) != counts:
        raise ValueError("its counts are not the sums of its chunks")
    return manifest


def _damaged(directory: Path, reason: str) -> DatasetError:
    return DatasetError(
        f"the trajectories in {str(directory)!r} are damaged: {reason}. Restore the directory from "
        "a copy, or collect them again into a new one."
    )


def _check_regular(file: Path) -> None:
    """Check that a file is one: a link could lead anywhere, and a pipe never ends."""
    if not stat.S_ISREG(file.lstat().st_mode):
        raise ValueError(f"{file.name} is a link or no regular file")


# ---- reading -------------------------------------------------------------------------------------


class TrajectoryFiles:
    """A dataset's files, opened for reading; a DatasetError says what is missing or damaged.

    Opening checks the manifest, and each file's kind, header and size: no time depends on the
    number of env steps. The data are checked by `verify`.

    The smaller arrays are mapped: the fastest way, but what was touched counts as memory in use,
    and Linux maps up to 2 MB at a touch. So those beyond `MAPPED_BYTES` are read where needed.
    """

    def __init__(self, directory: str | Path) -> None:
        self.directory = Path(directory).absolute()
        self.manifest = read_manifest(self.directory)
        self.fields = self.manifest.fields
        self._mapped: dict[str, NDArray[Any]] = {}
        self._opened: dict[str, FileIO] = {}
        left = MAPPED_BYTES
        for name in sorted(self.fields, key=self.manifest.num_bytes):
            field, num_rows = self.fields[name], self.manifest.num_rows(name)
            file = self._opened[name] = self._open(name, field)
            left -= self.manifest.num_bytes(name)
            if left >= 0 or not hasattr(os, "pread"):
                mapped = np.memmap(file, field.row, "r", field.start, num_rows)
                self._mapped[name] = mapped.view(np.ndarray)  # which is indexed faster
                file.close()  # a map goes on without it

    def __reduce__(self) -> tuple[Any, ...]:  # another process is sent the directory alone
        return TrajectoryFiles, (self.directory,)

    def _open(self, name: str, field: Field) -> FileIO:
        """Open a file, check its kind, header and size, and stay before its first row."""
        path = self.directory / field.file
        try:
            _check_regular(path)
            file = path.open("rb", buffering=0)
            weakref.finalize(self, file.close)
            _check_header(file.read(field.start), field, self.manifest.num_rows(name))
            size, expected = path.stat().st_size, self.manifest.num_bytes(name)
            if size < expected:
                raise ValueError(f"it has {size} bytes; expected {expected}")
        except (OSError, ValueError) as error:
            raise _damaged(self.directory, f"{field.file}: {error}") from error
        return file

    def read(self, name: str, starts: NDArray[np.int64], length: int) -> NDArray[Any]:
        """Copy B runs of consecutive rows of an array, (B, length, ...), from these starts (B,)."""
        if name in self._mapped:
            runs: NDArray[Any] = self._mapped[name][starts[:, None] + np.arange(length)]
            return runs
        field, file = self.fields[name], self._opened[name].fileno()
        size, offsets = length * field.row.itemsize, field.start + starts * field.row.itemsize
        content = b"".join([os.pread(file, size, offset) for offset in offsets.tolist()])
        if len(content) != len(starts) * size:
            raise _damaged(self.directory, f"{field.file} has become shorter")
        shape = (len(starts), length, *field.row.shape)
        return np.frombuffer(content, field.row.base).reshape(shape).copy()

    def read_episodes(self) -> NDArray[np.int32]:
        """Read what is known of all E episodes: (E, 4), see `EPISODE_COLUMNS`."""
        start = np.zeros(1, dtype=np.int64)
        marks: NDArray[np.int32] = self.read("episodes", start, self.manifest.num_episodes)[0]
        lengths, flags = marks[:, 0], marks[:, 1:]
        possible = lengths.min() >= 1 and flags.min() >= 0 and flags.max() <= 1
        if not possible or lengths.sum(dtype=np.int64) != self.manifest.num_steps:
            raise _damaged(self.directory, "episodes.npy has impossible lengths or flags")
        return marks

    def verify(self) -> None:
        """Compare every byte with its checksum (about a second for each GB)."""
        for name, field in self.fields.items():
            rows = [count_rows(name, c.num_steps, c.num_episodes) for c in self.manifest.chunks]
            try:
                with self._open(name, field) as file:  # as it is by now
                    sums = [_sha256(file, count * field.row.itemsize) for count in rows]
            except OSError as error:
                raise _damaged(self.directory, f"{field.file}: {error}") from error
            if sums != [chunk.sha256[field.file] for chunk in self.manifest.chunks]:
                raise _damaged(self.directory, f"{field.file} was altered")


def _check_header(found: bytes, field: Field, num_rows: int) -> None:
    """Check a header byte by byte; an append that failed may have left one with more rows."""
    rows = re.search(rb"'shape': \((\d{1,18}),", found)
    if rows is None or found != field.header(int(rows[1])):
        raise ValueError(f"it is no array of {field.row.base} with rows of shape {field.row.shape}")
    if int(rows[1]) < num_rows:
        raise ValueError(f"it has {int(rows[1])} rows; expected {num_rows}")


def _sha256(file: FileIO, size: int) -> str:
    """Compute the checksum of the next `size` bytes of a file."""
    digest = hashlib.sha256()
    while size > 0 and (block := file.read(min(size, 2**20))):
        digest.update(block)
        size -= len(block)
    return digest.hexdigest()
