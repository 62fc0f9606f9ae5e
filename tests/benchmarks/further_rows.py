"""The table's rows beyond PPO: replay agents, stored trajectories, dreams, the live plot."""

from __future__ import annotations

import contextlib
import io
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import images
import live
import pixels
import replay_agents
import trajectories
import world_model

Row = tuple[str, str, str, str]  # what, ratio or count, target, the seconds behind it
SEEDS = 10
SOLVED = 475.0


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Throw away what is printed."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def seconds(function: Callable[[], Any]) -> float:
    """Run a function silently; give its seconds."""
    with silence():
        start = time.perf_counter()
        function()
        return time.perf_counter() - start


def replay_rows(repeats: int) -> list[Row]:
    """Compare DQN and SAC, and drawing from a buffer, with Stable-Baselines3."""
    rows = []
    for name, measure in (("DQN", replay_agents.dqn), ("SAC", replay_agents.sac)):
        with silence():
            found = measure(repeats=repeats)
        cell = ", ".join(
            f"{whose} {found[f'{whose}_seconds']:.1f} s for {found[f'{whose}_updates']} updates"
            for whose in ("ours", "theirs")
        )
        rows.append((f"{name}: SB3 / ours, an update", f"{found['ratio']:.2f}", ">= 1.5", cell))
    found = replay_agents.sampling(repeats=repeats)
    cell = f"{found['ours_us']:.0f} and {found['theirs_us']:.0f} us"
    rows.append(("256 of 1,000,000: SB3 / ours", f"{found['ratio']:.1f}", ">= 2", cell))
    cell = f"{found['ours_mb']:.0f} and {found['theirs_mb']:.0f} MB"
    rows.append(("their memory: SB3 / ours", f"{found['memory_ratio']:.1f}", ">= 2", cell))
    return rows


def replay_learning_rows(repeats: int) -> list[Row]:
    """Train DQN's and SAC's defaults, and Stable-Baselines3's tuned ones, with `repeats` seeds."""
    with silence():
        learned = replay_agents.learning(repeats)
    rows = []
    for name, least in (("dqn", SOLVED), ("sac", -200.0)):
        for whose, target in (("ours", str(repeats)), ("sb3", "")):
            run = learned[f"{name}_{whose}"]
            solved = sum(mean >= least for mean in run["mean_returns"])
            cell = f"{run['env_steps']} env steps, {run['seconds']:.0f} s: {run['mean_returns']}"
            rows.append((f"{name}, {whose}: seeds of {repeats} solved", str(solved), target, cell))
    return rows


def trajectory_rows(repeats: int) -> list[Row]:
    """Measure reading stored trajectories."""
    batch = trajectories.loader(repeats)
    large = trajectories.large()
    transitions, windows = large["window_1"], large["window_10"]
    opened = max(transitions["open"], windows["open"])
    grown = max(transitions["grown_mb"], windows["grown_mb"])
    ways = ("ours", "item_by_item", "in_memory")
    cell = ", ".join(f"{name} {1e6 * batch[name]:.0f} us a batch of 256" for name in ways)
    ratio = batch["ratio_item_by_item"]
    return [
        ("DataLoader: item by item / ours", f"{ratio:.0f}", ">= 20", cell),
        ("opening 10,000,000 transitions", f"{opened:.3f} s", "< 0.2 s", f"{large['mb']:.0f} MB"),
        ("memory grown by windows of them", f"{grown:.0f} MB", "< 200 MB", "4,000 batches of 256"),
    ]


def dream_rows(repeats: int) -> list[Row]:
    """Count what is reached from dreams, and compare their time with the real environment's."""
    with silence():
        alone = world_model.real_means(world_model.cartpole_chain, "CartPole-v1", range(SEEDS))
        more = world_model.real_means(
            world_model.cartpole_chain, "CartPole-v1", range(SEEDS), rounds=2
        )
        pendulum = world_model.real_means(world_model.pendulum_chain, "Pendulum-v1", range(5))
    solved = [sum(mean >= SOLVED for mean in means) for means in (alone, more)]
    above = sum(mean > -250 for mean in pendulum)
    dream = world_model.make_dream(0)
    times: dict[str, list[float]] = {"chain": [], "dream": [], "real": []}
    for seed in range(repeats):
        times["chain"].append(seconds(lambda s=seed: world_model.cartpole_chain(s)))  # type: ignore[misc]
        times["dream"].append(seconds(lambda s=seed: world_model.ppo(dream, s)))  # type: ignore[misc]
        times["real"].append(seconds(lambda s=seed: world_model.ppo("CartPole-v1", s)))  # type: ignore[misc]
    medians = {name: statistics.median(values) for name, values in times.items()}
    cell = ", ".join(f"{name} {value:.2f} s" for name, value in medians.items())
    chain, dreamt = (medians[name] / medians["real"] for name in ("chain", "dream"))
    return [
        (f"CartPole from 10,000 random steps, of {SEEDS}", str(solved[0]), ">= 8", f"{alone}"),
        (f"and two rounds of 2,000, of {SEEDS}", str(solved[1]), "10", f"{more}"),
        ("Pendulum above -250 from a dream, of 5", str(above), ">= 4", f"{pendulum}"),
        ("the chain to 475 / PPO without a model", f"{chain:.1f}", "<= 4", cell),
        ("PPO in a dream / in the real native env", f"{dreamt:.2f}", "<= 1.5", cell),
    ]


def pixel_rows(_: int) -> list[Row]:
    """Count what is reached from dreams of pictures, beside PPO on the same pictures."""
    with silence():
        alone = [pixels.cartpole(seed) for seed in range(300, 300 + SEEDS)]
        more = [pixels.cartpole(seed, rounds=1) for seed in range(300, 300 + SEEDS)]
        pendulum = [pixels.pendulum(seed) for seed in range(300, 305)]
        cpu = statistics.median(run.seconds for run in alone)
        as_many = [pixels.ppo(seed, 10_000) for seed in range(300, 303)]
        as_long = [pixels.ppo(seed, 1_000_000, cpu) for seed in range(300, 303)]
        recurrent = [pixels.recurrent(seed) for seed in range(300, 303)]
        speeds = pixels.speeds()
    good, poor, solved = (
        sum(run.mean >= least for run in runs)
        for runs, least in ((alone, 400), (alone, 200), (more, SOLVED))
    )
    seconds = f"{cpu:.0f} s of CPU time each"
    above = sum(run.mean > -300 for run in pendulum)
    ratio = speeds["dream"] / speeds["drawn and seen"]
    cell = ", ".join(f"{name} {value:,.0f} a second" for name, value in speeds.items())
    steps = [run.real_steps for run in as_long]
    return [
        (f"CartPole from 10,000 pictures at 400, of {SEEDS}", str(good), ">= 9", seconds),
        (f"the same at 200, of {SEEDS}", str(poor), "10", f"{pixels.means(alone)}"),
        (f"and a round of 2,000 at 475, of {SEEDS}", str(solved), "10", f"{pixels.means(more)}"),
        ("Pendulum from pictures above -300, of 5", str(above), ">= 4", f"{pendulum}"),
        ("PPO on the same pictures, 10,000 env steps", f"{pixels.means(as_many)}", "", ""),
        ("PPO on them, the same CPU time", f"{pixels.means(as_long)}", "", f"{steps} env steps"),
        ("in a recurrent model's dream, 10,000 pictures", f"{pixels.means(recurrent)}", "", ""),
        ("dream / real env in percepts, env steps a second", f"{ratio:.1f}", ">= 1", cell),
    ]


def image_rows(repeats: int) -> list[Row]:
    """Compare PPO on stacked frames with Stable-Baselines3's CnnPolicy."""
    runs: dict[str, list[dict[str, float]]] = {"ours": [], "sb3": []}
    for _ in range(repeats):
        for whose, measured in runs.items():
            measured.append(images.measure(whose))
    ours, theirs = (
        {name: statistics.median(run[name] for run in measured) for name in ("seconds", "mb")}
        for measured in runs.values()
    )
    ratio = theirs["seconds"] / ours["seconds"]
    cell = ", ".join(f"{r['seconds']:.1f} s and {r['mb']:.0f} MB" for r in (ours, theirs))
    return [("PPO on 84 x 84 x 4 frames: SB3 / ours", f"{ratio:.2f}", "> 1", cell)]


def live_rows(repeats: int) -> list[Row]:
    """Measure what the live plot costs, in a real kernel."""
    kernel = live.Kernel()
    try:
        runs = [live.run_rows(kernel, length, [], repeats) for length in (3.0, 10.0, 60.0)]
        return [*chain.from_iterable(runs), live.frame_row(kernel, 30)]
    finally:
        kernel.close()
