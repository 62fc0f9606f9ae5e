"""Measure the package against its peers and print the table: `python tests/benchmarks`.

Every ratio comes from one run of this program, on one core with one torch thread, as the median of
`--repeats` measurements taken in turns. It takes about an hour; `--only` names rows.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import further_rows
import rollout
import same_work
import time_to_solve
import torch

SAME_WORK_STEPS = 100_000
BUDGET = 65_536
Row = tuple[str, str, str, str]  # what, ratio or count, target, the seconds behind it


def timed(function: Callable[[], Any]) -> float:
    """Run a function with its output thrown away; give its seconds."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        start = time.perf_counter()
        function()
        return time.perf_counter() - start


def in_turns(repeats: int, **functions: Callable[[], float]) -> dict[str, float]:
    """Measure each function `repeats` times, one after the other, and give the medians."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            seconds[name].append(function())
    return {name: statistics.median(values) for name, values in seconds.items()}


def spell(medians: dict[str, float], unit: str = "s", scale: float = 1.0) -> str:
    """Write medians in one cell."""
    return ", ".join(f"{name} {value * scale:.3g} {unit}" for name, value in medians.items())


def same_work_rows(repeats: int) -> list[Row]:
    """Compare 100,000 steps at rl-zoo's setting."""
    seeds = iter(range(10_000))
    steps = SAME_WORK_STEPS
    medians = in_turns(
        repeats,
        ours=lambda: timed(lambda: same_work.ours(steps, next(seeds))),
        sb3=lambda: timed(lambda: same_work.stable_baselines3(steps, next(seeds))),
        hand=lambda: timed(lambda: same_work.hand_written(steps, next(seeds))),
    )
    cell = spell(medians)
    return [
        ("same work: SB3 / ours", f"{medians['sb3'] / medians['ours']:.2f}", ">= 2.0", cell),
        ("same work: ours / hand", f"{medians['ours'] / medians['hand']:.2f}", "<= 1.10", cell),
    ]


def solve_rows(repeats: int) -> list[Row]:
    """Compare the time to 475; SB3 gives up at 100,000 steps, its tuned budget."""
    clocks: dict[str, list[time_to_solve.Clock]] = {"ours": [], "sb3": []}
    for seed in range(repeats):
        timed(lambda s=seed: clocks["ours"].append(time_to_solve.ours(s)))  # type: ignore[misc]
        timed(lambda s=seed: clocks["sb3"].append(time_to_solve.peer(s, SAME_WORK_STEPS)))  # type: ignore[misc]
    medians = {
        name: statistics.median(c.seconds if c.seconds is not None else float("inf") for c in group)
        for name, group in clocks.items()
    }
    steps = {name: [c.steps for c in group] for name, group in clocks.items()}
    ratio = medians["sb3"] / medians["ours"]
    return [("time to 475: SB3 / ours", f"{ratio:.1f}", ">= 10", f"{spell(medians)}; {steps}")]


def seeds_row(_: int) -> list[Row]:
    """Count the seeds of 10 whose final agent holds 475 after the default budget."""
    from lightning_rl import AgentTrainer, PPOAgent, evaluate

    means = []
    for seed in range(10):
        agent = PPOAgent()
        trainer = AgentTrainer(
            max_env_steps=BUDGET, seed=seed, accelerator="cpu", logger=False,
            enable_checkpointing=False,
        )  # fmt: skip
        timed(lambda t=trainer, a=agent: t.fit(a, "CartPole-v1"))  # type: ignore[misc]
        means.append(
            round(evaluate(agent, "CartPole-v1", episodes=100, seed=50_000 + seed).mean, 1)
        )
    solved = sum(mean >= time_to_solve.TARGET for mean in means)
    return [("seeds of 10 at 475 after 65,536", str(solved), "10", f"final means {means}")]


def rollout_rows(repeats: int) -> list[Row]:
    """Compare a rollout with a bare loop."""
    rows = []
    for num_envs in (8, 1024):
        medians = rollout.measure(num_envs, repeats * 3)
        ratio = medians["ours"] / medians["bare"]
        cell = spell(medians, "us a step", 1e6)
        rows.append((f"rollout / bare loop, {num_envs} envs", f"{ratio:.2f}", "<= 1.3", cell))
    return rows


def import_row(repeats: int) -> list[Row]:
    """Compare import times, each in a fresh process, from compiled files as pip installs them."""
    # Where Python may not write bytecode, each import would compile our files, and ours alone.
    env = {n: value for n, value in os.environ.items() if n != "PYTHONDONTWRITEBYTECODE"}

    def seconds(statement: str) -> float:
        program = (
            f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
        )
        command = [sys.executable, "-c", program]
        return float(subprocess.run(command, capture_output=True, check=True, env=env).stdout)

    seconds("import lightning_rl")  # compiles them
    medians = in_turns(
        repeats,
        ours=lambda: seconds("import lightning_rl"),
        base=lambda: seconds("import lightning, gymnasium, torch"),
    )
    ratio = medians["ours"] / medians["base"]
    return [("import / lightning, gymnasium, torch", f"{ratio:.2f}", "<= 1.05", spell(medians))]


ROWS: dict[str, Callable[[int], list[Row]]] = {
    "same_work": same_work_rows,
    "solve": solve_rows,
    "seeds": seeds_row,
    "rollout": rollout_rows,
    "import": import_row,
    "replay": further_rows.replay_rows,
    "replay_learning": further_rows.replay_learning_rows,
    "trajectories": further_rows.trajectory_rows,
    "dream": further_rows.dream_rows,
    "pixels": further_rows.pixel_rows,
    "live": further_rows.live_rows,
    "images": further_rows.image_rows,
}


def machine() -> str:
    """Describe where the numbers come from."""
    cpu = "unknown CPU"
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = lines[0].split(":")[1].strip() if lines else cpu
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    return f"{cpu}, {os.cpu_count()} cores, {versions}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", choices=list(ROWS), nargs="*", default=list(ROWS))
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {0})
    torch.set_num_threads(1)
    print(f"{machine()}; one core, one torch thread, medians of {options.repeats}\n")
    print("| what | measured | target | behind it |\n| --- | --- | --- | --- |", flush=True)
    for name in options.only:
        for row in ROWS[name](options.repeats):
            print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
