"""The memory of a process and all that it starts."""

from __future__ import annotations

import subprocess
import sys
import threading
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from lightning_rl.classroom.memory import MemoryWatch, resident

MB = 2**20
# Two children of 60 MB each, from a parent of a few; each says when it holds them.
FAMILY = """
import subprocess, sys
child = "import time; held = bytearray(b'1') * 60 * 2**20; print(flush=True); time.sleep(600)"
children = [subprocess.Popen([sys.executable, "-c", child], stdout=-1) for _ in range(2)]
for one in children:
    one.stdout.readline()
print(flush=True)
sys.stdin.read()
for one in children:
    one.kill()
"""


def family() -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", FAMILY], stdin=-1, stdout=-1)
    process.stdout.readline()  # type: ignore[union-attr]
    return process


def test_memory_is_that_of_all_descendants_together() -> None:
    with family() as process:
        assert 120 * MB < resident(process.pid) < 250 * MB
    assert resident(process.pid) == 0


def test_more_than_the_limit_is_ended_once_and_less_is_not() -> None:
    with family() as process:
        lax = MemoryWatch(process.pid, 1000 * MB, process.kill)
        ended = threading.Event()
        strict = MemoryWatch(process.pid, 100 * MB, ended.set)  # each child alone has less
        assert ended.wait(30)
        strict.stop()
        lax.stop()
        assert strict.over
        assert not lax.over
        assert process.poll() is None


def test_a_process_that_ends_while_memory_is_added_up_counts_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def ended() -> Any:
        raise psutil.NoSuchProcess(2)

    def holds(size: int) -> Any:
        return SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=size))

    root = holds(3 * MB)
    root.children = lambda recursive: [SimpleNamespace(memory_info=ended), holds(4 * MB)]
    monkeypatch.setattr(psutil, "Process", lambda pid: root)
    assert resident(1) == 7 * MB
