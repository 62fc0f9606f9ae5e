"""Grading: a folder of submissions, each in a process of its own, and what cheats get."""

from __future__ import annotations

import json
import os
import re
import socket
from pathlib import Path

import pytest
from cheats import KILLER, TEST, THIEF
from small_set import RIGHT, TESTS, write

from lightning_rl.classroom.answers import Limits
from lightning_rl.classroom.course import Course
from lightning_rl.classroom.grading import grade_folder, questions_of
from lightning_rl.classroom.isolation import works
from lightning_rl.classroom.notebooks import read_source

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
