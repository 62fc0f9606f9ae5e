"""A limit for the memory of a whole family of processes, which no limit of a process is."""

from __future__ import annotations

import threading
from collections.abc import Callable

import psutil

SECONDS = 0.2  # between two looks


def resident(pid: int) -> int:
    """Add up the resident memory of a process and its descendants, in bytes; 0 if it has ended.

    What processes share counts for each of them.

    Example:
        >>> import os
        >>> resident(os.getpid()) > 2**20
        True
    """
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    total = 0
    for process in family:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:  # it has ended meanwhile
            continue
    return total


class MemoryWatch:
    """Look at a process's memory, its descendants' with it, until told to stop.

    Args:
        pid: of the process.
        limit: bytes, in all.
        end: called once, from a thread of its own, when there are more.
    """

    def __init__(self, pid: int, limit: int, end: Callable[[], object]) -> None:
        self.over = False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, args=(pid, limit, end), daemon=True)
        self._thread.start()

    def _look(self, pid: int, limit: int, end: Callable[[], object]) -> None:
        while not self._stopped.wait(SECONDS):
            if resident(pid) > limit:
                self.over = True
                end()
                return

    def stop(self) -> None:
        """Look no more; returns when the thread has ended."""
        self._stopped.set()
        self._thread.join()
