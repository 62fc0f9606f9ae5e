"""Grading: a folder of submissions, each in a process of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from small_set import RIGHT, write

from lightning_rl.classroom.answers import Limits
from lightning_rl.classroom.course import Course
from lightning_rl.classroom.grading import grade_folder

COURSE = Course("RL", "a secret of the teacher")
CHEATS = {
    "amy": RIGHT,
    "exit": RIGHT | {"q1": "import os\ndef double(values):\n    os._exit(0)"},
    "loop": RIGHT | {"q2": "def loss(values):\n    while True:\n        pass"},
    "missing": {name: code for name, code in RIGHT.items() if name != "q1"},
    "hard": RIGHT | {"q1": "import torch\ndef double(values):\n    return torch.full((2,), 2.0)"},
    "patch": RIGHT
    | {"q1": "import torch\ntorch.isclose = lambda *a, **k: True\ndouble = lambda values: 7"},
    "library": RIGHT
    | {"q1": "from lightning_rl.agents.ppo import normalize\ndouble = lambda x: 2 * normalize(x)"},
    "detach": RIGHT | {"q2": "def loss(values):\n    return (values.detach() ** 2).sum()"},
}
POINTS = {"amy": 9, "exit": 6, "loop": 7, "missing": 6, "hard": 7, "patch": 6, "detach": 7} | {
    "library": 6
}


@pytest.mark.slow
def test_each_gets_its_own_points_and_none_stops_the_others(tmp_path: Path) -> None:
    source = write(tmp_path / "source" / "0_small.ipynb")
    for student, answers in CHEATS.items():
        write(tmp_path / "handed_in" / f"{student}.ipynb", answers, dict.fromkeys(RIGHT, "1"))
    (tmp_path / "handed_in" / "broken.ipynb").write_text("{")
    os.symlink(source, tmp_path / "handed_in" / "link.ipynb")
    limits = Limits(cell_seconds=10)
    results = grade_folder(source, tmp_path / "handed_in", COURSE, 2, limits, "limits")
    graded = {result["student"]: result for result in results}
    assert {name: one["points"] for name, one in graded.items()} == POINTS | {
        "broken": 0,
        "link": 0,
    }
    assert "is not a notebook" in graded["broken"]["error"]
    assert "is a link" in graded["link"]["error"]
