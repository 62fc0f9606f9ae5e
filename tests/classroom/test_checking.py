"""A notebook checked on the command line, as its student sees it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from small_set import RIGHT, SETUP, cell, write

from lightning_rl.classroom.__main__ import main
from lightning_rl.classroom.checking import check_notebook
from lightning_rl.errors import AssignmentError, SubmissionError


def student(path: Path, answers: dict[str, str] = RIGHT) -> Path:
    """Write a notebook with a student's id."""
    notebook = json.loads(write(path, answers).read_text())
    notebook["cells"].insert(0, cell("student = 'amy'\n%matplotlib inline"))
    path.write_text(json.dumps(notebook))
    return path


def test_a_right_notebook_has_the_visible_points(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = check_notebook(student(tmp_path / "mine.ipynb"))
    assert [(one["question"], one["points"]) for one in results] == [
        ("q1", 1),
        ("q2", 2),
        ("q3", 4),
    ]
    said = capsys.readouterr().out
    assert "q1: passed, 1 of 1 points" in said
    assert said.endswith("Points: 7 of 7\n")
    assert "hidden" not in said


def test_an_unfinished_answer_is_told_and_the_next_question_is_still_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = RIGHT | {"q1": "1 / 0"}
    results = check_notebook(student(tmp_path / "mine.ipynb", answers))
    assert [one["points"] for one in results] == [0, 2, 4]
    said = capsys.readouterr().out
    assert "q1: ZeroDivisionError: division by zero" in said
    assert "`double` is not defined" in said


def test_one_question_alone_is_judged(tmp_path: Path) -> None:
    (result,) = check_notebook(student(tmp_path / "mine.ipynb"), "q2")
    assert result["question"] == "q2"
    with pytest.raises(AssignmentError, match="got question 'q9'"):
        check_notebook(student(tmp_path / "mine.ipynb"), "q9")


def test_what_is_no_notebook_or_has_no_question_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "no.ipynb").write_text("[]")
    with pytest.raises(SubmissionError, match="is not a notebook"):
        check_notebook(tmp_path / "no.ipynb")
    empty = {"cells": [cell("student = 'amy'"), cell(SETUP)], "metadata": {}}
    (tmp_path / "empty.ipynb").write_text(json.dumps(empty))
    with pytest.raises(AssignmentError, match="has no question"):
        check_notebook(tmp_path / "empty.ipynb")


def test_the_command_exits_with_1_if_points_are_missing_and_writes_json(tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.ipynb", tmp_path / "wrong.ipynb"
    main(["check", str(student(right)), "--output", str(tmp_path / "results.json")])
    (first, *_) = json.loads((tmp_path / "results.json").read_text())
    assert {"question", "points", "maximum", "message", "seconds"} <= set(first)
    with pytest.raises(SystemExit) as caught:
        main(["check", str(student(wrong, RIGHT | {"q1": "double = len"})), "--question", "q1"])
    assert caught.value.code == 1
