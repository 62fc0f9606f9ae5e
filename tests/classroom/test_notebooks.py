"""Notebooks handed in: what can be graded, and what is told of what can't."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from small_set import RIGHT, cell, write

from lightning_rl.classroom import notebooks
from lightning_rl.classroom.notebooks import (
    Cell,
    Source,
    find_submissions,
    read_source,
    read_submission,
    without_magic,
)
from lightning_rl.errors import AssignmentError, SubmissionError


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return read_source(write(tmp_path / "source" / "0_small.ipynb"))


def change(path: Path, **changes: Any) -> Path:
    """Change a notebook's file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


@pytest.mark.parametrize("text", ["", "{", "[]", '"a"', '{"cells": [1]}', '{"cells": [{}]}'])
def test_what_is_no_notebook_is_named(tmp_path: Path, source: Source, text: str) -> None:
    (tmp_path / "amy.ipynb").write_text(text)
    with pytest.raises(SubmissionError, match=r"amy\.ipynb is not a notebook .* Hand in"):
        read_submission(tmp_path / "amy.ipynb", source)


def test_what_is_not_there_or_too_big_is_named(
    tmp_path: Path, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SubmissionError, match=r"can't be read \(No such file"):
        read_submission(tmp_path / "amy.ipynb", source)
    path = write(tmp_path / "amy.ipynb")
    monkeypatch.setattr(notebooks, "MAX_BYTES", 100)
    with pytest.raises(SubmissionError, match="clear its outputs"):
        read_submission(path, source)


def test_a_cell_that_was_removed_or_renamed_is_no_answer(tmp_path: Path, source: Source) -> None:
    kept = {name: code for name, code in RIGHT.items() if name != "q2"}
    path = write(tmp_path / "amy.ipynb", kept | {"q2-copy": RIGHT["q2"]}, {})
    assert set(read_submission(path, source).answers) == {"q1", "q2-copy", "q3"}


def test_the_first_of_two_cells_counts_and_missing_outputs_are_noted(
    tmp_path: Path, source: Source
) -> None:
    path = write(tmp_path / "amy.ipynb")
    cells = json.loads(path.read_text())["cells"]
    again = cell("double = len", grade_id="q1", solution=True)
    submission = read_submission(change(path, cells=[*cells, again]), source)
    assert submission.answers["q1"] == RIGHT["q1"]
    assert submission.notes == [
        "the cell 'q1' is there twice; the first counts",
        "it has no outputs: it was handed in without being run",
    ]


def test_another_versions_release_is_told(tmp_path: Path, source: Source) -> None:
    path = change(write(tmp_path / "amy.ipynb"), metadata={"lightning_rl": {"release": "old"}})
    with pytest.raises(SubmissionError, match=f"of release 'old'; expected '{source.release}'"):
        read_submission(path, source)


def test_ids_come_from_files_or_folders(tmp_path: Path) -> None:
    write(tmp_path / "amy.ipynb")
    write(tmp_path / "bob" / "1" / "homework.ipynb")
    write(tmp_path / "bob" / ".ipynb_checkpoints" / "homework.ipynb")
    (tmp_path / "list.csv").write_text("amy,bob")
    files, problems = find_submissions(tmp_path)
    assert set(files) == {"amy", "bob"}
    assert problems == {}


def test_a_submission_twice_none_and_odd_ids_are_told_and_stop_nobody(tmp_path: Path) -> None:
    write(tmp_path / "amy.ipynb")
    for name in ("eve", "-rf", "a b", "..x", "$(reboot)", "e" * 80):
        write(tmp_path / f"{name}.ipynb")
    write(tmp_path / "eve" / "again.ipynb")
    (tmp_path / "empty").mkdir()
    files, problems = find_submissions(tmp_path)
    assert set(files) == {"amy"}
    assert "handed in 2 notebooks" in problems["eve"]
    assert "handed in 0 notebooks" in problems["empty"]
    for name in ("-rf", "a b", "..x", "$(reboot)", "e" * 80):
        assert "is no id; expected letters" in problems[name]
        assert "Rename" in problems[name]


def test_a_folder_that_is_none_or_holds_no_ids_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AssignmentError, match="is no folder"):
        find_submissions(tmp_path / "no")
    (tmp_path / "notes.txt").write_text("amy")
    with pytest.raises(AssignmentError, match="expected files named ID"):
        find_submissions(tmp_path)


def test_a_source_needs_tests_and_names(tmp_path: Path) -> None:
    with pytest.raises(AssignmentError, match="has no cell with tests"):
        read_source(write(tmp_path / "a.ipynb", RIGHT, {}))
    path = write(tmp_path / "b.ipynb")
    cells = json.loads(path.read_text())["cells"]
    with pytest.raises(AssignmentError, match=r"two cells are called \['q1'\]"):
        read_source(change(path, cells=[*cells, cells[1]]))
    (tmp_path / "c.ipynb").write_text("no")
    with pytest.raises(AssignmentError, match="is not a notebook"):
        read_source(tmp_path / "c.ipynb")


def test_hidden_parts_are_told_apart_and_lines_keep_their_numbers() -> None:
    text = "a\n### BEGIN HIDDEN TESTS\nb\n### END HIDDEN TESTS\nc"
    parts = Cell("q1", "tests", text).parts()
    assert [hidden for hidden, _ in parts] == [False, True, False]
    lines = [code.count("\n", 0, len(code.rstrip())) for _, code in parts]
    assert lines == [0, 2, 4]


def test_lines_for_ipython_are_left_out() -> None:
    assert without_magic("%matplotlib inline\nx = 5 % 3\n  !ls") == "\nx = 5 % 3\n"


def test_a_notebook_that_was_run_needs_no_note(tmp_path: Path, source: Source) -> None:
    path = write(tmp_path / "amy.ipynb")
    cells = json.loads(path.read_text())["cells"]
    cells[-1]["outputs"] = [{"output_type": "stream", "name": "stdout", "text": "q3: passed"}]
    assert read_submission(change(path, cells=cells), source).notes == []


@pytest.mark.parametrize("name", ["eve.ipynb", "eve"])
def test_a_link_is_nobodys_submission(tmp_path: Path, name: str) -> None:
    write(tmp_path / "teacher" / "solution.ipynb")
    write(tmp_path / "handed_in" / "amy.ipynb")
    linked = tmp_path / "teacher" / ("solution.ipynb" if "." in name else "")
    (tmp_path / "handed_in" / name).symlink_to(linked)
    files, problems = find_submissions(tmp_path / "handed_in")
    assert set(files) == {"amy"}
    assert "is a link; expected a file or folder of its own" in problems["eve"]
