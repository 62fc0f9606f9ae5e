"""Questions of an assignment: their cases, their sitting."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lightning_rl.classroom.variants import Variant
from lightning_rl.errors import AssignmentError

DEMO = "demo"  # the student, and the key, of a teacher's own notebook


@dataclass(frozen=True)
class Bar:
    """The scores between which a training question's points rise, and its time on one core."""

    low: float
    high: float
    seconds: float

    def share(self, score: float) -> float:
        """Give the part of the points for a score, from 0 to 1; `high` may be the lower number."""
        part = (score - self.low) / (self.high - self.low)
        return min(max(part, 0.0), 1.0) if part == part else 0.0  # NaN earns nothing


@dataclass(frozen=True)
class Case:
    """One promise an answer has to keep, and its points."""

    question: str
    function: Callable[..., Any]
    points: float
    hint: str
    hidden: bool
    bar: Bar | None = None

    @property
    def name(self) -> str:
        """The promise, in words."""
        return self.function.__name__.replace("_", " ")


@dataclass
class Session:
    """One student's sitting of one assignment: the cases so far, and how answers are found.

    Args:
        assignment: name of the problem set.
        student: id.
        key: of the visible variant.
        secret: of the variant of hidden cases, and of all trainings; by default `key`.
        answers: gives the names that the answers defined; by default the notebook's own.
        started: whether `begin` leaves student and key alone, because a grader has set them.
        checks: whether `check` judges; if not, each question is asked for later.
    """

    assignment: str = DEMO
    student: str = DEMO
    key: str = DEMO
    secret: str | None = None
    answers: Callable[[str], Any] | None = None
    started: bool = False
    checks: bool = True
    hidden: bool = False
    cases: dict[str, dict[str, Case]] = field(default_factory=dict)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    def variant(self, hidden: bool = False) -> Variant:
        """Give the student's numbers."""
        key = self.secret if hidden and self.secret is not None else self.key
        return Variant(key, self.assignment, self.student)

    def add(self, added: Case) -> None:
        """Keep a case; a cell that runs twice replaces its own."""
        self.cases.setdefault(added.question, {})[added.function.__name__] = added

    def of(self, question: str) -> list[Case]:
        """Give a question's cases.

        Raises:
            AssignmentError: if there is none.
        """
        if question not in self.cases:
            raise AssignmentError(
                f"got question {question!r}; expected one of {sorted(self.cases)}. "
                "Run the cell with its cases first."
            )
        return list(self.cases[question].values())

    def arguments(self, one: Case) -> dict[str, Any]:
        """Find what a case takes: the student's names, and `variant`.

        Raises:
            NameError: if the answer does not define a name.
        """
        names = inspect.signature(one.function).parameters
        found: Mapping[str, Any] = one.function.__globals__
        taken = {}
        for name in names:
            if name == "variant":
                taken[name] = self.variant(one.hidden or one.bar is not None)
            elif self.answers is not None:
                taken[name] = self.answers(name)
            elif name in found:
                taken[name] = found[name]
            else:
                raise NameError(f"`{name}` is not defined: run the cell of your answer first")
        return taken


_sessions = [Session()]  # the last one is the one that cases and checks belong to


def session() -> Session:
    """Give the current sitting."""
    return _sessions[-1]


@contextmanager
def sitting(one: Session) -> Iterator[Session]:
    """Let cases and checks belong to a sitting of their own for a while."""
    _sessions.append(one)
    try:
        yield one
    finally:
        _sessions.pop()


def begin(assignment: str, student: str, key: str = DEMO) -> Variant:
    """Begin an assignment in its first cell; give the student's own numbers.

    Args:
        assignment: name of the problem set, such as `1_returns_and_gae`.
        student: the id that the teacher knows.
        key: the course's; `release` writes it in.

    Returns:
        The variant of the visible cases. A grader's hidden ones and trainings use another.

    Raises:
        AssignmentError: if the id is empty.

    Example:
        >>> begin("1_returns_and_gae", "amy").student
        'amy'
    """
    if not student.strip():
        raise AssignmentError('got student = ""; expected your id, as your teacher knows it.')
    current = session()
    if current.started:  # the grader has said who it is
        return current.variant()
    current.assignment, current.student, current.key = assignment, student, key
    current.cases.clear()
    current.results.clear()
    return current.variant()


def case(
    question: str, points: float = 1.0, hint: str = ""
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function one of a question's cases: it passes if it raises nothing.

    The function takes the names that the answer defines, and `variant` if it wants the student's
    numbers. Its own name, in words, is the promise that a verdict shows.

    Args:
        question: the answer cell's `grade_id`.
        points: for keeping the promise.
        hint: one sentence for who does not.

    Raises:
        AssignmentError: if the points are negative.

    Example:
        >>> @case("q0", points=2, hint="Add, don't multiply.")
        ... def two_and_two_are_four(add):
        ...     assert add(2, 2) == 4
    """
    return _keep(question, points, hint, None)


def training(
    question: str,
    points: float,
    low: float,
    high: float,
    seconds: float,
    hint: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make a function a training question: its score earns points on a ramp.

    The function takes names as in `case`, and returns the score, or `(score, curve)` where the
    curve is a list of `(env steps, value)`.

    Args:
        question: the answer cell's `grade_id`.
        points: for a score of `high` or better.
        low: the score that earns nothing. May be above `high`, for errors.
        high: the score that earns everything.
        seconds: the training's time on one core.
        hint: one sentence for who does not reach `high`.

    Raises:
        AssignmentError: if the points are negative, or `low` is `high`.

    Example:
        >>> @training("q0", points=4, low=0.0, high=1.0, seconds=1.0)
        ... def the_agent_learns(learn):
        ...     return learn()
    """
    if low == high:
        raise AssignmentError(f"got low={low}, high={high}; expected two scores that differ.")
    return _keep(question, points, hint, Bar(low, high, seconds))


def _keep(
    question: str, points: float, hint: str, bar: Bar | None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    if not points >= 0:
        raise AssignmentError(f"got points={points} for {question!r}; expected at least 0.")

    def keep(function: Callable[..., Any]) -> Callable[..., Any]:
        current = session()
        current.add(Case(question, function, points, hint, current.hidden, bar))
        return function

    return keep
