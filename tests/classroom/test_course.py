"""A course's file: its secret is made once, kept to its owner, and asked for if missing."""

from __future__ import annotations

import runpy
import stat
import sys
from pathlib import Path

import pytest

from lightning_rl.classroom import __main__ as program
from lightning_rl.classroom.__main__ import main
from lightning_rl.classroom.course import make_course, read_course
from lightning_rl.errors import AssignmentError


def test_a_course_is_read_back_and_only_its_owner_may(tmp_path: Path) -> None:
    made = make_course(tmp_path / "course.json", "RL", variants=False)
    assert read_course(tmp_path / "course.json") == made
    assert stat.S_IMODE((tmp_path / "course.json").stat().st_mode) == 0o600
    assert (made.student("amy"), len(made.secret)) == ("everyone", 32)


def test_it_is_a_program_whose_mistakes_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["it", "course", "RL", "--path", str(tmp_path / "course.json")]
    )
    runpy.run_path(str(program.__file__), run_name="__main__")
    assert read_course(tmp_path / "course.json").name == "RL"
    with pytest.raises(SystemExit, match=r"^error: .*is there already; expected a new file's name"):
        runpy.run_path(str(program.__file__), run_name="__main__")


def test_a_secret_is_never_replaced(tmp_path: Path) -> None:
    main(["course", "RL", "--path", str(tmp_path / "course.json")])
    before = (tmp_path / "course.json").read_text()
    with pytest.raises(SystemExit, match="is there already"):
        main(["course", "RL", "--path", str(tmp_path / "course.json")])
    assert (tmp_path / "course.json").read_text() == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "holds no course's secret. Make it once"),
        ("{", "holds no course's secret"),
        ('{"name": "RL"}', "holds no course's secret"),
        ('{"name": "RL", "secret": "1234", "variants": true}', "can be guessed"),
    ],
)
def test_without_a_secret_nothing_is_graded(tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "course.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(AssignmentError, match=words):
        read_course(path)
