"""Grading: a folder of submissions, each in a process of its own, and what cheats get."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest
from cheats import KILLER, TEST, THIEF
from small_set import RIGHT, TESTS, write

from lightning_rl.classroom.__main__ import main
from lightning_rl.classroom.answers import Limits
from lightning_rl.classroom.course import Course, make_course
from lightning_rl.classroom.grading import grade_folder, grade_submission, questions_of
from lightning_rl.classroom.isolation import works
from lightning_rl.classroom.notebooks import read_source, read_submission
from lightning_rl.classroom.results import read_results
from lightning_rl.errors import AssignmentError

COURSE = Course("RL", "a secret of the teacher")
CHEATS = THIEF | KILLER
SLEEP = "98765.4321"  # seconds; tells our processes from others
WRONG = {
    "q1": "import torch\ndef double(values):\n    return torch.full((2,), 2.0)",  # hard-coded
    "q2": "def loss(values):\n    return (values.detach() ** 2).sum()",
}
LIBRARY = {
    "q1": "from lightning_rl.agents.ppo import normalize\ndouble = lambda x: 2 * normalize(x)"
}
POINTS = {"amy": 9, "wrong": 1, "library": 0, "thief": 0, "killer": 0, "broken": 0, "link": 0}


def hand_in(folder: Path, source: Path, port: int) -> None:
    """Write what students have handed in."""
    told = {"SOURCE": str(source), "PORT": str(port), "MARKER": str(folder), "SLEEP": SLEEP}
    written = {"amy": RIGHT, "wrong": WRONG, "library": LIBRARY, "thief": THIEF, "killer": KILLER}
    for student, answers in written.items():
        filled = {
            name: re.sub("|".join(told), lambda found: told[found[0]], code)
            for name, code in answers.items()
        }
        write(folder / f"{student}.ipynb", filled, {})  # the cells of tests are deleted
    noisy = json.loads((folder / "amy.ipynb").read_text())
    noisy["cells"][0]["outputs"] = [{"output_type": "stream", "text": "x" * (30 * 2**20)}]
    (folder / "amy.ipynb").write_text(json.dumps(noisy))
    (folder / "broken.ipynb").write_text("{")
    (folder / "link.ipynb").symlink_to(source)


def commands() -> str:
    """Give the command lines of all processes."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_text())
        except OSError:  # it has ended meanwhile
            continue
    return "\n".join(lines)


@pytest.mark.slow
@pytest.mark.skipif(not works("bubblewrap"), reason="needs bubblewrap")
def test_cheats_get_nothing_and_harm_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COURSE_SECRET", COURSE.secret)
    tests = TESTS | {name: TEST.format(name=name) for name in CHEATS}
    empty = dict.fromkeys(CHEATS, "pass")
    source = write(tmp_path / "source" / "0_small.ipynb", RIGHT | empty, tests)
    with socket.create_server(("127.0.0.1", 0)) as server:
        hand_in(tmp_path / "handed_in", source, server.getsockname()[1])
        files = sorted(os.listdir(tmp_path / "handed_in"))
        results = list(grade_folder(source, tmp_path / "handed_in", COURSE, 2, Limits(15.0)))
    graded = {result["student"]: result for result in results}
    assert {name: one["points"] for name, one in graded.items()} == POINTS
    assert "is not a notebook" in graded["broken"]["error"]
    assert "is a link" in graded["link"]["error"]
    said = {
        one["question"]: one["message"].partition(": ")[2]
        for student, cheats in (("thief", THIEF), ("killer", KILLER))
        for one in graded[student]["questions"]
        if one["question"] in cheats
    }
    assert COURSE.secret not in said["environment"]
    assert "HOME=/tmp" in said["environment"]
    assert re.search(r"'[23] processes, pytest: False'", said["memory_of_others"])
    assert "secrets ['None']" in said["objects"]
    assert "\"['FileNotFoundError']\"" in said["files"]
    assert "no network" in said["network"]
    assert int(re.search(r"(\d+) MB", said["disk"])[1]) < 300  # type: ignore[index]
    assert "'printed'" in said["output"]
    assert "MemoryError" in said["memory"]
    assert "Handle" in said["pickled"]
    assert "Handle" in said["pickle_text"]
    assert "got 7" in said["patched"]
    assert "'the time is 0'" in said["clock"]
    assert int(re.search(r"(\d+) processes", said["bomb"])[1]) < 40  # type: ignore[index]
    assert "bytes; expected at most" in said["long_value"]
    assert "ended its process" in said["leaves"]
    assert "took too long" in said["endless"]
    assert SLEEP not in commands()
    assert sorted(os.listdir(tmp_path / "handed_in")) == files


def test_a_submission_that_is_not_graded_has_the_questions_all_the_same(tmp_path: Path) -> None:
    asked = questions_of(read_source(write(tmp_path / "0_small.ipynb")))
    assert [(one["question"], one["cell"], one["maximum"]) for one in asked] == [
        ("q1", "q1-check", 3),
        ("q2", "q2-check", 2),
        ("q3", "q3-check", 4),
    ]


def graded(folder: Path, answers: dict[str, str], tests: dict[str, str] = TESTS) -> Any:
    """Grade a submission of the small problem set; give its result, and its questions' by name."""
    source = read_source(write(folder / "source" / "0_small.ipynb", RIGHT, tests))
    submission = read_submission(write(folder / "amy.ipynb", answers, {}), source)
    result = grade_submission(source, submission, "amy", COURSE, isolation="limits")
    return result, {one["question"]: one for one in result["questions"]}


@pytest.mark.usefixtures("graded_here")
def test_right_answers_get_all_points_by_hidden_numbers_too(tmp_path: Path) -> None:
    result, questions = graded(tmp_path, RIGHT)
    assert (result["student"], result["assignment"]) == ("amy", "0_small")
    assert (result["points"], result["maximum"], result["error"]) == (9, 9, "")
    assert [one["hidden"] for one in questions["q1"]["cases"]] == [False, True]
    assert questions["q3"]["cases"][0]["curve"] == [[0.0, 0.0], [1.0, 1.0]]
    assert {name: one["cell"] for name, one in questions.items()} == {
        name: f"{name}-check" for name in TESTS
    }


@pytest.mark.usefixtures("graded_here")
def test_wrong_answers_lose_their_points_and_no_others(tmp_path: Path) -> None:
    result, questions = graded(tmp_path, RIGHT | WRONG)
    assert result["points"] == 5
    assert [one["points"] for one in questions["q1"]["cases"]] == [1, 0]
    assert questions["q2"]["points"] == 0


@pytest.mark.usefixtures("graded_here")
def test_a_cell_that_is_missing_is_told_where_its_answer_is_asked_for(tmp_path: Path) -> None:
    result, questions = graded(tmp_path, {name: RIGHT[name] for name in ("q1", "q3")})
    assert result["points"] == 7
    said = "the answer cell 'q2' is not in amy.ipynb; take the cell from the released notebook"
    assert said in questions["q2"]["message"]


@pytest.mark.usefixtures("graded_here")
def test_when_all_time_is_used_each_question_after_it_says_so(tmp_path: Path) -> None:
    result, questions = graded(tmp_path, RIGHT | {"q2": f"{RIGHT['q2']}\nspend()"})
    assert result["points"] == questions["q1"]["points"] == 3
    assert "took too long, and was stopped" in questions["q2"]["message"]
    assert "all 300 s of the submission are used" in questions["q3"]["message"]


@pytest.mark.usefixtures("graded_here")
def test_a_source_that_fails_is_the_teachers_fault(tmp_path: Path) -> None:
    faulty = TESTS | {"q1": TESTS["q1"].replace("torch.ones(2)", "{1, 2}")}
    with pytest.raises(AssignmentError, match="a case hands a set to an answer"):
        graded(tmp_path, RIGHT, faulty)


@pytest.mark.usefixtures("graded_here")
def test_the_command_writes_a_result_a_student_and_says_who_gets_none_and_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, course = write(tmp_path / "source" / "0_small.ipynb"), tmp_path / "course.json"
    make_course(course, "RL")
    write(tmp_path / "handed_in" / "amy.ipynb", RIGHT, {})
    (tmp_path / "handed_in" / "broken.ipynb").write_text("{")
    (tmp_path / "handed_in" / "link.ipynb").symlink_to(source)
    given = ["--course", str(course), "--output", str(tmp_path / "results")]
    main(["grade", str(source), str(tmp_path / "handed_in"), *given, "--isolation", "limits"])
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[:4] for line in said[:3]] == [
        ["amy", "9", "of", "9"],
        ["broken", "0", "of", "9"],
        ["link", "0", "of", "9"],
    ]
    assert "is not a notebook" in said[1]
    assert "is a link" in said[2]
    assert said[3] == f"3 results in {tmp_path / 'results'}"
    results = read_results(tmp_path / "results")
    assert [(one["student"], one["points"]) for one in results] == [
        ("amy", 9),
        ("broken", 0),
        ("link", 0),
    ]
