"""Each test has a sitting of its own, and may have answers in a thread of this process."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import pytest

from lightning_rl.classroom import child, grading
from lightning_rl.classroom.answers import Answers, Limits
from lightning_rl.classroom.child import Child, obey
from lightning_rl.classroom.questions import Session, sitting


@pytest.fixture(autouse=True)
def one() -> Iterator[Session]:
    with sitting(Session()) as current:
        yield current


class Threaded(Answers):
    """Answers whose process is a thread, which is there at once; `spend()` uses up its time."""

    def __init__(self, told: Session, limits: Limits, kind: str) -> None:
        super().__init__(told, limits, kind)
        self.link, its = socket.socketpair()
        names = {"student": told.student, "spend": lambda: setattr(self, "end", 0.0)}
        self.thread = threading.Thread(target=self.work, args=(names, its))
        self.thread.start()

    def work(self, names: dict[str, Any], its: socket.socket) -> None:
        with its, suppress(OSError):  # nobody waits for its reply any more
            obey(Child(names), its)

    def stop(self) -> None:
        super().stop()
        self.thread.join(10)


class AtOnce:
    """A pool of no processes: what it is given is done at once."""

    def __init__(self, jobs: int, mp_context: Any) -> None: ...

    def __enter__(self) -> AtOnce:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, function: Any, *arguments: Any) -> Future[Any]:
        done = Future[Any]()
        done.set_result(function(*arguments))
        return done


@pytest.fixture
def graded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Grade in this process, which is fast, with answers in a thread, where no formula goes."""
    monkeypatch.setattr(child, "seal", lambda given: None)
    monkeypatch.setattr(grading, "Answers", Threaded)
    monkeypatch.setattr(grading, "ProcessPoolExecutor", AtOnce)
