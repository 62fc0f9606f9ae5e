"""An answer's process, as its grader sees it: values, failures, gradients, limits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from lightning_rl.classroom.answers import Answers, Limits
from lightning_rl.classroom.questions import Case, Session
from lightning_rl.errors import AssignmentError, SubmissionError

LIMITS = Limits(cell_seconds=20.0)
CHILDREN = """
def family(number):
    import subprocess, sys
    hold = "held = bytearray(b'1') * 150 * 2**20; import time; time.sleep(600)"
    for _ in range(number):
        subprocess.Popen([sys.executable, "-c", hold])
    import time
    time.sleep(600)
"""


@pytest.fixture
def answers() -> Iterator[Answers]:
    made = Answers(Session("0_small", "amy", "a key", started=True), LIMITS, "limits")
    yield made
    made.stop()


def a_case(answers: Answers) -> None:
    """Give the answers the time of a case."""
    answers.prepare(Case("q1", print, 1.0, "", False))


def test_functions_are_called_values_are_looked_at_and_what_is_missing_is_told(
    answers: Answers,
) -> None:
    answers.run("q1", "number = 3\ndef double(x):\n    return 2 * x")
    a_case(answers)
    assert answers.find("number") == 3
    assert answers.find("double")(4) == 8
    with pytest.raises(SubmissionError, match="`triple` is not defined by the answer"):
        answers.find("triple")


def test_an_answer_has_the_students_id_and_visible_numbers_and_not_the_hidden_ones(
    answers: Answers,
) -> None:
    answers.told.secret = "of the teacher"  # noqa: S105
    answers.run("q1", "mine = student\nseed = variant.seed")
    a_case(answers)
    assert answers.find("mine") == "amy"
    assert answers.find("seed") == answers.told.variant().seed
    assert answers.find("seed") != answers.told.variant(hidden=True).seed


def test_gradients_come_back_through_a_call(answers: Answers) -> None:
    answers.run("q1", "def square(x):\n    return (x ** 2).sum()")
    a_case(answers)
    values = torch.tensor([1.0, 3.0], requires_grad=True)
    answers.find("square")(values).backward()
    assert values.grad is not None
    assert values.grad.tolist() == [2.0, 6.0]


def test_a_cell_that_fails_says_why_and_the_others_stay(answers: Answers) -> None:
    answers.run("q1", "number = 3")
    answers.run("q2", "1 / 0")
    a_case(answers)
    assert answers.find("number") == 3
    with pytest.raises(SubmissionError, match=r"ZeroDivisionError.*line 1 of <q2>"):
        answers.find("other")
    with pytest.raises(AssignmentError, match="cell 'setup' of the source fails"):
        answers.run("setup", "1 / 0", trusted=True)


def test_after_an_end_the_process_begins_anew_and_what_it_kept_is_lost(answers: Answers) -> None:
    answers.run("q1", "import os\nkept = lambda: object()\nleave = lambda: os._exit(0)")
    a_case(answers)
    kept = answers.find("kept")()
    with pytest.raises(SubmissionError, match="ended its process"):
        answers.find("leave")()
    with pytest.raises(SubmissionError, match="has ended within this case"):
        answers.find("kept")
    a_case(answers)
    with pytest.raises(SubmissionError, match="what it kept is lost"):
        answers.find("kept")(kept)


def test_processes_have_one_limit_of_memory_together(answers: Answers) -> None:
    answers.limits = replace(LIMITS, memory=2**30)  # each has less, and seven have more
    answers.run("q1", CHILDREN)
    a_case(answers)
    with pytest.raises(SubmissionError, match="its processes took more than 1024 MB of memory"):
        answers.find("family")(7)


def test_time_is_limited_by_case_and_in_all(answers: Answers) -> None:
    answers.limits = replace(LIMITS, cell_seconds=0.5)
    answers.run("q1", "def forever():\n    while True: pass")
    a_case(answers)
    with pytest.raises(SubmissionError, match="took too long, and was stopped"):
        answers.find("forever")()
    answers.end = 0.0
    with pytest.raises(SubmissionError, match="all 300 s of the submission are used"):
        a_case(answers)
