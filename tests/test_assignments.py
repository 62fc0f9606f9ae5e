"""The problem sets: right answers get all points, wrong ones lose those that belong to them."""

from __future__ import annotations

import ast
import contextlib
import io
from pathlib import Path

import nbformat
import pytest

from lightning_rl.classroom.questions import Session, sitting
from lightning_rl.classroom.verdicts import judge

FOLDER = Path(__file__).parents[1] / "tutorials" / "assignments"
SETS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
TRAINS = {("2_ppo", "q5")}  # takes many seconds
WRONG = sorted((FOLDER / "answers").glob("*/wrong_*.py"))
QUICK = [p for p in WRONG if (p.parent.name, p.stem.split("_")[1]) not in TRAINS]
SOLUTION = ("### BEGIN SOLUTION", "### END SOLUTION")


def cells(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_answer(cell):
    return cell.metadata.get("nbgrader", {}).get("solution", False)


def points(name, answers=None, student="demo", only=None):
    """Judge a set with some answers in the place of the notebook's: {question: (got, maximum)}."""
    session = Session(name, student, "a key", "a secret", started=True)
    namespace, questions = {"__name__": "graded"}, []
    with sitting(session), contextlib.redirect_stdout(io.StringIO()):
        for cell in cells(name):
            source = (answers or {}).get(cell.id, cell.source) if is_answer(cell) else cell.source
            exec(compile(source, cell.id, "exec"), namespace)  # noqa: S102 - our own notebooks
            if cell.metadata.get("nbgrader", {}).get("grade"):
                questions.append(cell.id.removesuffix("-check"))
        chosen = [q for q in questions if (q == only if only else (name, q) not in TRAINS)]
        results = [judge(session, question) for question in chosen]
    return {r["question"]: (r["points"], r["maximum"]) for r in results}


def stub(source):
    """Take the solution out, as a student gets the cell."""
    before, _, rest = source.partition(SOLUTION[0])
    return f"{before}raise NotImplementedError{rest.partition(SOLUTION[1])[2]}"


def read(path):
    """Give a wrong answer: its set, its question, the points it must lose, and its code."""
    source = path.read_text()
    stated = next(node for node in ast.parse(source).body if isinstance(node, ast.Assign))
    names, values = stated.targets[0].elts, stated.value
    assert [name.id for name in names] == ["QUESTION", "LOSES"]
    return path.parent.name, *ast.literal_eval(values), source


@pytest.mark.parametrize("name", SETS)
def test_the_notebooks_answers_get_all_points_with_twenty_variants(name):
    for student in range(20):
        assert all(got == most for got, most in points(name, student=f"student {student}").values())


@pytest.mark.parametrize("name", SETS)
def test_a_second_right_answer_gets_all_points(name):
    source = (FOLDER / "answers" / name / "right.py").read_text()
    answers = {cell.id: "" for cell in cells(name) if is_answer(cell)} | {"q1": source}
    assert all(got == most for got, most in points(name, answers).values())


@pytest.mark.parametrize("name", SETS)
def test_what_a_student_starts_from_gets_nothing(name):
    answers = {cell.id: stub(cell.source) for cell in cells(name) if is_answer(cell)}
    assert all(got == 0 for got, _ in points(name, answers).values())


@pytest.mark.parametrize("name", SETS)
def test_there_are_at_least_ten_wrong_answers(name):
    assert sum(path.parent.name == name for path in WRONG) >= 10


@pytest.mark.parametrize("path", QUICK, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_wrong_answer_loses_its_points(path):
    name, question, loses, source = read(path)
    got, most = points(name, {question: source}, only=question)[question]
    assert most - got == pytest.approx(loses)
