"""Trainings: interrupted at any time, resumed, and what their checks cost."""

from __future__ import annotations

import hashlib
import math
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_rl import AgentTrainer, DQNAgent, PPOAgent, PPOConfig, ReinforceAgent, SACAgent
from lightning_rl.callbacks.interrupts import INTERRUPTED, Interrupts
from tests.reliability.goals import Checks, Figure

AGENTS: dict[str, Any] = {
    "PPO": (PPOAgent, "CartPole-v1", 20_000),
    "REINFORCE": (ReinforceAgent, "CartPole-v1", 20_000),
    "DQN": (DQNAgent, "CartPole-v1", 4_000),
    "SAC": (SACAgent, "Pendulum-v1", 3_000),
}


def checking_share(name: str, steps: int) -> float:
    """Give the part of a training's time that looking for NaN and infinity takes.

    Clipping by the gradients' norm looks for them, too, and costs nothing more where there are
    none; so where an agent clips by itself, only the parameters' check counts.
    """
    kind, env, _ = AGENTS[name]
    checking: list[float] = []
    updates: list[float] = []

    class Timed(kind):  # type: ignore[misc, valid-type]
        def configure_gradient_clipping(self, *args: Any, **options: Any) -> None:
            begun = time.perf_counter()
            super().configure_gradient_clipping(*args, **options)
            updates.append(begun)
            checking.append(0.0 if self.max_grad_norm else time.perf_counter() - begun)

    begun = time.perf_counter()
    AgentTrainer(max_env_steps=steps, seed=0, quiet=True).fit(Timed(), env)
    seconds = (time.perf_counter() - begun) / len(updates)
    if len(updates) > 100:  # without what interrupts it now and then
        seconds = statistics.median(b - a for a, b in pairwise(updates))
    return statistics.median(checking) / seconds


def cost_of_checking(short: bool) -> Figure | None:
    """Compare the time of the checks with that of the training around them."""
    if short:  # a share of milliseconds means nothing on a busy machine
        return None
    shares = {name: checking_share(name, steps) for name, (*_, steps) in AGENTS.items()}
    words = ", ".join(f"{name} {share:.2%}" for name, share in shares.items())
    return Figure(
        f"looking for them takes {words} of a training's time", max(shares.values()) <= 0.01
    )


# ---- interrupts ------------------------------------------------------------------------------

STEPS = 6_000  # of PPO in CartPole: about a second


def saving_trainer(folder: Path) -> AgentTrainer:
    """Make one whose checkpoint callback never saves by itself before the end."""
    saves = ModelCheckpoint(folder, save_on_train_epoch_end=False, every_n_epochs=10**6)
    return AgentTrainer(max_env_steps=STEPS, seed=0, num_envs=8, quiet=True, callbacks=[saves])


def small_agent() -> PPOAgent:
    """Make an agent of 47 iterations."""
    return PPOAgent(config=PPOConfig(rollout_steps=128, batch_size=64, update_epochs=2))


def digest(agent: Any) -> str:
    """Give the digest of all parameters."""
    numbers = [p.detach().numpy().tobytes() for p in agent.parameters()]
    return hashlib.sha256(b"".join(numbers)).hexdigest()


def interrupted_run(folder: Path, seconds: float) -> int | None:
    """Train, with a SIGINT after so many seconds; give the exit status, or None if none came."""
    Interrupts.last = -math.inf  # the one before was another program's, as it were
    trainer, agent = saving_trainer(folder), small_agent()
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))

    def begin(*_: Any) -> None:
        timer.start()

    trainer.callbacks[0].on_train_start = begin  # type: ignore[method-assign]
    try:
        trainer.fit(agent, "CartPole-v1")
    except SystemExit as exit_:
        return int(exit_.code or 0)
    finally:
        timer.cancel()
        timer.join()
    return None


def random_interrupts(short: bool) -> Figure:
    """Interrupt at random times; resume each time, and compare with the run left alone."""
    number, draw = (2 if short else 50), random.Random(0)  # noqa: S311
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    with tempfile.TemporaryDirectory() as folder:
        for _ in "ab":  # the first one imports
            whole, begun = small_agent(), time.monotonic()
            saving_trainer(Path(folder)).fit(whole, "CartPole-v1")
            seconds = time.monotonic() - begun
    exits = exact = tried = 0
    while exits < number and tried < 3 * number:
        tried += 1
        with tempfile.TemporaryDirectory() as folder:
            if interrupted_run(Path(folder), draw.uniform(0.0, 0.7 * seconds)) != 130:
                continue  # it had ended already
            exits += 1
            saved = Path(folder) / INTERRUPTED
            if saved.is_file():
                resumed = small_agent()
                saving_trainer(Path(folder) / "on").fit(resumed, "CartPole-v1", ckpt_path=saved)
                exact += digest(resumed) == digest(whole)
    words = f"{number} SIGINTs at random times: {exits} exit 130, {exact} resumed bit for bit"
    return Figure(words, exits == exact == number)


PROGRAM = """
from lightning_rl import AgentTrainer, PPOAgent
class Says(PPOAgent):
    def on_train_batch_end(self, *args):
        super().on_train_batch_end(*args)
        print("ended one", flush=True)
trainer = AgentTrainer(max_env_steps=10_000_000, seed=0, logger=False, default_root_dir=".",
    enable_progress_bar=False)
trainer.fit(Says(), "CartPole-v1")
"""


def script_ended_by(by: signal.Signals) -> tuple[int, float, int]:
    """Signal a script that trains; give its exit status, seconds to its end, and checkpoints."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
        hears = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", hears + PROGRAM], cwd=folder, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if "ended one" in line:
                break
        begun = time.monotonic()
        process.send_signal(by)
        process.communicate(timeout=60)
        saved = len(list(Path(folder).rglob("*.ckpt")))
        return process.returncode, time.monotonic() - begun, saved


def script_and_sigint(short: bool) -> Figure:
    """Interrupt a script by a signal from outside."""
    return _of_script(signal.SIGINT, 130, 60.0)


def script_and_sigterm(short: bool) -> Figure:
    """Terminate a script by a signal from outside."""
    return _of_script(signal.SIGTERM, 143, 60.0 if short else 10.0)  # CI is busy


def _of_script(by: signal.Signals, code: int, limit: float) -> Figure:
    status, seconds, saved = script_ended_by(by)
    words = f"a script exits {status} after {seconds:.1f} s, {saved} checkpoint saved"
    return Figure(words, status == code and saved > 0 and seconds < limit)


CHECKS: Checks = [
    (13, cost_of_checking),
    (15, random_interrupts),
    (15, script_and_sigint),
    (16, script_and_sigterm),
]
