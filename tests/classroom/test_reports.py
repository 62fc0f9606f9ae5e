"""Reports: a table, feedback, a class page, from the neutral results."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from small_set import result

from lightning_rl.classroom.__main__ import main
from lightning_rl.classroom.reports import class_page, feedback, grades, write_report
from lightning_rl.classroom.results import write_results


def test_the_table_has_a_row_a_student_and_a_column_a_question() -> None:
    rows = list(csv.DictReader(io.StringIO(grades([result("amy", 3.0), result("bob", 1.0)]))))
    assert [(row["student"], row["points"], row["q1"]) for row in rows] == [
        ("amy", "3.0", "3.0"),
        ("bob", "1.0", "1.0"),
    ]


def test_no_cell_is_a_formula() -> None:
    (row,) = csv.DictReader(io.StringIO(grades([result("=1+1", error="@SUM(A1)")])))
    assert row["student"] == "'=1+1"
    assert row["error"] == "'@SUM(A1)"


def test_feedback_tells_each_case_and_may_leave_the_hidden_ones_out() -> None:
    bob = result("bob", 0.0, message="got 3; expected 4")
    assert "got 3; expected 4" in feedback(bob)
    assert "it adds more" in feedback(bob)
    seen = feedback(bob, hidden=False)
    assert "it adds more" not in seen
    assert "expected 8" not in seen
    assert "Hidden cases: 0 of\n2" in seen


def test_what_a_student_wrote_is_no_html() -> None:
    evil = "<script>alert(1)</script>"
    pages = [feedback(result("bob", 0, evil, evil)), class_page([result(evil, 0, evil, evil)])]
    for text in pages:
        assert "<script>" not in text
        assert "&lt;script&gt;" in text


def test_the_class_page_counts_what_was_missed() -> None:
    text = class_page([result("amy", 3.0), result("bob", 1.0), result("eve", 0.0)])
    assert "3 submissions. Mean 1.3, median\n1.0 of 3 points" in text
    assert text.index("it adds more") < text.index("it adds<")  # two students, one student
    assert text.count("<svg") == 1


def test_files_are_written_and_what_is_no_id_gets_no_page(tmp_path: Path) -> None:
    write_report([result("amy"), result(".."), result("a b")], tmp_path / "report")
    written = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*"))
    assert written == ["report/class.html", "report/feedback/amy.html", "report/grades.csv"]


def test_the_command_reads_what_grade_wrote(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_results([result("amy")], tmp_path / "results")
    main(["report", "--results", str(tmp_path / "results"), "--output", str(tmp_path / "out")])
    assert capsys.readouterr().out.startswith("1 students")
    assert (tmp_path / "out" / "feedback" / "amy.html").exists()
    with pytest.raises(SystemExit, match="holds no results; expected what `grade` wrote"):
        main(["report", "--results", str(tmp_path / "no")])
