"""Measure training in two processes against one: `python tests/benchmarks/distributed.py speed`.

- `speed`: the same env steps and the same global batch, on two cores and on one;
- `overhead`: what DDP costs an update, with and without a second process;
- `curves`: returns over seeds, with a bootstrap interval of the difference;
- `cost`: CPU seconds of an env step at the start of a long run and at its end.

Wall time needs idle cores; CPU time of the slower process is given beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed
from lightning.pytorch.callbacks import Callback

from lightning_rl import AgentTrainer, PPOAgent, PPOConfig
from lightning_rl.stats import interquartile_mean

NUM_ENVS, ROLLOUT_STEPS, BATCH_SIZE = 64, 8192, 1024  # over all processes
RESAMPLES = 10_000


class Clock(Callback):
    """Notes env steps, wall time and CPU time after each iteration."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, float, float]] = []

    def note(self, env_steps: int) -> None:
        self.rows.append((env_steps, time.perf_counter(), time.process_time()))

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.note(0)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.note(pl_module.env_steps)


def train(
    ranks: int, strategy: str, seed: int, env_steps: int, shares: int, num_envs: int, file: Path
) -> None:
    """Train once, as one of the processes; write what it took and what came of it.

    Args:
        ranks: processes.
        strategy: Lightning's.
        seed: of the training.
        env_steps: over all processes.
        shares: of the rollout and the batch; each process has one.
        num_envs: of this process.
        file: where to write, with the rank as its suffix.
    """
    warnings.filterwarnings("ignore")
    config = PPOConfig(rollout_steps=ROLLOUT_STEPS // shares, batch_size=BATCH_SIZE // shares)
    agent, clock = PPOAgent(config=config), Clock()
    trainer = AgentTrainer(
        accelerator="cpu", strategy=strategy, devices=ranks, quiet=True, callbacks=[clock],
        max_env_steps=env_steps, num_envs=num_envs, seed=seed,
    )  # fmt: skip
    trainer.fit(agent, "CartPole-v1")
    found = {
        "rows": clock.rows,
        "updates": trainer.global_step * config.update_epochs * (ROLLOUT_STEPS // BATCH_SIZE),
        "mean": float(agent.episodes["episode_return"].mean()),
        "last": agent.episodes.mean_return(),
        "reduce": time_of_reduce(agent) if ranks > 1 else 0.0,
    }
    file.with_suffix(f".{trainer.global_rank}").write_text(json.dumps(found))


def time_of_reduce(agent: Any, repeats: int = 500) -> float:
    """Give the median seconds of summing the gradients up once."""
    gradients = torch.zeros(sum(parameter.numel() for parameter in agent.parameters()))
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.distributed.all_reduce(gradients)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def run(
    ranks: int, strategy: str = "auto", seed: int = 0, env_steps: int = 200_000,
    shares: int | None = None, num_envs: int | None = None,
) -> Any:  # fmt: skip
    """Train in processes of their own; give what each of them found."""
    shares = shares or ranks
    sizes = [env_steps, shares, num_envs or NUM_ENVS // shares]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "found"
        command = [sys.executable, __file__, "train", str(ranks), strategy, str(seed)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run(
            [*command, *map(str, sizes), str(file)],
            check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return [json.loads(file.with_suffix(f".{i}").read_text()) for i in range(ranks)]


def seconds(found: Any) -> tuple[float, float]:
    """Give wall and CPU seconds of the slowest process, without its first iteration."""
    rows = [one["rows"] for one in found]
    return tuple(max(row[-1][i] - row[1][i] for row in rows) for i in (1, 2))  # type: ignore


def speed(repeats: int, env_steps: int) -> None:
    """Compare two processes with one, and with half the work: there is no more to be had."""
    ways: dict[str, dict[str, Any]] = {
        "one process, 64 envs": {"ranks": 1, "env_steps": env_steps},
        "half of it alone": {"ranks": 1, "env_steps": env_steps // 2, "shares": 2},
        "two processes, 32 envs each": {"ranks": 2, "strategy": "ddp", "env_steps": env_steps},
        "half of it alone, 64 envs": {
            "ranks": 1, "env_steps": env_steps // 2, "shares": 2, "num_envs": NUM_ENVS
        },
        "two processes, 64 envs each": {
            "ranks": 2, "strategy": "ddp", "env_steps": env_steps, "num_envs": NUM_ENVS
        },
    }  # fmt: skip
    taken: dict[str, list[Any]] = {name: [] for name in ways}
    for seed in range(repeats):
        for name, options in ways.items():
            taken[name].append(seconds(run(**options, seed=seed)))
    first = None
    for name, found in taken.items():
        wall, cpu = (statistics.median(one[i] for one in found) for i in (0, 1))
        first = first or (wall, cpu)
        ratios = f"{first[0] / wall:.2f} and {first[1] / cpu:.2f} times as fast"
        print(f"{name}: {wall:.2f} s, CPU of a process {cpu:.2f} s: {ratios}", flush=True)


def overhead(repeats: int) -> None:
    """Compare DDP in one process with none, by CPU time; time the summing of two."""
    taken: dict[str, list[float]] = {"auto": [], "ddp": []}
    for seed in range(repeats):
        for strategy, found in taken.items():
            (one,) = run(1, strategy, seed)
            found.append(seconds([one])[1] / one["updates"])
    plain, ddp = (statistics.median(found) * 1e6 for found in taken.values())
    reduce = statistics.median(run(2, "ddp", seed)[0]["reduce"] for seed in range(repeats)) * 1e6
    print(f"an update and its rollout: {plain:.0f} µs, under DDP {ddp:.0f} µs: {ddp - plain:+.0f}")
    print(f"summing the gradients of two processes: {reduce:.0f} µs")


def curves(repeats: int) -> None:
    """Compare returns of seeds: a bootstrap interval of the difference of interquartile means."""
    found = {
        ranks: [run(ranks, "ddp", seed, 65_536)[0] for seed in range(repeats)] for ranks in (1, 2)
    }
    generator = np.random.default_rng(0)
    for what in ("mean", "last"):
        one, two = (np.array([run[what] for run in found[ranks]]) for ranks in (1, 2))
        drawn = generator.integers(repeats, size=(2, RESAMPLES, repeats))
        difference = interquartile_mean(two[drawn[1]], 1) - interquartile_mean(one[drawn[0]], 1)
        low, high = np.percentile(difference, [2.5, 97.5])
        means = [float(interquartile_mean(runs)) for runs in (one, two)]
        print(
            f"{what} return of training: one {means[0]:.1f}, two {means[1]:.1f}; the difference's "
            f"95 % interval {low:.1f} to {high:.1f} {'holds' if low <= 0 <= high else 'MISSES'} 0"
        )


def cost(env_steps: int) -> None:
    """Compare CPU seconds an env step: around 100,000 env steps, and at the end of a long run."""
    (found,) = run(1, env_steps=env_steps)
    steps, _, cpu = np.array(found["rows"]).T
    first = (steps > 50_000) & (steps <= 150_000)
    last = steps > steps[-1] - 100_000
    costs = [np.median(np.diff(cpu[part]) / np.diff(steps[part])) * 1e6 for part in (first, last)]
    print(
        f"CPU of an env step: {costs[0]:.2f} µs around 100,000 env steps, {costs[1]:.2f} µs at "
        f"{env_steps:,}: {100 * (costs[1] / costs[0] - 1):+.1f} %"
    )


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["speed", "overhead", "curves", "cost", "train"])
    parser.add_argument("rest", nargs="*")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--env-steps", type=int)
    options = parser.parse_args()
    if options.what == "train":
        ranks, strategy, *numbers, file = options.rest
        train(int(ranks), strategy, *map(int, numbers), Path(file))  # type: ignore[call-arg]
    elif options.what == "cost":
        cost(options.env_steps or 5_000_000)
    elif options.what == "speed":
        speed(options.repeats, options.env_steps or 200_000)
    else:
        {"overhead": overhead, "curves": curves}[options.what](options.repeats)


if __name__ == "__main__":
    main()
