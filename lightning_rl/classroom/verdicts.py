"""What a question's cases say of an answer: points, the first failure, one hint."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from lightning_rl.classroom.questions import Bar, Case, Session, session
from lightning_rl.errors import AssignmentError
from lightning_rl.notebook.figures import PALETTE, NotebookFigure
from lightning_rl.notebook.kernel import in_notebook

MESSAGE = 600  # characters of a message
Result = dict[str, Any]


def check(question: str) -> float:
    """Say whether a question's answer keeps its promises, and how many points there are so far.

    In a student's notebook only the visible cases are known. The words are the same each time.

    Args:
        question: such as `"q2"`.

    Returns:
        The question's points; as a cell's last line it is what nbgrader reads.

    Raises:
        AssignmentError: if the question has no cases.

    Example:
        >>> from lightning_rl.classroom import begin, case, check, expect
        >>> variant = begin("0_sums", "amy")
        >>> add = lambda one, other: one * other
        >>> @case("q1", hint="Try 1 and 2.")
        ... def one_and_two_are_three(add):
        ...     expect(add(1, 2), 3)
        >>> check("q1")
        q1: not yet, 0 of 1 points
          no   one and two are three (0 of 1)
               got 2.0; expected 3.0
               Hint: Try 1 and 2.
        Points so far: 0 of 1
        0.0
    """
    current = session()
    if current.started or not current.checks:  # who grades asks each question itself
        return 0.0
    result = judge(current, question)
    current.results[question] = result
    print(words(result))
    print(_progress(current))
    _show_curves(current, result)
    return float(result["points"])


def judge(current: Session, question: str, prepare: Callable[[Case], None] | None = None) -> Result:
    """Run a question's cases; give the neutral result.

    Args:
        current: whose answers.
        question: such as `"q2"`.
        prepare: called before each case, by a grader whose answers are in another process.
    """
    start = time.perf_counter()
    cases = [_judge_case(current, one, prepare) for one in current.of(question)]
    failed = [one for one in cases if one["points"] < one["maximum"]]
    first = failed[0] if failed else None
    return {
        "question": question,
        "points": round(sum(one["points"] for one in cases), 2),
        "maximum": sum(one["maximum"] for one in cases),
        "message": f"{first['case']}: {first['message']}" if first else "all promises kept",
        "seconds": round(time.perf_counter() - start, 3),
        "cases": cases,
    }


def _judge_case(current: Session, one: Case, prepare: Callable[[Case], None] | None) -> Result:
    points, message, curve = 0.0, "", list[Any]()
    try:
        with seeded():
            if prepare is not None:
                prepare(one)
            value = one.function(**current.arguments(one))
        points, message, curve = _earned(one, value)
    except AssignmentError:
        raise
    except Exception as error:  # whatever an answer does wrong is its own failure, and is said
        name = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        message = f"{name}{error}"[:MESSAGE] or "a promise is not kept"
    return {
        "case": one.name,
        "points": round(points, 2),
        "maximum": one.points,
        "message": message,
        "hint": one.hint if points < one.points else "",
        "hidden": one.hidden,
        "curve": curve,
        "bar": [one.bar.low, one.bar.high] if one.bar else [],
    }


def _earned(one: Case, value: Any) -> tuple[float, str, list[Any]]:
    """Give points, message and curve for what a case returned."""
    if one.bar is None:
        return one.points, "", []
    score, curve = value if isinstance(value, tuple) else (value, [])
    points = one.points * one.bar.share(float(score))
    return points, _bar_words(one.bar, float(score)), [list(map(float, point)) for point in curve]


def _bar_words(bar: Bar, score: float) -> str:
    """Say what a score is worth; one past the bar is not told in digits, which differ by CPU."""
    if bar.share(score) == 1.0:
        return f"reached the bar of {bar.high:g}"
    return f"reached {score:.3g}; points rise from {bar.low:g} to {bar.high:g}"


@contextmanager
def seeded(seed: int = 0) -> Iterator[None]:
    """Begin all random numbers anew, and leave those outside as they were."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]):
        seed_all(seed)
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)


def seed_all(seed: int) -> None:
    """Seed torch, numpy's global numbers and Python's."""
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - an answer may use them
    random.seed(seed)


def words(result: Result) -> str:
    """Write a question's verdict, as a student reads it."""
    points, maximum = result["points"], result["maximum"]
    passed = "passed" if points >= maximum else "not yet"
    lines = [f"{result['question']}: {passed}, {points:g} of {maximum:g} points"]
    hinted = False
    for one in result["cases"]:
        kept = one["points"] >= one["maximum"]
        lines.append(
            f"  {'yes ' if kept else 'no  '} {one['case']} "
            f"({one['points']:g} of {one['maximum']:g})"
        )
        lines += [f"       {one['message']}"] if one["message"] else []
        if one["hint"] and not kept and not hinted:
            lines.append(f"       Hint: {one['hint']}")
            hinted = True
    return "\n".join(lines)


def _progress(current: Session) -> str:
    points = sum(result["points"] for result in current.results.values())
    maximum = sum(one.points for cases in current.cases.values() for one in cases.values())
    return f"Points so far: {points:g} of {maximum:g}"


def _show_curves(current: Session, result: Result) -> None:
    """Draw the learning curve of each training question beside its bar, in a notebook."""
    curves = [one for one in result["cases"] if one["curve"]]
    if not curves or not in_notebook():
        return
    from IPython.display import display  # IPython is there: this is a kernel

    for one in curves:
        display(draw_curve(one["case"], one["curve"], one["bar"]))  # type: ignore[no-untyped-call]


def draw_curve(name: str, curve: Sequence[Sequence[float]], bar: Sequence[float]) -> NotebookFigure:
    """Draw a learning curve, and the two scores between which its points rise."""
    figure = NotebookFigure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.add_subplot()
    steps, values = zip(*curve, strict=True)
    axes.plot(steps, values, color=PALETTE[0])
    for score, label, style in zip(bar, ("no points", "all points"), (":", "--"), strict=True):
        axes.axhline(score, color=PALETTE[1], linestyle=style, label=f"{label}: {score:g}")
    axes.set(xlabel="env steps", ylabel="score", title=name)
    axes.legend(loc="best")
    return figure
