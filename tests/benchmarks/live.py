"""What the live plot costs, in a real kernel: `python tests/benchmarks/live.py`.

The same runs are made with and without it in turns; a frame is drawn with few episodes and with
many. All takes about ten minutes. The kernel shows its pictures to nobody, as a browser would draw
them on another core. On a busy machine `--clock process` counts the process's own CPU time in the
place of wall time, which on an idle one is the same: the training fills one core.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from itertools import product
from typing import Any

from jupyter_client.manager import start_new_kernel

# Runs in the kernel. `budget` is what LiveReturns itself counts as drawing.
SETUP = """
import json, time
from types import SimpleNamespace
import numpy as np
from lightning_rl import AgentTrainer, EnvStepProgressBar, EpisodeHistory, PPOAgent
from lightning_rl.callbacks import Controls, live_returns, progress_bar
from lightning_rl.callbacks.live_returns import LiveReturns, LiveRun

clock = getattr(time, "CLOCK")
live_returns.time = progress_bar.time = SimpleNamespace(perf_counter=clock)

class Counting(LiveReturns):
    # notes when each frame was drawn

    def draw(self, is_last=True):
        super().draw(is_last)
        self.times.append(clock() - self.start)

class Bar(EnvStepProgressBar):
    # notes how old the picture is that is seen with each state of the bar

    def on_train_batch_end(self, *arguments):
        before = self.train_progress_bar.n
        super().on_train_batch_end(*arguments)
        if self.live.times and self.train_progress_bar.n != before:
            self.live.ages.append(clock() - self.live.start - self.live.times[-1])

def fit(env_steps, is_live, panels=()):
    live, bar = Counting(panels=panels), Bar()
    live.times, live.ages, bar.live = [], [], live
    trainer = AgentTrainer(
        max_env_steps=env_steps, seed=0, live=False, logger=False, enable_checkpointing=False,
        callbacks=[live, Controls(), bar] if is_live else [bar],
    )
    start = live.start = clock()
    trainer.fit(PPOAgent(), "CartPole-v1")
    return clock() - start, live.budget.spent, live.times, live.ages

def history(episodes):
    random = np.random.default_rng(0)
    result = EpisodeHistory()
    for env_step in np.cumsum(random.integers(10, 500, episodes)):
        result.append(float(env_step), random.normal(200.0, 50.0), 200)
    return result

def frame(live):
    start = clock()
    live.draw()
    return clock() - start

def frames(repeats, *sizes):
    plots = [LiveReturns(target=475.0) for _ in sizes]
    for live, episodes in zip(plots, sizes):
        live.runs.append(LiveRun("PPO", history(episodes)))
        live.draw()  # the first one loads fonts
    return [[frame(live) for live in plots] for _ in range(repeats)]
"""


class Kernel:
    """Evaluates expressions in a kernel."""

    def __init__(self, clock: str) -> None:
        self.manager, self.client = start_new_kernel(kernel_name="python3")
        self.value("None", SETUP.replace("CLOCK", clock))

    def value(self, expression: str, code: str = "") -> Any:
        """Give the value of an expression, after a cell of code."""
        found: list[str] = []

        def note(message: Any) -> None:
            if message["content"].get("name") == "stdout":
                found.append(message["content"]["text"])

        cell = f"{code}\nresult = {expression}\nprint('RESULT' + json.dumps(result))"
        reply = self.client.execute_interactive(cell, timeout=1000, output_hook=note)["content"]
        if reply["status"] != "ok":
            raise RuntimeError("\n".join(reply["traceback"]))
        return json.loads("".join(found).split("RESULT")[1])

    def close(self) -> None:
        """End the kernel."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def run_rows(
    kernel: Kernel, seconds: float, panels: list[str], repeats: int
) -> Iterator[tuple[str, str, str, str]]:
    """Compare runs of about so many seconds, with and without the live plot; count frames."""
    trial = kernel.value("fit(40_000, False)")[0]
    env_steps = int(40_000 * seconds / trial)
    ratios, shares, walls, rates, ages, firsts = [], [], [], [], [], []
    for repeat in range(repeats):
        order = (False, True) if repeat % 2 else (True, False)  # as machines slow down
        runs = {live: kernel.value(f"fit({env_steps}, {live}, {panels})") for live in order}
        (without, *_), (wall, spent, times, age) = runs[False], runs[True]
        ratios.append(wall / without)
        shares.append(spent / wall)
        walls.append(wall)
        rates.append(sum(t > 0.5 for t in times) / (wall - 0.5))
        ages.append(max(age))
        firsts.append(times[0])
    behind = (
        f"{env_steps} env steps, {statistics.median(walls):.1f} s; drawing is "
        f"{100 * statistics.median(shares):.1f} % of it by its own clock"
    )
    run = f"{seconds:g} s{', 2 panels' if panels else ''}"
    ratio = statistics.median(ratios)
    yield f"time with / without the live plot, {run}", f"{ratio:.3f}", "<= 1.05", behind
    yield f"frames a second, {run}", f"{statistics.median(rates):.1f}", ">= 4", "after 0.5 s"
    first = f"axes and target are there {statistics.median(firsts):.2f} s after fit was called"
    yield f"the curve is behind the bar, {run}", f"{max(ages):.2f} s", "<= 0.5 s", first


def frame_row(kernel: Kernel, repeats: int) -> tuple[str, str, str, str]:
    """Compare a frame of 50,000 episodes with one of 200."""
    few, many = zip(*kernel.value(f"frames({repeats}, 200, 50_000)"), strict=True)
    ratio = statistics.median(b / a for a, b in zip(few, many, strict=True))
    behind = f"{1e3 * statistics.median(many):.1f} and {1e3 * statistics.median(few):.1f} ms"
    return "a frame of 50,000 / of 200 episodes", f"{ratio:.2f}", "<= 1.3", behind


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, nargs="*", default=[3.0, 10.0, 60.0])
    parser.add_argument("--clock", choices=["wall", "process"], default="wall")
    options = parser.parse_args()
    kernel = Kernel("perf_counter" if options.clock == "wall" else "process_time")
    try:
        print("| what | measured | target | behind it |\n| --- | --- | --- | --- |", flush=True)
        print("| " + " | ".join(frame_row(kernel, 30)) + " |", flush=True)
        for seconds, panels in product(options.seconds, ([], ["entropy", "approx_kl"])):
            repeats = options.repeats if seconds < 30 else 1
            for row in run_rows(kernel, seconds, panels, repeats):
                print("| " + " | ".join(row) + " |", flush=True)
    finally:
        kernel.close()


if __name__ == "__main__":
    main()
