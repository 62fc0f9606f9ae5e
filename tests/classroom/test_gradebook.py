"""A gradebook of nbgrader: written, read back by nbgrader itself."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from nbgrader.api import Gradebook
from nbgrader.plugins import CsvExportPlugin
from small_set import result

from lightning_rl.classroom.__main__ import main
from lightning_rl.classroom.gradebook import write_gradebook
from lightning_rl.classroom.results import write_results
from lightning_rl.errors import AssignmentError

POINTS = {f"student{number}": number / 4 for number in range(10)}


@pytest.fixture(scope="module")
def of_tim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a gradebook once, as nbgrader takes seconds to."""
    return write_gradebook([result("tim", 1.0)], tmp_path_factory.mktemp("books") / "tim.db")


@pytest.fixture
def book(of_tim: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(of_tim, tmp_path / "book.db"))


def read_back(path: Path) -> dict[str, tuple[float, float]]:
    """Let nbgrader export the grades; give score and maximum by student."""
    table = path.with_suffix(".csv")
    with Gradebook(f"sqlite:///{path}") as book:
        CsvExportPlugin(to=str(table)).export(book)
    with table.open() as file:
        rows = list(csv.DictReader(file))
    return {one["student_id"]: (float(one["score"]), float(one["max_score"])) for one in rows}


def test_ten_students_points_are_read_back_by_nbgrader(tmp_path: Path, book: Path) -> None:
    write_results([result(name, points) for name, points in POINTS.items()], tmp_path / "results")
    main(["gradebook", "--results", str(tmp_path / "results"), "--output", str(book)])
    expected = POINTS | {"tim": 1.0}
    assert read_back(book) == {name: (points, 3.0) for name, points in expected.items()}


def test_writing_again_replaces_a_score(book: Path) -> None:
    write_gradebook([result("tim", 2.5)], book)
    assert read_back(book) == {"tim": (2.5, 3.0)}


def test_another_versions_cells_are_told(book: Path) -> None:
    later = result("tim")
    later["questions"][0]["cell"] = "q1-again"
    with pytest.raises(AssignmentError, match="knows '1_sums' with other cells"):
        write_gradebook([later], book)
