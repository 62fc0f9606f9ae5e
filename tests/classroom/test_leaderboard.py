"""The leaderboard: opted in, under pseudonyms."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_set import result

from lightning_rl.classroom.__main__ import main
from lightning_rl.classroom.course import Course, make_course
from lightning_rl.classroom.leaderboard import leaderboard, pseudonym, read_ids
from lightning_rl.classroom.results import write_results
from lightning_rl.errors import AssignmentError

COURSE = Course("RL", "a secret of the teacher")
RESULTS = [result("amy", 3.0), result("bob", 1.0), result("eve", 3.0), result("tim", 2.0)]


def test_only_those_who_want_to_are_ranked_and_equals_are_equal() -> None:
    rows = leaderboard(RESULTS, ["bob", "amy", "eve"], COURSE)
    assert [(rank, points) for rank, _, points in rows] == [(1, 3.0), (1, 3.0), (3, 1.0)]
    assert rows[2][1] == pseudonym(COURSE, "bob")


def test_pseudonyms_differ_between_students_and_secrets() -> None:
    ids = [str(number) for number in range(300)]
    assert len({pseudonym(COURSE, one) for one in ids}) == 300
    assert pseudonym(COURSE, "amy") != pseudonym(Course("RL", "another secret, long"), "amy")


def test_an_id_without_results_is_an_error() -> None:
    with pytest.raises(AssignmentError, match=r"no results of \['ann'\]"):
        leaderboard(RESULTS, ["ann"], COURSE)


def test_the_list_holds_no_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(RESULTS, tmp_path / "results")
    course = tmp_path / "course.json"
    make_course(course, "RL")
    (tmp_path / "opted.txt").write_text("amy\nbob\namy\n")
    given = ["--results", str(tmp_path / "results"), "--course", str(course)]
    listed = tmp_path / "list.md"
    main(["leaderboard", str(tmp_path / "opted.txt"), *given, "--output", str(listed)])
    assert listed.read_text().count("\n") == 4
    assert "amy" not in listed.read_text()
    said = capsys.readouterr().out
    assert "  amy  " in said
    main(["leaderboard", str(tmp_path / "opted.txt"), *given])  # into no file
    assert capsys.readouterr().out == said
    assert listed.read_text() in said
    (tmp_path / "opted.txt").write_text(" ")
    with pytest.raises(SystemExit, match="holds no id"):
        main(["leaderboard", str(tmp_path / "opted.txt"), *given])


@pytest.mark.parametrize("data", [None, b"\xff\xfe\xff"])
def test_a_list_of_ids_that_can_not_be_read_is_an_error(tmp_path: Path, data: bytes | None) -> None:
    path = tmp_path / "opted.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(AssignmentError, match=r"opted\.txt can't be read; expected an id a line"):
        read_ids(path)
