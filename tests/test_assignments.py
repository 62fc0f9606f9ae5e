"""The problem sets: right answers get all points, wrong ones lose those that belong to them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from lightning_rl.classroom.verdicts import judge

sys.path.insert(0, str(Path(__file__).parents[1] / "tutorials" / "assignments"))
from calibrate import (
    FOLDER,
    REFERENCE,
    SCORES,
    SECOND,
    best_wrong,
    code_cells,
    is_answer,
    read,
    sit,
    trainings,
)

SETS = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
WRONG = sorted((FOLDER / "answers").glob("*/wrong_*.py"))
SOLUTION = ("### BEGIN SOLUTION", "### END SOLUTION")
TRAINS = {  # what takes many seconds, and its points: calibrate.py measures it
    f"{name} {question}": sum(float(p) for q, p in found if q == question)
    for name in SETS
    for cell in code_cells(name)
    for found in [re.findall(r'^@training\("(q\d+)", points=(\d+)', cell.source, re.MULTILINE)]
    for question, _ in found
}


def key_of(path):
    return f"{path.parent.name} {path.stem.split('_')[1]}"


QUICK = [path for path in WRONG if key_of(path) not in TRAINS]
TRAINED = [path for path in WRONG if key_of(path) in TRAINS]


def points(name, answers=None, student="demo", only=None):
    """Judge a set with some answers in the place of the notebook's: {question: (got, maximum)}."""
    skipped = {key.split()[1]: "" for key in TRAINS if key.startswith(name)}
    with sit(name, {**(answers or {}), **skipped}, student) as session:
        chosen = [q for q in session.cases if (q == only if only else f"{name} {q}" not in TRAINS)]
        results = [judge(session, question) for question in chosen]
    return {r["question"]: (r["points"], r["maximum"]) for r in results}


def stub(source):
    """Take the solution out, as a student gets the cell."""
    before, _, rest = source.partition(SOLUTION[0])
    return f"{before}raise NotImplementedError{rest.partition(SOLUTION[1])[2]}"


@pytest.mark.parametrize("name", SETS)
def test_the_notebooks_answers_get_all_points_with_twenty_variants(name):
    for student in range(20):
        assert all(got == most for got, most in points(name, student=f"student {student}").values())


@pytest.mark.parametrize("name", SETS)
def test_a_second_right_answer_gets_all_points(name):
    source = (FOLDER / "answers" / name / "right.py").read_text()
    answers = {cell.id: "" for cell in code_cells(name) if is_answer(cell)} | {"q1": source}
    assert all(got == most for got, most in points(name, answers).values())


@pytest.mark.parametrize("name", SETS)
def test_what_a_student_starts_from_gets_nothing(name):
    answers = {cell.id: stub(cell.source) for cell in code_cells(name) if is_answer(cell)}
    assert all(got == 0 for got, _ in points(name, answers).values())


@pytest.mark.parametrize("name", SETS)
def test_there_are_at_least_ten_wrong_answers(name):
    assert sum(path.parent.name == name for path in WRONG) >= 10


@pytest.mark.parametrize("path", QUICK, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_wrong_answer_loses_its_points(path):
    name, question, loses, source = read(path)
    got, most = points(name, {question: source}, only=question)[question]
    assert most - got == pytest.approx(loses)


@pytest.fixture(scope="module")
def scores():
    return json.loads(SCORES.read_text())


@pytest.fixture(scope="module")
def cases():
    return trainings()


def shares(case, scores):
    """Give the part of the points, 0 to 1, that each score is worth."""
    return np.array([case.bar.share(score) for score in scores])


@pytest.mark.parametrize("key", TRAINS)
def test_twenty_trainings_of_the_answer_and_of_the_best_wrong_one_are_kept(key, scores):
    assert min(len(scores[key][name]) for name in (REFERENCE, best_wrong(scores[key]))) >= 20


@pytest.mark.parametrize("key", TRAINS)
def test_every_training_of_a_right_answer_gets_all_points(key, scores, cases):
    for name in (REFERENCE, SECOND):
        assert (shares(cases[key], scores[key][name]) == 1).all()


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_training_of_a_wrong_answer_loses_its_points(path, scores, cases):
    _, question, loses, _ = read(path)
    key = key_of(path)
    name = path.stem.removeprefix(f"wrong_{question}_").replace("_", " ")
    assert (TRAINS[key] * (1 - shares(cases[key], scores[key][name])) == loses).all()
