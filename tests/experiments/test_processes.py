"""Tasks in processes: side by side, told as they go on, and none is left behind."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from lightning_rl.experiments.processes import Event, run_in_processes

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
