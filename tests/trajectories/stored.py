"""Stored episodes, for the tests beside it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from lightning_rl.trajectories.dataset import TrajectoryDataset
from lightning_rl.trajectories.manifest import MANIFEST
from lightning_rl.trajectories.writer import TrajectoryWriter

ARRAYS = ["observations.npy", "actions.npy", "rewards.npy", "episodes.npy"]
KEYS = ["observations", "actions", "rewards", "next_observations", "terminated", "truncated"]
POINT = spaces.Box(-1, 1, (2,))
PLANE = spaces.Box(-np.inf, np.inf, (2,))


def write_episodes(directory: Path, lengths: list[int], ends: list[int] | None = None) -> None:
    """Write episode e as (e, 0), (e, 1), ...; its end: 1 terminated, 2 truncated, 3 both, 0 cut."""
    writer = TrajectoryWriter(directory, PLANE, spaces.Discrete(2))
    for number, length in enumerate(lengths):
        end = 1 if ends is None else ends[number]
        steps = np.arange(length + 1)
        observations = np.stack([np.full(length + 1, number), steps], axis=1)
        actions, rewards = (number + steps[1:]) % 2, 100 * number + steps[1:]
        writer.add(observations, actions, rewards, bool(end & 1), bool(end & 2))
    writer.flush()
    writer.close()


def fill(directory: Path, num_episodes: int = 20, append: bool = False) -> TrajectoryWriter:
    """Write episodes of 1, 2, 3, ... env steps, in one chunk."""
    writer = TrajectoryWriter(directory, POINT, spaces.Discrete(2), "Some-v0", append)
    for length in range(1, num_episodes + 1):
        values = np.random.default_rng(length).random((length + 1, 2))
        writer.add(values, np.arange(length) % 2, values[1:, 0], terminated=True, truncated=False)
    writer.flush()
    writer.close()
    return writer


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


def sign(directory: Path) -> None:
    """Give the files of one chunk the checksums that fit them."""
    contents = {name: (directory / name).read_bytes()[128:] for name in ARRAYS}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    rewrite(directory, lambda manifest: manifest["chunks"][0].update(sha256=sums))
