"""Results in a gradebook of nbgrader, where its formgrader shows them."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning_rl.classroom.verdicts import Result
from lightning_rl.errors import AssignmentError, needs_extra


def write_gradebook(results: Sequence[Result], path: str | Path = "gradebook.db") -> Path:
    """Write one assignment's results into a gradebook: a score a cell of tests, a student.

    nbgrader's own `autograde` runs a student's notebook with all that the teacher may do. This puts
    what `grade` found, behind its walls, in the same place. Writing again replaces the scores.

    Args:
        results: as `grade` gives them.
        path: of the SQLite file, an existing course's or a new one.

    Raises:
        AssignmentError: if the gradebook knows other cells of the assignment.
        ConfigError: without nbgrader.
    """
    with needs_extra("classroom", "to write a gradebook"):
        from nbgrader.api import Gradebook, MissingEntry
    name = str(results[0]["assignment"])
    with _surroundings(), Gradebook(f"sqlite:///{Path(path).resolve()}") as book:
        book.update_or_create_assignment(name)
        book.update_or_create_notebook(name, name)
        for cell, maximum in _cells(results[0]).items():
            given = {"max_score": maximum, "cell_type": "code"}
            book.update_or_create_grade_cell(cell, name, name, **given)
        try:
            for result in results:
                _write(book, name, result)
        except MissingEntry as error:
            raise AssignmentError(
                f"{path} knows {name!r} with other cells than these results: {error}. Write them "
                "into a new file, or remove the assignment from the gradebook first."
            ) from error
    return Path(path)


@contextmanager
def _surroundings() -> Iterator[None]:
    """Let nbgrader find `alembic`, which it calls by name, and keep its own warnings to itself."""
    before = os.environ.get("PATH", "")
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), before])
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Object of type .* not in session")
            yield
    finally:
        os.environ["PATH"] = before


def _cells(result: Result, what: str = "maximum") -> dict[str, float]:
    """Add the points up by the cell of tests that a question is asked in."""
    points: dict[str, float] = {}
    for question in result["questions"]:
        points[question["cell"]] = points.get(question["cell"], 0.0) + question[what]
    return points


def _write(book: Any, name: str, result: Result) -> None:
    student = str(result["student"])
    book.update_or_create_student(student)
    book.update_or_create_submission(name, student)
    for cell, points in _cells(result, "points").items():
        grade = book.find_grade(cell, name, name, student)
        grade.auto_score, grade.manual_score, grade.needs_manual_grade = points, None, False
    book.db.commit()
