"""Gradescope: the zip, a run in a folder laid out as theirs, results in their published form."""

from __future__ import annotations

import json
import os
import runpy
import stat
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from small_set import RIGHT, result, write

from lightning_rl.classroom import gradescope
from lightning_rl.classroom.__main__ import main
from lightning_rl.classroom.course import Course, make_course
from lightning_rl.classroom.gradescope import grade_here, gradescope_result, write_autograder
from lightning_rl.errors import AssignmentError

COURSE = Course("RL", "a secret of the teacher")
VISIBILITY = {"enum": ["hidden", "after_due_date", "after_published", "visible"]}
TEST: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["score"],  # as there is none for the whole submission
    "properties": {
        "score": {"type": "number"},
        "max_score": {"type": "number"},
        "name": {"type": "string"},
        "number": {"type": "string"},
        "output": {"type": "string"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "visibility": VISIBILITY,
        "extra_data": {"type": "object"},
    },
}
# "Output format" of https://gradescope-autograders.readthedocs.io/en/latest/specs/
SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["tests"],
    "properties": {
        "score": {"type": "number"},
        "execution_time": {"type": "number"},
        "output": {"type": "string"},
        "visibility": VISIBILITY,
        "stdout_visibility": VISIBILITY,
        "extra_data": {"type": "object"},
        "tests": {"type": "array", "items": TEST, "minItems": 1},
        "leaderboard": {"type": "array"},
    },
}
# https://gradescope-autograders.readthedocs.io/en/latest/submission_metadata/
METADATA = {
    "id": 123456,
    "created_at": "2027-07-01T14:22:32.365935-07:00",
    "users": [
        {"email": "zoe@example.com", "id": 2, "name": "Zoe"},
        {"email": "amy@example.com", "id": 1, "name": "Amy"},
    ],
}


def lay_out(root: Path, zipped: Path, answers: dict[str, str] = RIGHT) -> None:
    """Make the folders as Gradescope's image has them."""
    for name in ("source", "submission", "results"):
        (root / name).mkdir(parents=True)
    with zipfile.ZipFile(zipped) as archive:
        for entry in archive.infolist():
            path = Path(archive.extract(entry, root / "source"))
            path.chmod(entry.external_attr >> 16)
    (root / "run_autograder").write_bytes((root / "source" / "run_autograder").read_bytes())
    (root / "run_autograder").chmod(0o755)
    (root / "submission_metadata.json").write_text(json.dumps(METADATA))
    write(root / "submission" / "my homework.ipynb", answers)


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    source = write(tmp_path / "0_small.ipynb")
    return write_autograder(source, COURSE, tmp_path / "autograder.zip")


def test_the_zip_has_both_scripts_at_its_root_and_all_that_they_need(zipped: Path) -> None:
    with zipfile.ZipFile(zipped) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        needed = archive.read("requirements.txt").decode()
    for script in ("setup.sh", "run_autograder"):
        assert stat.S_IMODE(entries[script].external_attr >> 16) == 0o755
    assert {"course.json", "0_small.ipynb", "package/lightning_rl/functional.py"} <= set(entries)
    assert "torch<2.14" in needed
    assert "nbgrader" not in needed


def test_a_result_is_said_in_the_published_form() -> None:
    said = gradescope_result(result("amy", 1.0, message="got 3; expected 4"))
    jsonschema.validate(said, SCHEMA)
    assert [one["score"] for one in said["tests"]] == [1.0, 0.0]
    assert [one["visibility"] for one in said["tests"]] == ["visible", "after_published"]


def test_what_can_not_be_read_gets_no_points_and_is_told_why(tmp_path: Path, zipped: Path) -> None:
    lay_out(tmp_path / "autograder", zipped)
    (tmp_path / "autograder" / "submission" / "my homework.ipynb").write_text("{")
    said = json.loads(grade_here(tmp_path / "autograder").read_text())
    jsonschema.validate(said, SCHEMA)
    assert sum(one["score"] for one in said["tests"]) == 0
    assert sum(one["max_score"] for one in said["tests"]) == 9
    assert said["output"].startswith("submission/my homework.ipynb is not a notebook")


def test_it_is_a_program_that_is_given_the_folder(
    tmp_path: Path, zipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay_out(tmp_path / "autograder", zipped)
    (tmp_path / "autograder" / "submission" / "my homework.ipynb").write_text("{")
    monkeypatch.setattr(sys, "argv", ["gradescope", str(tmp_path / "autograder")])
    runpy.run_path(str(gradescope.__file__), run_name="__main__")
    assert (tmp_path / "autograder" / "results" / "results.json").exists()


def test_without_an_author_nobody_gets_nothing(tmp_path: Path, zipped: Path) -> None:
    lay_out(tmp_path / "autograder", zipped)
    (tmp_path / "autograder" / "submission_metadata.json").write_text("{}")
    with pytest.raises(AssignmentError, match="tells no email"):
        grade_here(tmp_path / "autograder")
    assert not (tmp_path / "autograder" / "results" / "results.json").exists()


def test_the_command_writes_the_zip(tmp_path: Path) -> None:
    source, course = write(tmp_path / "0_small.ipynb"), tmp_path / "course.json"
    make_course(course, "RL")
    given = [str(source), "--course", str(course), "--output", str(tmp_path / "a.zip")]
    main(["gradescope", *given])
    assert zipfile.is_zipfile(tmp_path / "a.zip")
    with pytest.raises(SystemExit, match="got identity='shoe size'"):
        main(["gradescope", *given, "--identity", "shoe size"])


@pytest.mark.usefixtures("graded_here")
def test_what_lies_there_is_graded_for_the_first_of_a_group(tmp_path: Path) -> None:
    source = write(tmp_path / "0_small.ipynb")
    zipped = write_autograder(source, COURSE, tmp_path / "a.zip", isolation="limits")
    named = f"assert student == 'amy@example.com'\n{RIGHT['q1']}"
    lay_out(tmp_path / "autograder", zipped, RIGHT | {"q1": named, "q2": "loss = len"})
    said = json.loads(grade_here(tmp_path / "autograder").read_text())
    jsonschema.validate(said, SCHEMA)
    assert [one["score"] for one in said["tests"]] == [1, 2, 0, 4]


def test_walls_that_are_none_are_told_before_anything_is_uploaded(tmp_path: Path) -> None:
    source = write(tmp_path / "0_small.ipynb")
    with pytest.raises(AssignmentError, match="got isolation='docker'; expected one of"):
        write_autograder(source, COURSE, tmp_path / "a.zip", isolation="docker")
    assert not (tmp_path / "a.zip").exists()


def test_a_package_that_was_not_installed_can_not_say_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def requires(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", requires)
    with pytest.raises(AssignmentError, match="is not installed; expected it from pip"):
        write_autograder(write(tmp_path / "0_small.ipynb"), COURSE, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.slow
def test_run_autograder_runs_as_gradescope_runs_it(tmp_path: Path, zipped: Path) -> None:
    root = tmp_path / "autograder"
    lay_out(root, zipped, RIGHT | {"q1": "def double(values):\n    return values + 1"})
    environment = {"PATH": os.environ["PATH"], "GRADER_PYTHON": sys.executable}
    subprocess.run(
        [root / "run_autograder", root], cwd=root, env=environment, check=True, timeout=300
    )
    said = json.loads((root / "results" / "results.json").read_text())
    jsonschema.validate(said, SCHEMA)
    points = {one["name"]: one["score"] for one in said["tests"]}
    assert points == {
        "q1: one is doubled": 1,
        "q1: a hidden number is doubled": 0,
        "q2: the gradient is twice the value": 2,
        "q3: it learns": 4,
    }
    assert stat.S_IMODE((root / "source" / "course.json").stat().st_mode) == 0o600
