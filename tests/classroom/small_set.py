"""A problem set of three small questions, and submissions of it."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

SETUP = """
import torch
from lightning_rl.classroom import begin, case, check, expect, training
variant = begin("0_small", student, key="demo")
"""
RIGHT = {
    "q1": "def double(values):\n    return 2 * values",
    "q2": "def loss(values):\n    return (values ** 2).sum()",
    "q3": "def start(seed):\n    return {'count': seed}\n\ndef learn(state):\n    return 10.0",
}
TESTS = {
    "q1": """
@case("q1", points=1, hint="Twice.")
def one_is_doubled(double):
    expect(double(torch.ones(2)), [2.0, 2.0])
### BEGIN HIDDEN TESTS
@case("q1", points=2)
def a_hidden_number_is_doubled(double, variant):
    number = variant.number("n", 3.0, 9.0)
    expect(double(number), 2 * number)
### END HIDDEN TESTS
check("q1")
""",
    "q2": """
@case("q2", points=2, hint="No detach.")
def the_gradient_is_twice_the_value(loss):
    values = torch.tensor([1.0, 3.0], requires_grad=True)
    loss(values).backward()
    expect(values.grad, [2.0, 6.0])
check("q2")
""",
    "q3": """
@training("q3", points=4, low=0.0, high=10.0, seconds=1)
def it_learns(start, learn):
    return learn(start(3)), [(0, 0.0), (1, 1.0)]
check("q3")
""",
}


def cell(source: str, **metadata: Any) -> dict[str, Any]:
    nbgrader = {
        "schema_version": 3,
        "locked": False,
        "grade": False,
        "solution": False,
        "task": False,
    }
    nbgrader |= metadata
    return {
        "id": metadata.get("grade_id", uuid.uuid4().hex),
        "cell_type": "code",
        "execution_count": 1,
        "metadata": {"nbgrader": nbgrader},
        "outputs": [],
        "source": source,
    }


def notebook(answers: dict[str, str], tests: dict[str, str]) -> dict[str, Any]:
    cells = [cell(SETUP, grade_id="setup", locked=True)]
    for question in {**tests, **answers}:
        if question in answers:
            cells.append(cell(answers[question], grade_id=question, solution=True))
        points = {"points": 4, "grade": True, "locked": True}
        if question in tests:
            cells.append(cell(tests[question], grade_id=f"{question}-check", **points))
    return {"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def write(path: Path, answers: dict[str, str] = RIGHT, tests: dict[str, str] = TESTS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook(answers, tests)))
    return path


def result(student: str, points: float = 1.0, message: str = "", error: str = "") -> dict[str, Any]:
    """Give a result of one question with a visible and a hidden case."""
    seen = {"case": "it adds", "points": min(points, 1.0), "maximum": 1.0, "message": message}
    unseen = {"case": "it adds more", "points": max(points - 1, 0.0), "maximum": 2.0}
    cases = [
        seen | {"hint": "Add.", "hidden": False},
        unseen | {"message": "got 7; expected 8", "hint": "", "hidden": True},
    ]
    question = {"question": "q1", "points": points, "maximum": 3.0, "message": message}
    question |= {"cell": "q1-check"}
    return {
        "student": student,
        "assignment": "1_sums",
        "points": points,
        "maximum": 3.0,
        "seconds": 1.5,
        "error": error,
        "notes": [],
        "questions": [question | {"seconds": 1.0, "cases": cases}],
    }
