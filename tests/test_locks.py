"""A folder has one writer at a time, and a killed one leaves no lock behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_rl.errors import LockedError
from lightning_rl.locks import LOCK, lock_folder

HOLD = """
import sys, time
from lightning_rl.locks import lock_folder
lock = lock_folder(sys.argv[1])
print(1, flush=True)
time.sleep(60)
"""


@pytest.fixture
def first(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process, which holds the lock of `tmp_path`."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_the_second_process_is_refused_with_the_firsts_name(
    tmp_path: Path, first: subprocess.Popen[str]
) -> None:
    with pytest.raises(LockedError, match=f"process {first.pid} on .*append to it"):
        lock_folder(tmp_path, "append to it")


def test_a_killed_process_leaves_no_lock_behind(
    tmp_path: Path, first: subprocess.Popen[str]
) -> None:
    first.kill()
    first.wait()
    assert (tmp_path / LOCK).exists()
    lock_folder(tmp_path).release()


def test_two_objects_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    first = lock_folder(tmp_path)
    with pytest.raises(LockedError, match=f"process {os.getpid()} "):
        lock_folder(tmp_path)
    first.release()
    lock_folder(tmp_path).release()


def test_a_lock_that_goes_out_of_use_is_released(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path)
    del lock
    lock_folder(tmp_path).release()


@pytest.mark.parametrize("content", ["", "[]", "{}", "nonsense", "x" * 10_000])
def test_a_lock_file_that_says_nothing_is_no_fault(tmp_path: Path, content: str) -> None:
    first = lock_folder(tmp_path)
    (tmp_path / LOCK).write_text(content)
    with pytest.raises(LockedError, match="in use by another process"):
        lock_folder(tmp_path)
    first.release()


def test_a_link_in_the_locks_place_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("keep")
    (tmp_path / LOCK).symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        lock_folder(tmp_path)
    assert victim.read_text() == "keep"


def test_a_lock_that_is_a_file_elsewhere_is_not_written(tmp_path: Path) -> None:
    victim, folder = tmp_path / "victim", tmp_path / "folder"
    victim.write_text("keep")
    folder.mkdir()
    os.link(victim, folder / LOCK)
    with pytest.raises(OSError, match="link or no regular file"):
        lock_folder(folder)
    assert victim.read_text() == "keep"
    (folder / LOCK).unlink()
    os.mkfifo(folder / LOCK)
    with pytest.raises(OSError, match="link or no regular file"):
        lock_folder(folder)
