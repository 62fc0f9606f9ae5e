"""Verdicts: what a student reads, and what the neutral result holds."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_rl.classroom.expectations import expect
from lightning_rl.classroom.questions import Case, Session, case, training
from lightning_rl.classroom.verdicts import check, draw_curve, judge
from lightning_rl.errors import AssignmentError, SubmissionError


def answers(**names: Any) -> Any:
    return names.__getitem__


@pytest.fixture
def sums(one: Session) -> Session:
    @case("q1", points=1, hint="Try 1 and 2.")
    def two_and_two_are_four(add: Any) -> None:
        expect(add(2, 2), 4)

    @case("q1", points=2, hint="Try 1 and 2, truly.")
    def one_and_two_are_three(add: Any) -> None:
        expect(add(1, 2), 3)

    return one


def test_a_right_answer_passes(sums: Session, capsys: pytest.CaptureFixture[str]) -> None:
    sums.answers = answers(add=lambda a, b: a + b)
    assert check("q1") == 3.0
    assert "q1: passed, 3 of 3 points" in capsys.readouterr().out


def test_a_wrong_one_loses_its_points_and_is_told_the_case_the_values_and_one_hint(
    sums: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    sums.answers = answers(add=lambda a, b: a * b)
    assert check("q1") == 1.0
    said = capsys.readouterr().out
    assert "one and two are three (0 of 2)" in said
    assert "got 2.0; expected 3.0" in said
    assert said.count("Hint:") == 1
    assert said.endswith("Points so far: 1 of 3\n")


def test_the_words_are_the_same_each_time(
    sums: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    sums.answers = answers(add=lambda a, b: torch.rand(()) + a)
    check("q1")
    first = capsys.readouterr().out
    torch.rand(7)
    check("q1")
    assert capsys.readouterr().out == first


def test_checking_leaves_the_random_numbers_alone(sums: Session) -> None:
    sums.answers = answers(add=lambda a, b: torch.rand(()) + a)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    check("q1")
    assert torch.equal(torch.rand(3), expected)


def test_an_answer_that_raises_fails_alone(sums: Session) -> None:
    sums.answers = answers(add=lambda a, b: 4 if a == b else 1 / 0)
    result = judge(sums, "q1")
    assert result["points"] == 1
    assert "ZeroDivisionError" in result["message"]


def test_a_training_earns_a_part_and_shows_its_curve(
    one: Session, notebook: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    @training("q1", points=4, low=0, high=10, seconds=1)
    def it_learns(learn: Any) -> Any:
        return learn(), [(0, 0.0), (10, 5.0)]

    one.answers = answers(learn=lambda: 5.0)
    assert check("q1") == 2.0
    assert "reached 5; points rise from 0 to 10" in capsys.readouterr().out
    assert notebook[0]._repr_png_().startswith(b"\x89PNG")


def test_past_the_bar_no_digit_depends_on_the_run(one: Session) -> None:
    @training("q1", points=4, low=0, high=10, seconds=1)
    def it_learns(learn: Any) -> Any:
        return learn()

    one.answers = answers(learn=lambda: 10.123)
    assert judge(one, "q1")["cases"][0]["message"] == "reached the bar of 10"


def test_a_curve_is_drawn_beside_both_bars() -> None:
    axes = draw_curve("it learns", [[0, 1], [1, 2]], [0, 2]).axes[0]
    assert [line.get_ydata()[0] for line in axes.lines[1:]] == [0, 2]


def test_a_question_without_cases_is_an_error() -> None:
    with pytest.raises(AssignmentError, match="q7"):
        check("q7")


def test_while_a_grader_asks_check_says_nothing(
    one: Session, capsys: pytest.CaptureFixture[str]
) -> None:
    one.started = True
    assert check("q1") == 0.0
    assert capsys.readouterr().out == ""


def test_who_grades_is_asked_to_prepare_each_case(sums: Session) -> None:
    prepared: list[Case] = []
    sums.answers = answers(add=lambda a, b: a + b)
    result = judge(sums, "q1", prepared.append)
    assert result["points"] == 3.0
    assert [case.name for case in prepared] == ["two and two are four", "one and two are three"]


def test_a_case_that_can_not_be_prepared_loses_its_points_alone(sums: Session) -> None:
    def prepare(one: Case) -> None:
        if one.points == 2:
            raise SubmissionError("its time is used")

    sums.answers = answers(add=lambda a, b: a + b)
    result = judge(sums, "q1", prepare)
    assert result["points"] == 1.0
    assert result["message"] == "one and two are three: SubmissionError: its time is used"


def test_a_fault_of_the_cases_themselves_takes_nobodys_points(sums: Session) -> None:
    def faulty(name: str) -> Any:
        raise AssignmentError("a case hands over a set")

    sums.answers = faulty
    with pytest.raises(AssignmentError, match="a case hands over a set"):
        judge(sums, "q1")
