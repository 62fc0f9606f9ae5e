"""Ten seeds in processes, against five runs one after the other: what two cores could do at best.

python tests/benchmarks/many_seeds.py
"""

from __future__ import annotations

import argparse
import contextlib
import io
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from lightning_rl import AgentTrainer, PPOAgent
from lightning_rl.experiments import fit_seeds


def timed(function: Callable[[], Any]) -> float:
    """Run a function with its output thrown away; give its seconds."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        start = time.perf_counter()
        function()
        return time.perf_counter() - start


def one_by_one(runs: int, budget: int) -> None:
    """Train in this process."""
    for seed in range(runs):
        trainer = AgentTrainer(
            max_env_steps=budget, seed=seed, logger=False, enable_checkpointing=False
        )
        trainer.fit(PPOAgent(), "CartPole-v1")


def main() -> None:
    """Print the seconds and their ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--budgets", type=int, nargs="+", default=[65_536, 524_288, 2_097_152])
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 10])
    options = parser.parse_args()
    one_by_one(1, 4096)  # imports and first calls
    print("| env steps a run | five runs, one by one | ten seeds in processes | ratio |")
    print("| --- | --- | --- | --- |")
    for budget in options.budgets:
        alone = timed(partial(one_by_one, 5, budget))
        for processes in options.processes:
            ten = partial(
                fit_seeds, PPOAgent, "CartPole-v1", range(10),
                episodes=1, processes=processes, max_env_steps=budget,
            )  # fmt: skip
            beside = timed(ten)
            cells = f"{alone:.1f} s | {processes}: {beside:.1f} s | {beside / alone:.2f}"
            print(f"| {budget:,} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
