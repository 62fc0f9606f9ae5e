"""Tasks done in processes, one a core."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import cloudpickle

from lightning_rl.errors import ConfigError
from lightning_rl.experiments.worker import LENGTH_BYTES
from lightning_rl.settings import given_count

EXIT_SECONDS = 5.0  # a process that is killed takes no longer
LAST_WORDS = 2000  # characters of what a process wrote before it died
Task = Callable[[Callable[[Any], None]], Any]  # is given `tell`


class Event(NamedTuple):
    """What a task has told: `told`, `warning`, and in the end `result` or `error`."""

    task: int  # its number
    kind: str
    content: Any


def usable_cores() -> int:
    """Count the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Worker:
    """One process, started anew for every `Worker`, with one thread for its computations.

    Args:
        events: where what it says is put, as `(worker, kind, content)`.
    """

    def __init__(self, events: queue.Queue[tuple[Worker, str, Any]]) -> None:
        self.index = -1  # of its task
        self._events = events
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `stop`)
        command = [sys.executable, "-m", "lightning_rl.experiments.worker", json.dumps(sys.path)]
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        path = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(  # noqa: S603 (our own module)
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, **threads, "PYTHONPATH": path},
            start_new_session=True,  # an interrupt of the terminal is the parent's to handle
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        out: Any = self._process.stdout
        for line in out:
            self._events.put((self, *json.loads(line)))
        self._events.put((self, "ended", None))

    def give(self, index: int, task: bytes) -> None:
        """Let it do a task."""
        self.index = index
        pipe: Any = self._process.stdin
        try:
            pipe.write(len(task).to_bytes(LENGTH_BYTES, "big") + task)
            pipe.flush()
        except BrokenPipeError:
            return  # it has died, which `_listen` tells

    def last_words(self) -> str:
        """Say how it has ended, and what it wrote last."""
        code = self._process.wait(EXIT_SECONDS)
        self._said.seek(0)
        text = self._said.read().decode(errors="replace")[-LAST_WORDS:].strip()
        return f"its process ended with exit code {code}" + (f":\n{text}" if text else "")

    def stop(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait(EXIT_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout, self._said):
            try:
                pipe.close()  # type: ignore[union-attr]
            except BrokenPipeError:
                continue


def run_in_processes(tasks: Sequence[Task], processes: int | None = None) -> Iterator[Event]:
    """Do tasks in processes, and give what they tell as it comes; at the end all have ended.

    A process does several tasks one after the other, as starting one takes seconds. They need no
    `if __name__ == "__main__"`, and may be made of functions and classes of a notebook.

    Args:
        tasks: functions of `tell`, which sends plain values (JSON) while they run.
        processes: how many. Default: one a core that may be used.

    Yields:
        Events. An `error` is of one task, `[what, traceback]`; the others go on.

    Raises:
        ConfigError: if a task can't be sent to another process.

    Example:
        >>> events = run_in_processes([lambda tell: 6 * 7], 1)
        >>> [event.content for event in events]
        [42]
    """
    processes = given_count("processes", processes) or usable_cores()
    waiting = [(index, _packed(task)) for index, task in enumerate(tasks)][::-1]
    events: queue.Queue[tuple[Worker, str, Any]] = queue.Queue()
    workers: set[Worker] = set()

    def go_on(worker: Worker | None) -> None:
        if waiting:
            worker = worker or Worker(events)
            workers.add(worker)
            worker.give(*waiting.pop())
        elif worker is not None:
            worker.stop()

    try:
        for _ in range(min(processes, len(waiting))):
            go_on(None)
        while workers:
            worker, kind, content = events.get()
            if worker not in workers:  # it was stopped
                continue
            event = Event(worker.index, kind, content)
            if kind == "ended":  # in the midst of its task
                event = Event(worker.index, "error", [worker.last_words(), ""])
                worker.stop()
            if event.kind in ("result", "error"):
                workers.remove(worker)
                go_on(None if kind == "ended" else worker)
            yield event
    finally:
        for worker in workers:
            worker.stop()


def _packed(task: Task) -> bytes:
    try:
        packed: bytes = cloudpickle.dumps(task)
    except Exception as error:  # objects may raise anything when they are pickled
        raise ConfigError(
            f"something of a run can't be sent to a process of its own ({error}); expected what "
            "can be pickled. Give the environment's name or a function that makes it, and a "
            "function that makes the agent."
        ) from error
    return packed
