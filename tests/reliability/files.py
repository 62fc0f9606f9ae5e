"""Files: kills and full disks while saving, damage, what a large buffer takes."""

from __future__ import annotations

import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from lightning_rl import DQNAgent, DQNConfig, EnvDataLoader, TrajectoryDataset
from lightning_rl.buffers.replay import ReplayBuffer
from lightning_rl.checkpoints.safe_file import SafeCheckpointIO
from lightning_rl.envs.runner import VectorStep
from lightning_rl.errors import LightningRLError
from lightning_rl.locks import LOCK
from lightning_rl.trajectories.writer import TrajectoryWriter
from tests.reliability.goals import Checks, Figure
from tests.small_runs import make_trainer

BOX, TWO = spaces.Box(-np.inf, np.inf, (4,)), spaces.Discrete(2)
NOBODY = 65534  # a user who owns nothing
FORK = multiprocessing.get_context("fork")


# ---- what is stored ------------------------------------------------------------------------------


def save_checkpoint(folder: Path, step: int = 0) -> None:
    content = {"step": step, "numbers": torch.arange(20_000) + step, "text": ["a"] * 500}
    SafeCheckpointIO().save_checkpoint(content, folder / "a.ckpt")


def read_checkpoint(folder: Path) -> bytes:
    content = SafeCheckpointIO().load_checkpoint(folder / "a.ckpt")
    return repr(content["text"]).encode() + bytes(content["numbers"].numpy())


def save_trajectories(folder: Path, step: int = 0) -> None:
    """Append 20 episodes."""
    writer = TrajectoryWriter(folder, BOX, TWO, "Some-v0", append=step > 0)
    for length in range(1, 21):
        values = np.random.default_rng(length).random((length + 1, 4))
        writer.add(values, np.arange(length) % 2, values[1:, 0], terminated=True, truncated=False)
    writer.flush()
    writer.close()


def read_trajectories(folder: Path) -> bytes:
    dataset = TrajectoryDataset(folder)
    return b"".join(value.numpy().tobytes() for value in dataset[range(len(dataset))].values())


def save_replay(folder: Path, step: int = 0) -> None:
    """Add 50 transitions, whose observations count on from 1,000 * step."""
    buffer = ReplayBuffer(200, 1, BOX, TWO, directory=folder)
    false = np.zeros(1, bool)
    buffer.start(np.full((1, 4), 1000.0 * step, np.float32))
    for number in range(1, 51):
        seen = np.full((1, 4), 1000.0 * step + number, np.float32)
        step_made = VectorStep(seen, seen[:, 0], false, false, ~false, {})
        buffer.add(np.zeros(1, np.int64), {}, step_made)
    buffer.close()


def read_replay(folder: Path) -> bytes:
    """Draw from all transitions; what is left out with a warning is no silent damage."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        try:
            buffer = ReplayBuffer(200, 1, BOX, TWO, directory=folder)
        except UserWarning as warning:
            raise LeftOutError from warning
    try:
        drawn = buffer.sample(min(200, len(buffer)), torch.Generator().manual_seed(0))
    finally:
        buffer.folder.close()  # type: ignore[union-attr]
    return b"".join(drawn[name].numpy().tobytes() for name in sorted(drawn))


class LeftOutError(LightningRLError):
    """A replay folder is read without what is damaged, with a warning."""


@dataclass(frozen=True)
class Kind:
    """Something that is stored: how it is saved, and read, all of it."""

    name: str
    save: Callable[..., None]
    read: Callable[[Path], bytes]


KINDS = (
    Kind("checkpoints", save_checkpoint, read_checkpoint),
    Kind("trajectories", save_trajectories, read_trajectories),
    Kind("replay folders", save_replay, read_replay),
)


@contextmanager
def stored(kind: Kind) -> Iterator[tuple[Path, dict[Path, bytes]]]:
    """Save one in a new folder; give the folder, and its files' contents."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "data"
        folder.mkdir()
        kind.save(folder)
        files = {f: f.read_bytes() for f in sorted(folder.iterdir()) if f.name != LOCK}
        yield folder, files


# ---- damage --------------------------------------------------------------------------------------


def damaged(kind: Kind, count: int, damage: Callable[[bytes, random.Random], bytes]) -> list[int]:
    """Damage a file and read, often; count what is found, harmless, silent, and untyped."""
    ends, dice = [0, 0, 0, 0], random.Random(0)  # noqa: S311
    with stored(kind) as (folder, files):
        good = kind.read(folder)
        for _ in range(count):
            file = dice.choices(list(files), [len(content) for content in files.values()])[0]
            file.write_bytes(damage(files[file], dice))
            try:
                ends[1 if kind.read(folder) == good else 2] += 1
            except LightningRLError:
                ends[0] += 1
            except Exception as error:
                warnings.warn(repr(error), stacklevel=1)
                ends[3] += 1
            for name, content in files.items():  # also what opening a replay folder changed
                name.write_bytes(content)
    return ends


def flip(content: bytes, dice: random.Random) -> bytes:
    data, at = bytearray(content), dice.randrange(8 * len(content))
    data[at // 8] ^= 1 << at % 8
    return bytes(data)


def cut(content: bytes, dice: random.Random) -> bytes:
    return content[: dice.randrange(len(content))]


def garbage(content: bytes, dice: random.Random) -> bytes:
    return dice.randbytes(dice.randrange(2000))


def check_flips(short: bool) -> Figure:
    """Flip a bit of a file, and read."""
    return _damage_figure("bit flips", 50 if short else 1000, flip)


def check_truncations(short: bool) -> Figure:
    """Cut a file off, and read."""
    return _damage_figure("truncations", 20 if short else 200, cut)


def check_garbage(short: bool) -> Figure:
    """Put random bytes in a file's place, and read."""
    return _damage_figure("garbage files", 20 if short else 200, garbage)


def _damage_figure(what: str, count: int, damage: Any) -> Figure:
    ends = {kind.name: damaged(kind, count, damage) for kind in KINDS}
    words = [
        f"{name} {found} found, {harmless} without effect, {silent} silent, {untyped} untyped"
        for name, (found, harmless, silent, untyped) in ends.items()
    ]
    holds = all(silent == untyped == 0 for _, _, silent, untyped in ends.values())
    return Figure(f"{count} {what} each: {'; '.join(words)}", holds)


# ---- failures while saving -----------------------------------------------------------------------


def killed_in_midst(kind: Kind, kills: int) -> tuple[int, int]:
    """Kill a process that saves all the time, at random moments.

    Returns:
        How often nothing could be read afterwards, and how often the process had written.
    """
    bad, wrote, dice = 0, 0, random.Random(0)  # noqa: S311
    with stored(kind) as (folder, _):
        for _ in range(kills):
            before = _changed_at(folder)
            process = FORK.Process(target=_save_for_ever, args=(kind, folder))
            process.start()
            process.join(dice.uniform(0.0, 0.1))
            process.kill()
            process.join()
            wrote += _changed_at(folder) != before
            try:
                kind.read(folder)
            except LeftOutError:  # which opening has settled
                pass
            except LightningRLError:
                bad += 1
    return bad, wrote


def _changed_at(folder: Path) -> list[int]:
    return [folder.stat().st_mtime_ns, *(file.stat().st_mtime_ns for file in folder.iterdir())]


def _save_for_ever(kind: Kind, folder: Path) -> None:
    torch.set_num_threads(1)
    for step in range(1, 10**6):
        kind.save(folder, step)


def check_kills(short: bool) -> Figure:
    """Kill a process while it saves."""
    kills = 3 if short else 100
    ends = {kind.name: killed_in_midst(kind, kills) for kind in KINDS}
    words = ", ".join(f"{name} {bad} ({wrote} in its midst)" for name, (bad, wrote) in ends.items())
    holds = all(bad == 0 and wrote > 0 for bad, wrote in ends.values())
    return Figure(f"{kills} kills each; unreadable afterwards: {words}", holds)


def _with_a_full_disk(kind: Kind, folder: Path) -> None:
    limits = 2000, resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)  # Python ignores the signal: writes fail
    _exit_with(kind, folder)


def _as_somebody_else(kind: Kind, folder: Path) -> None:
    os.setuid(NOBODY)
    _exit_with(kind, folder)


def _exit_with(kind: Kind, folder: Path) -> None:
    """End with 1 if saving gives a typed error."""
    try:
        kind.save(folder, 1)
    except LightningRLError:
        sys.exit(1)
    except BaseException:
        sys.exit(2)
    sys.exit(0)


def check_failing_disks(short: bool) -> Figure:
    """Save where the disk is full, and where the folder can't be written."""
    words, holds = [], True
    ways = {"full disk": _with_a_full_disk, "read-only folder": _as_somebody_else}
    for (way, fails), kind in ((item, kind) for item in ways.items() for kind in KINDS):
        if fails is _with_a_full_disk and kind.name == "replay folders":
            continue  # all of its room is taken when it is made
        if fails is _as_somebody_else and os.getuid() != 0:
            continue  # only root can be somebody else
        with stored(kind) as (folder, _):
            folder.parent.chmod(0o755)
            good = kind.read(folder)
            process = FORK.Process(target=fails, args=(kind, folder))
            process.start()
            process.join()
            intact = kind.read(folder) == good
        holds &= intact and process.exitcode == 1
        ended = {0: "no error", 1: "typed error"}.get(process.exitcode or 0, "untyped error")
        words.append(f"{way}, {kind.name}: {ended}, {'old data intact' if intact else 'DAMAGED'}")
    return Figure("; ".join(words), holds)


# ---- size ----------------------------------------------------------------------------------------


def check_opening(short: bool) -> Figure:
    """Open a full replay folder, of whose every row the checksum is compared."""
    size = 10_000 if short else 1_000_000
    with tempfile.TemporaryDirectory() as name:
        buffer = ReplayBuffer(size, 8, BOX, TWO, directory=name)
        buffer.flags[:] = 1
        buffer.is_full = True
        buffer.folder.forget_sums()  # type: ignore[union-attr]
        buffer.close()
        begun = time.perf_counter()
        again = ReplayBuffer(size, 8, BOX, TWO, directory=name)
        seconds = time.perf_counter() - begun
        again.close()
    return Figure(
        f"a replay folder of {size:,} transitions opens in {seconds:.2f} s, compared with its "
        "checksums",
        len(again) >= size - 8 and seconds < 5,
    )


class Frames(gym.Env[Any, Any]):
    """Observations of 3 kB."""

    observation_space = spaces.Box(0, 255, (3072,), np.uint8)
    action_space = TWO

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return np.zeros(3072, np.uint8), {}

    def step(self, action: Any) -> Any:
        return np.zeros(3072, np.uint8), 0.0, False, False, {}


def _save_a_large_buffer(file: Path, rows: int, told: Any) -> None:
    """Tell how much memory saving takes, in buffers."""
    config = DQNConfig(rollout_steps=32, gradient_steps=1, batch_size=32, learning_starts=64,
                       buffer_capacity=rows)  # fmt: skip
    agent, trainer = DQNAgent(config=config), make_trainer(iterations=1)
    trainer.fit(agent, Frames)
    buffer = agent.replay_buffer
    buffer.observations[:], buffer.flags[:], buffer.is_full = 1, 1, True
    before = _peak()
    trainer.save_checkpoint(file, weights_only=False)
    told.put((_peak() - before) / buffer.nbytes)


def _resume_a_large_buffer(file: Path, rows: int, told: Any) -> None:
    """Tell how much memory loading takes, and a buffer of its own, in buffers."""
    before = _peak()
    agent = DQNAgent.load_from_checkpoint(file)
    EnvDataLoader(agent, Frames, num_envs=1)
    told.put((_peak() - before) / agent.replay_buffer.nbytes)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def check_memory(short: bool) -> Figure:
    """Save and resume an agent with a large replay buffer, each in a process of its own."""
    rows, told = 30_000 if short else 100_000, FORK.SimpleQueue()
    with tempfile.TemporaryDirectory() as name:
        for take in (_save_a_large_buffer, _resume_a_large_buffer):
            process = FORK.Process(target=take, args=(Path(name) / "a.ckpt", rows, told))
            process.start()
            process.join()
        saving, resuming = told.get(), told.get()
    return Figure(
        f"a replay buffer of {rows * 3072 / 1e6:.0f} MB takes {saving:.1f} times its memory more "
        f"to save, {resuming:.1f} times to resume, its own among them",
        saving < 0.5 and resuming < 2.5,
    )


CHECKS: Checks = [
    (17, check_kills),
    (18, check_failing_disks),
    (19, check_flips),
    (19, check_truncations),
    (19, check_garbage),
    (19, check_opening),
    (21, check_memory),
]
