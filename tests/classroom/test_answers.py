"""An answer's process, as its grader sees it: values, failures, gradients, limits."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch

from lightning_rl.classroom import answers as module
from lightning_rl.classroom.answers import Answers, Limits
from lightning_rl.classroom.child import Child, obey
from lightning_rl.classroom.questions import Bar, Case, Session
from lightning_rl.classroom.wire import LENGTH, pack, receive, send
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


@contextmanager
def answered_by(answers: Answers, other: Callable[[socket.socket], None]) -> Iterator[Answers]:
    """Let a function, in a thread, be what is at the other end of the line."""
    mine, its = socket.socketpair()
    answers.link, answers.starts = mine, 1
    thread = threading.Thread(target=other, args=(its,))
    thread.start()
    try:
        with its:
            yield answers
            mine.close()  # the thread's end of file
            thread.join(10)
    finally:
        answers.stop()
    assert not thread.is_alive()


def obeyed(names: dict[str, Any]) -> Callable[[socket.socket], None]:
    return lambda its: obey(Child(names), its)


def said(*replies: Any) -> Callable[[socket.socket], None]:
    """Say one reply after the other, whatever is asked."""

    def say(its: socket.socket) -> None:
        for reply in replies:
            receive(its)
            send(its, pack(reply))

    return say


def test_a_training_has_its_own_time_beside_that_of_a_case(answers: Answers) -> None:
    answers.limits = replace(LIMITS, cell_seconds=20.0, slowness=3.0)
    with answered_by(answers, obeyed({})):
        begun = time.monotonic()
        answers.prepare(Case("q1", print, 1.0, "", False, Bar(0.0, 1.0, seconds=5.0)))
    assert 35.0 <= answers.until - begun < 40.0


@pytest.mark.parametrize("reply", ["ok", ("ok",), ["ok", 1], 3, None])
def test_a_reply_in_another_form_ends_the_process(answers: Answers, reply: Any) -> None:
    with answered_by(answers, said(reply)):
        with pytest.raises(SubmissionError, match="the answer gave what can't be read"):
            answers.ask("look", "number")
        assert answers.link is None


def test_a_look_that_finds_no_pair_ends_the_process(answers: Answers) -> None:
    with answered_by(answers, said(("ok", "a function"))):
        with pytest.raises(SubmissionError, match="the answer gave what can't be read"):
            answers.find("number")
        assert answers.link is None


def test_a_reply_that_is_no_message_ends_the_process(answers: Answers) -> None:
    def garble(its: socket.socket) -> None:
        receive(its)
        send(its, LENGTH.pack(1, 1) + b"{")

    with answered_by(answers, garble):
        with pytest.raises(SubmissionError, match="gave what can't be read: not a message"):
            answers.find("number")
        assert answers.link is None


def test_a_case_that_hands_over_what_can_not_be_sent_is_the_teachers_fault(
    answers: Answers,
) -> None:
    with (
        answered_by(answers, obeyed({"size": len})),
        pytest.raises(AssignmentError, match=r"^a case hands a set to an answer; expected numbers"),
    ):
        answers.find("size")({1, 2})


def test_what_an_answer_kept_is_its_own_again_when_it_is_handed_back(answers: Answers) -> None:
    names: dict[str, Any] = {}
    with answered_by(answers, obeyed(names)):
        names |= {"make": lambda: {1, 2}, "total": sum}
        kept = answers.find("make")()
        assert answers.find("total")(kept) == 3


def test_gradients_come_back_through_tuples_and_dicts_beside_plain_values(
    answers: Answers,
) -> None:
    def parts(x: torch.Tensor) -> Any:
        return {"loss": (x**2).sum(), "both": (2 * x, x.detach(), [3])}

    x = torch.tensor([1.0, 3.0], requires_grad=True)
    with answered_by(answers, obeyed({"parts": parts})):
        found = answers.find("parts")(x)
        assert found["both"][1].tolist() == [1.0, 3.0]
        assert not found["both"][1].requires_grad
        assert found["both"][2] == [3]
        (found["loss"] + found["both"][0].sum()).backward()
    assert x.grad is not None
    assert x.grad.tolist() == [4.0, 8.0]


@pytest.mark.parametrize("gradients", [(torch.ones(3),), (), None, [torch.ones(2)]])
def test_gradients_of_other_shapes_are_the_answers_failure(
    answers: Answers, gradients: Any
) -> None:
    x = torch.ones(2, requires_grad=True)
    replies = ("function", None), torch.ones((), requires_grad=True), gradients
    with answered_by(answers, said(*(("ok", one) for one in replies))):
        value = answers.find("loss")(x)
        with pytest.raises(SubmissionError, match="gave gradients of other shapes"):
            value.backward()


def test_a_process_that_ends_before_it_begins_is_no_students_fault(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "command", lambda kind, arguments: ["true"])
    with pytest.raises(AssignmentError, match="the process for answers did not start"):
        answers.run("setup", "", trusted=True)
    assert answers.process is None
    assert answers.folder is None


def test_a_process_of_another_user_owns_its_folder(
    answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned: list[tuple[str, int, int]] = []
    me = {"user": os.getuid(), "group": os.getgid()}
    options = module.options
    monkeypatch.setattr(module, "options", lambda *given: options(*given) | me)
    monkeypatch.setattr(module, "command", lambda kind, arguments: ["true"])
    monkeypatch.setattr(os, "chown", lambda *given: owned.append(given))
    with pytest.raises(AssignmentError, match="did not start"):
        answers.run("setup", "", trusted=True)
    ((folder, user, group),) = owned
    assert (user, group) == (me["user"], me["group"])
    assert not os.path.exists(folder)
