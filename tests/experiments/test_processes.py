"""Tasks in processes: side by side, told as they go on, and none is left behind."""

from __future__ import annotations

import io
import os
import queue
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from lightning_rl.experiments import worker
from lightning_rl.experiments.processes import Event, Worker, run_in_processes, usable_cores
from lightning_rl.experiments.worker import LENGTH_BYTES, read_tasks

Tell = Callable[[Any], None]


def tasks() -> list[Any]:
    """Give tasks that are closures, which only cloudpickle can send."""

    def well(tell: Tell) -> list[int]:
        print("this is for nobody")
        tell("half")
        return [os.getpid(), os.getppid()]

    def ill(tell: Tell) -> None:
        warnings.warn("look out", stacklevel=1)
        raise ValueError("it is ill")

    def dead(tell: Tell) -> None:
        os._exit(3)

    return [well, ill, dead, well]


@pytest.fixture(scope="module")
def events() -> list[Event]:
    return list(run_in_processes(tasks(), 1))


def test_what_tasks_tell_comes_in_its_order(events: list[Event]) -> None:
    told = [(event.task, event.kind) for event in events]
    assert told == [
        (0, "told"), (0, "result"), (1, "warning"), (1, "error"), (2, "error"),
        (3, "told"), (3, "result"),
    ]  # fmt: skip
    assert events[2].content == "UserWarning: look out"
    what, trace = events[3].content
    assert what == "ValueError: it is ill"
    assert "in ill" in trace
    assert events[4].content[0].startswith("its process ended with exit code 3")


def test_a_process_does_several_tasks_but_none_after_it_has_died(events: list[Event]) -> None:
    (first, parent), (last, _) = events[1].content, events[6].content
    assert parent == os.getpid()
    assert first != last


@pytest.mark.slow
def test_when_nobody_listens_any_more_the_processes_are_ended() -> None:
    def slow(tell: Tell) -> None:
        tell(os.getpid())
        time.sleep(600)

    events = run_in_processes([slow, slow], 2)
    pids = [next(events).content, next(events).content]
    assert all(psutil.pid_exists(pid) for pid in pids)
    events.close()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def as_python(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Let a shell's script be what is started instead of Python, as it is there sooner."""
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


def test_a_process_that_dies_before_it_has_read_its_task_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_python(tmp_path, monkeypatch, "echo no memory >&2; exit 9")
    held = bytes(2**20)  # more than a pipe holds
    (event,) = run_in_processes([lambda tell: len(held)], 1)
    assert (event.task, event.kind) == (0, "error")
    assert event.content == ["its process ended with exit code 9:\nno memory", ""]


def test_a_process_that_has_ended_can_be_given_a_task_and_stopped_in_peace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_python(tmp_path, monkeypatch, "echo too late >&2; exit 9")
    events: queue.Queue[Any] = queue.Queue()
    late = Worker(events)
    assert events.get(timeout=30) == (late, "ended", None)
    late.give(3, b"task")
    assert late.last_words() == "its process ended with exit code 9:\ntoo late"
    late.stop()


def test_a_process_that_still_works_is_ended_with_the_loop_that_listens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_python(tmp_path, monkeypatch, """echo '["told", '$$']'; exec sleep 600""")
    events = run_in_processes([lambda tell: 1], 1)
    pid = next(events).content
    assert psutil.pid_exists(pid)
    events.close()
    assert not psutil.pid_exists(pid)


def test_where_a_process_has_no_cores_of_its_own_those_of_the_machine_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert usable_cores() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")  # as under macOS
    for cores, expected in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda cores=cores: cores)
        assert usable_cores() == expected


def test_a_worker_takes_its_tasks_until_nobody_gives_any_more_and_then_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda *given: ended.append(given))
    sent = [b"one", b"", b"another"]
    stream = b"".join(len(task).to_bytes(LENGTH_BYTES, "big") + task for task in sent)
    tasks: queue.Queue[bytes] = queue.Queue()
    read_tasks(io.BytesIO(stream), tasks)
    assert [tasks.get_nowait() for _ in sent] == sent
    assert ended == [(os.getpid(), worker.AT_ONCE)]
