"""Walls: which are chosen, and what a process is given within them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lightning_rl.classroom import isolation
from lightning_rl.classroom.isolation import (
    choose,
    command,
    end_all,
    options,
    own_user,
    processes_allowed,
    works,
)
from lightning_rl.errors import AssignmentError

SLEEP = "import time; time.sleep(600)"


def test_an_unknown_kind_is_told() -> None:
    with pytest.raises(AssignmentError, match="got isolation='docker'; expected one of"):
        choose("docker")


def test_where_nothing_works_nothing_is_graded_without_being_asked_to(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(isolation, "works", lambda kind: False)
    with pytest.raises(AssignmentError, match="Install bubblewrap"):
        choose("auto")
    assert choose("limits") == "limits"


def test_the_strongest_that_works_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "works", lambda kind: True)
    assert choose("auto") == "bubblewrap"
    monkeypatch.setattr(isolation, "works", lambda kind: kind == "user")
    assert choose("auto") == "user"


@pytest.mark.parametrize("kind", isolation.KINDS)
def test_the_environment_is_none_of_the_teachers(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COURSE_SECRET", "of the teacher")
    given = options(kind, str(tmp_path))
    assert "COURSE_SECRET" not in given["env"]
    assert ("user" in given) == (kind == "user")


@pytest.mark.parametrize("user", [0, 1000])
def test_root_becomes_someone_else_within_the_walls(
    user: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: user)
    words = command("bubblewrap", ["-c", "pass"])
    assert ("setpriv" in words) == (user == 0)
    assert ("--unshare-all" in words) or ("--unshare-net" in words)
    assert words[-2:] == ["-c", "pass"]


def test_processes_are_counted_where_the_system_counts_the_teachers_too() -> None:
    assert processes_allowed("bubblewrap", 32) == 32
    assert processes_allowed("limits", 32) > 32


def test_a_python_whose_folder_is_its_owners_alone_can_be_read_within_the_walls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    venv.chmod(0o700)
    monkeypatch.setattr(isolation.sys, "prefix", str(venv))
    words = command("bubblewrap", [])
    bound = [inside for how, inside in pairwise(words) if how == "--ro-bind"]
    assert str(venv / "bin") in bound
    assert str(venv) not in bound


@pytest.fixture
def untried() -> Iterator[None]:
    """Forget what was found to work here, before and after."""
    works.cache_clear()
    yield
    works.cache_clear()


@pytest.mark.usefixtures("untried")
def test_walls_that_need_what_is_not_there_do_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: Any, **__: Any) -> Any:
        raise AssertionError("nothing is tried")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    assert not works("bubblewrap")
    assert not works("user")


@pytest.mark.usefixtures("untried")
@pytest.mark.parametrize(("code", "expected"), [(0, True), (1, False), (None, False)])
def test_walls_work_if_a_process_within_them_finds_all_it_needs(
    code: int | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(words: list[str], **options: Any) -> Any:
        if code is None:
            raise PermissionError("to become someone else")
        assert words[-1] == isolation.LOOK
        return SimpleNamespace(returncode=code)

    monkeypatch.setattr(os, "getuid", lambda: 0)
    monkeypatch.setattr(subprocess, "run", run)
    assert works("user") == expected


def test_processes_that_end_while_they_are_counted_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task in ("10", "11"):
        (tmp_path / "10" / "task" / task).mkdir(parents=True)
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "task").write_text("no folder any more")
    monkeypatch.setattr(isolation, "Path", lambda place: tmp_path)
    assert processes_allowed("limits", 32) == 2 + 32


def test_where_processes_can_not_be_counted_many_are_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolation, "Path", lambda place: tmp_path / "no")
    assert processes_allowed("limits", 32) == 4096


@pytest.mark.parametrize("kind", isolation.KINDS)
def test_with_a_user_of_its_own_all_that_an_answer_started_is_ended(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[tuple[str, int]] = []
    process = subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True)
    monkeypatch.setattr(
        subprocess, "run", lambda words, **given: ran.append((words[-1], given["user"]))
    )
    end_all(process, kind)
    assert process.returncode == -9
    everything = ("import os, signal; os.kill(-1, signal.SIGKILL)", own_user())
    assert ran == ([everything] if kind == "user" else [])
