"""Release: what a student's copy holds, and what it does not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from small_set import TESTS, cell, write

from lightning_rl.classroom.__main__ import main
from lightning_rl.classroom.course import Course, make_course
from lightning_rl.classroom.notebooks import read_source, read_submission
from lightning_rl.classroom.release import release_notebook, write_release
from lightning_rl.errors import AssignmentError, SubmissionError

COURSE = Course("RL", "a secret of the teacher")
SETS = sorted((Path(__file__).parents[2] / "tutorials" / "assignments").glob("*.ipynb"))
ANSWERS = {
    "q1": "def double(v):\n    ### BEGIN SOLUTION\n    return 2 * v\n    ### END SOLUTION",
    "q2": "def loss(values):\n    return (values ** 2).sum()",
    "q3": "start = learn = len",
}


def test_solutions_hidden_tests_and_outputs_are_gone_and_the_key_is_in(tmp_path: Path) -> None:
    source = write(tmp_path / "0_small.ipynb", ANSWERS)
    text = write_release(source, COURSE, tmp_path / "release").read_text()
    for word in ("2 * v", "** 2", "variant.number", "HIDDEN", "SOLUTION", COURSE.secret):
        assert word not in text
    assert f"begin('0_small', student, key='{COURSE.key}')" in text
    assert text.count("raise NotImplementedError()") == 3
    assert text.count('"editable": false') == 4  # setup, and three cells of tests


@pytest.mark.parametrize("path", SETS, ids=lambda path: path.stem)
def test_every_problem_set_can_be_released(path: Path) -> None:
    text = json.dumps(release_notebook(path, COURSE))
    assert COURSE.key in text
    assert '"outputs": [{' not in text


def test_a_copy_knows_the_release_it_is_of(tmp_path: Path) -> None:
    path = write(tmp_path / "0_small.ipynb", ANSWERS)
    copied = write_release(path, COURSE, tmp_path / "release")
    assert read_submission(copied, read_source(path)).release == read_source(path).release
    changed = write(tmp_path / "0_small.ipynb", ANSWERS, TESTS | {"q2": TESTS["q2"] + "\n"})
    with pytest.raises(SubmissionError, match=r"is of release .*Grade it with the source"):
        read_submission(copied, read_source(changed))


def test_without_variants_all_copies_have_the_same_numbers(tmp_path: Path) -> None:
    source = write(tmp_path / "0_small.ipynb", ANSWERS)
    copied = release_notebook(source, Course("RL", COURSE.secret, variants=False))
    assert f"begin('0_small', 'everyone', key='{COURSE.key}')" in copied.cells[0].source


def test_the_source_is_never_replaced(tmp_path: Path) -> None:
    source = write(tmp_path / "0_small.ipynb", ANSWERS)
    before = source.read_bytes()
    with pytest.raises(AssignmentError, match="is the source itself"):
        write_release(source, COURSE, tmp_path)
    assert source.read_bytes() == before


def test_a_source_with_marks_in_the_wrong_places_is_refused(tmp_path: Path) -> None:
    half = {**ANSWERS, "q1": ANSWERS["q1"].replace("### END SOLUTION", "")}
    with pytest.raises(AssignmentError, match="nbgrader can't clear it"):
        release_notebook(write(tmp_path / "half.ipynb", half), COURSE)
    twice = write(tmp_path / "twice.ipynb", ANSWERS)
    notebook = json.loads(twice.read_text())
    notebook["cells"].append(cell("begin('0_small', student)", grade_id="again", locked=True))
    twice.write_text(json.dumps(notebook))
    with pytest.raises(AssignmentError, match="calls `begin` in 2 cells"):
        release_notebook(twice, COURSE)


def test_a_mark_that_is_left_in_the_copy_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "0_small.ipynb", ANSWERS)
    notebook = json.loads(path.read_text())
    notebook["metadata"]["draft"] = ANSWERS["q1"]  # where nbgrader clears nothing
    path.write_text(json.dumps(notebook))
    with pytest.raises(AssignmentError, match="'BEGIN SOLUTION' is left in the copy"):
        write_release(path, COURSE, tmp_path / "release")
    assert not (tmp_path / "release").exists()


def test_the_command_writes_the_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, course = write(tmp_path / "0_small.ipynb", ANSWERS), tmp_path / "course.json"
    key = make_course(course, "RL").key
    folder = tmp_path / "release"
    main(["release", str(source), "--course", str(course), "--output", str(folder)])
    assert key in (folder / "0_small.ipynb").read_text()
    assert capsys.readouterr().out == f"{folder / '0_small.ipynb'}: hand this one out\n"
