"""Stored trajectories: how fast a large dataset opens, what reading it costs, and how fast it is.

Run it by itself with

    OMP_NUM_THREADS=1 taskset -c 0 python tests/benchmarks/trajectories.py
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader, Dataset, RandomSampler

NUM_TRANSITIONS, BATCH_SIZE = 10_000_000, 256


class ItemByItem(Dataset):
    """A dataset without its way to fetch a batch at once: the DataLoader's default path."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return self.dataset[index]


class InMemory(Dataset):
    """The simplest dataset of dicts there is: tensors in memory, one row an item."""

    def __init__(self, dataset: Any) -> None:
        self.fields = dataset[range(len(dataset))]

    def __len__(self) -> int:
        return len(self.fields["rewards"])

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {name: values[index] for name, values in self.fields.items()}


def seconds_of_a_batch(dataset: Any) -> float:
    """Iterate an epoch of shuffled minibatches."""
    start, batches = time.perf_counter(), 0
    for _ in DataLoader(dataset, batch_size=BATCH_SIZE, shuffle=True):
        batches += 1
    return (time.perf_counter() - start) / batches


def loader(repeats: int, window: int = 1) -> dict[str, float]:
    """Give the median seconds of a minibatch of 256 windows from 10,000 env steps of CartPole-v1.

    `item_by_item` fetches the same windows from the same files by `dataset[i]`, `in_memory` from
    tensors held in memory; the ratios are theirs / ours.
    """
    from lightning_rl.trajectories.collect import make_random_trajectory

    with tempfile.TemporaryDirectory() as folder:
        dataset = make_random_trajectory("CartPole-v1", folder, progress=False)
        dataset = dataset.with_window(window)
        ways = {
            "ours": dataset,
            "item_by_item": ItemByItem(dataset),
            "in_memory": InMemory(dataset),
        }
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(repeats):
            for name, way in ways.items():
                seconds[name].append(seconds_of_a_batch(way))
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    ratios = {f"ratio_{name}": medians[name] / medians["ours"] for name in list(ways)[1:]}
    return medians | ratios


def write_large(folder: str, num_transitions: int) -> None:
    """Write episodes of 1 to 200 env steps with CartPole's spaces."""
    from lightning_rl.trajectories.writer import TrajectoryWriter

    env, generator = gym.make("CartPole-v1"), np.random.default_rng(0)
    writer = TrajectoryWriter(folder, env.observation_space, env.action_space, "CartPole-v1")
    while (left := num_transitions - writer.num_steps) > 0:
        length = min(int(generator.integers(1, 200)), left)
        observations = generator.standard_normal((length + 1, 4), dtype=np.float32)
        actions = generator.integers(2, size=length)
        writer.add(observations, actions, np.ones(length), terminated=True, truncated=False)
    writer.flush()


def read_large(folder: str, window: int, batches: int) -> dict[str, float]:
    """Open a dataset and read random windows of it. Give seconds, and the growth of RSS in MB."""
    from lightning_rl.trajectories.dataset import TrajectoryDataset

    process = psutil.Process()
    before, start = process.memory_info().rss, time.perf_counter()
    dataset = TrajectoryDataset(folder, window=window)
    opened, most = time.perf_counter() - start, 0
    sampler = RandomSampler(dataset, replacement=True, num_samples=batches * BATCH_SIZE)
    start = time.perf_counter()
    for _ in DataLoader(dataset, batch_size=BATCH_SIZE, sampler=sampler):
        most = max(most, process.memory_info().rss)
    seconds = (time.perf_counter() - start) / batches
    return {"open": opened, "batch": seconds, "grown_mb": (most - before) / 1e6}


def large(num_transitions: int = NUM_TRANSITIONS, batches: int = 4000) -> dict[str, Any]:
    """Read a large dataset in a new process, by transitions and by windows of 10."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_large(folder, num_transitions)
        results["mb"] = sum(file.stat().st_size for file in Path(folder).iterdir()) / 1e6
        for window in (1, 10):
            call = [sys.executable, __file__, folder, str(window), str(batches)]
            answer = subprocess.run(call, check=True, capture_output=True, text=True).stdout
            results[f"window_{window}"] = json.loads(answer)
    return results


def main() -> None:
    if len(sys.argv) > 1:
        folder, window, batches = sys.argv[1:]
        print(json.dumps(read_large(folder, int(window), int(batches))))
    else:
        measured = {"loader": loader(5), "loader_10": loader(5, window=10), "large": large()}
        print(json.dumps(measured, indent=1))


if __name__ == "__main__":
    main()
