"""Grading submissions: answers in processes of their own, tests in the grader's."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from lightning_rl.classroom.answers import Answers, Limits
from lightning_rl.classroom.course import Course
from lightning_rl.classroom.isolation import choose
from lightning_rl.classroom.notebooks import (
    Cell,
    Source,
    Submission,
    find_submissions,
    read_source,
    read_submission,
)
from lightning_rl.classroom.questions import Session, sitting
from lightning_rl.classroom.verdicts import Result, judge
from lightning_rl.errors import SubmissionError

LIMITS = Limits()


def grade_submission(
    source: Source,
    submission: Submission,
    student: str,
    course: Course,
    limits: Limits = LIMITS,
    isolation: str = "auto",
) -> Result:
    """Grade one submission; the neutral result of which all others are made.

    Setup cells and tests are the source's own. Only the submission's answer cells run, in another
    process, which never learns of tests, expected values or the secret.

    Args:
        source: the teacher's notebook.
        submission: the student's.
        student: id.
        course: whose variants are played.
        limits: what the answers may use.
        isolation: see `choose` in isolation.py.

    Returns:
        student, assignment, points, maximum, seconds, notes, error, and a list of questions, each
        with question, points, maximum, message, seconds, its cases, and the cell that asks it.

    Raises:
        AssignmentError: if the source itself fails.
    """
    start = time.perf_counter()
    told = Session(source.name, course.student(student), course.key, course.secret, started=True)
    answers = Answers(told, limits, choose(isolation))
    told.answers = answers.find
    try:
        with sitting(told):
            questions = _ask_all(source, submission, told, answers)
    finally:
        answers.stop()
    seconds = round(time.perf_counter() - start, 3)
    return _result(student, source, questions, seconds) | {"notes": submission.notes}


def _ask_all(
    source: Source, submission: Submission, told: Session, answers: Answers
) -> list[Result]:
    """Go through the source, cell by cell."""
    names: dict[str, Any] = {"__name__": "assignment", "student": told.student}
    judged: dict[str, Result] = {}
    for cell in source.cells:
        if cell.kind == "setup":
            _run(cell, names, told)
            answers.run(cell.name, cell.source, trusted=True)
        elif cell.kind == "answer":
            _answer(cell, submission, answers)
        else:
            for question in _run(cell, names, told):
                judged[question] = judge(told, question, answers.prepare) | {"cell": cell.name}
    return list(judged.values())


def _answer(cell: Cell, submission: Submission, answers: Answers) -> None:
    if cell.name in submission.answers:
        try:
            answers.run(cell.name, submission.answers[cell.name])
        except SubmissionError as error:  # out of time before it began
            answers.problem = str(error)
    else:
        answers.problem = (
            f"the answer cell {cell.name!r} is not in {submission.file.name}; take the cell from "
            "the released notebook, and keep its metadata"
        )


def _run(cell: Cell, names: dict[str, Any], told: Session) -> list[str]:
    """Run a teacher's cell in the grader; give the questions that it has cases of."""
    before = {question: dict(cases) for question, cases in told.cases.items()}
    for told.hidden, code in cell.parts():
        exec(compile(code, f"<{cell.name}>", "exec"), names)  # noqa: S102 - the teacher's own
    told.hidden = False
    return [question for question, cases in told.cases.items() if before.get(question) != cases]


def questions_of(source: Source) -> list[Result]:
    """Give a source's questions with no points: what a submission that can't be read gets."""
    told = Session(source.name, started=True)
    names: dict[str, Any] = {"__name__": "assignment", "student": told.student}
    cells: dict[str, str] = {}
    with sitting(told):
        for cell in source.cells:
            if cell.kind != "answer":
                cells |= dict.fromkeys(_run(cell, names, told), cell.name)
    return [
        {
            "question": question,
            "points": 0.0,
            "maximum": sum(one.points for one in told.of(question)),
            "message": "not graded",
            "seconds": 0.0,
            "cases": [],
            "cell": cell,
        }
        for question, cell in cells.items()
    ]


def _result(
    student: str, source: Source, questions: list[Result], seconds: float, error: str = ""
) -> Result:
    return {
        "student": student,
        "assignment": source.name,
        "release": source.release,
        "points": round(sum(one["points"] for one in questions), 2),
        "maximum": sum(one["maximum"] for one in questions),
        "seconds": seconds,
        "error": error,
        "notes": [],
        "questions": questions,
    }


def ungraded(student: str, source: Source, error: str) -> Result:
    """Give the result of what can't be graded: no points, and why."""
    return _result(student, source, questions_of(source), 0.0, error)


def grade_file(
    source: Source, file: Path, student: str, course: Course, limits: Limits, isolation: str
) -> Result:
    """Grade a file; one that can't be read gets no points, and the result says why."""
    torch.set_num_threads(1)
    try:
        submission = read_submission(file, source)
    except SubmissionError as error:
        return ungraded(student, source, str(error))
    return grade_submission(source, submission, student, course, limits, isolation)


def grade_folder(
    source: str | Path,
    folder: str | Path,
    course: Course,
    jobs: int = 2,
    limits: Limits = LIMITS,
    isolation: str = "auto",
) -> Iterator[Result]:
    """Grade a folder of submissions, some at a time; a broken one never stops the others.

    Args:
        source: the teacher's notebook.
        folder: see `find_submissions`.
        course: whose secret makes the variants.
        jobs: submissions at a time.
        limits: what each may use.
        isolation: see `choose` in isolation.py.

    Yields:
        A result a submission, in the order of ids.

    Raises:
        AssignmentError: if the source, the folder or the isolation can't be used.
    """
    read, kind = read_source(source), choose(isolation)
    files, problems = find_submissions(folder)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        graded = {
            student: pool.submit(grade_file, read, file, student, course, limits, kind)
            for student, file in files.items()
        }
        for student in sorted({*files, *problems}):
            if student in graded:
                yield graded[student].result()
            else:
                yield ungraded(student, read, problems[student])
