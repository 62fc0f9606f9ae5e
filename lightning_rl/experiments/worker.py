"""A process that does one task after the other, for the process that has started it.

Run by `Workers`, not by hand. Tasks come in through stdin, as functions that cloudpickle has
written; what they tell goes out as lines of JSON. It ends when stdin does: with its parent.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
import warnings
from typing import Any, BinaryIO

LENGTH_BYTES = 8  # of a task, which comes after it
AT_ONCE = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has but the other


def read_tasks(stream: BinaryIO, tasks: queue.Queue[bytes]) -> None:
    """Pass tasks on until the stream ends; then nobody waits for this process any more."""
    while length := stream.read(LENGTH_BYTES):
        tasks.put(stream.read(int.from_bytes(length, "big")))
    os.kill(os.getpid(), AT_ONCE)  # whatever is computed


def work(tasks: queue.Queue[bytes], out: BinaryIO) -> None:
    """Do the tasks, each `task(tell)`: plain values are what `tell` sends and what it returns."""

    def send(kind: str, content: Any) -> None:
        out.write(json.dumps([kind, content]).encode() + b"\n")
        out.flush()

    def warn(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        send("warning", f"{category.__name__}: {message}")

    warnings.showwarning = warn
    while True:
        try:
            # The task comes from the process that started this one, never from a file.
            task = pickle.loads(tasks.get())  # noqa: S301
            send("result", task(lambda content: send("told", content)))
        except BaseException as error:  # the parent says it, with the address
            send("error", [f"{type(error).__name__}: {error}", traceback.format_exc()])


def main() -> None:
    """Keep stdout for the parent; what tasks print goes to stderr."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.path[:0] = [path for path in json.loads(sys.argv[1]) if path not in sys.path]
    tasks: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=read_tasks, args=(sys.stdin.buffer, tasks), daemon=True).start()
    work(tasks, out)


if __name__ == "__main__":
    main()
