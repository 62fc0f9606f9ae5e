"""Walls: which are chosen, and what a process is given within them."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest

from lightning_rl.classroom import isolation
from lightning_rl.classroom.isolation import choose, command, options, processes_allowed
from lightning_rl.errors import AssignmentError


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
