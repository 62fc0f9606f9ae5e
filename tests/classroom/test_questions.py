"""Questions: cases, training bars, and where answers come from."""

from __future__ import annotations

from typing import Any

import pytest

from lightning_rl.classroom.questions import Bar, Session, begin, case, session, training
from lightning_rl.errors import AssignmentError


def test_a_case_belongs_to_its_question_and_its_name_is_the_promise(one: Session) -> None:
    @case("q1", points=2, hint="Try.")
    def it_adds(add: Any) -> None: ...

    (kept,) = one.of("q1")
    assert (kept.name, kept.points, kept.hint, kept.hidden) == ("it adds", 2, "Try.", False)


def test_a_cell_that_runs_twice_replaces_its_cases(one: Session) -> None:
    for points in (1, 3):

        @case("q1", points=points)
        def it_adds() -> None: ...

    assert [kept.points for kept in one.of("q1")] == [3]


@pytest.mark.parametrize(
    ("low", "high", "score", "share"),
    [(0, 10, 5, 0.5), (0, 10, -3, 0), (0, 10, 30, 1), (1, 0.5, 0.75, 0.5), (1, 0.5, 0.1, 1)],
)
def test_points_rise_on_a_ramp_that_may_go_down(
    low: float, high: float, score: float, share: float
) -> None:
    assert Bar(low, high, 1).share(score) == share


def test_a_score_that_is_not_a_number_earns_nothing() -> None:
    assert Bar(0, 1, 1).share(float("nan")) == 0


def test_bad_points_bars_ids_and_questions_are_refused(one: Session) -> None:
    with pytest.raises(AssignmentError, match="points=-1"):
        case("q1", points=-1)
    with pytest.raises(AssignmentError, match="low=1"):
        training("q1", 1, low=1, high=1, seconds=1)
    with pytest.raises(AssignmentError, match="expected your id"):
        begin("1", " ")
    with pytest.raises(AssignmentError, match="Run the cell"):
        one.of("q9")


def test_hidden_cases_see_another_variant(one: Session) -> None:
    one.secret = "of the teacher"  # noqa: S105
    seen = []
    for hidden in (False, True):
        one.hidden = hidden

        @case(f"q{hidden}")
        def it_varies(variant: Any) -> None: ...

        (kept,) = one.of(f"q{hidden}")
        seen.append(one.arguments(kept)["variant"].seed)
    assert seen[0] != seen[1]


def test_a_grader_trains_with_other_numbers_than_the_student(one: Session) -> None:
    @training("q1", 1, low=0, high=1, seconds=1)
    def it_learns(variant: Any) -> None: ...

    (kept,) = one.of("q1")
    own = one.arguments(kept)["variant"].seed
    one.secret = "of the teacher"  # noqa: S105
    assert one.arguments(kept)["variant"].seed != own


def test_begin_gives_the_students_numbers_unless_a_grader_has_set_them(one: Session) -> None:
    assert begin("1", "amy", "key").student == "amy"
    assert session().student == "amy"
    one.started = True
    assert begin("1", "bob", "other").student == "amy"


def test_an_answer_that_is_not_there_is_told(one: Session) -> None:
    @case("q1")
    def it_adds(no_such_name: Any) -> None: ...

    with pytest.raises(NameError, match="`no_such_name` is not defined"):
        one.arguments(one.of("q1")[0])
