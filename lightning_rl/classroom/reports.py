"""What a teacher gets of a class's results: a table, a page of feedback a student, a class page."""

from __future__ import annotations

import csv
import io
import statistics
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lightning_rl.classroom.notebooks import STUDENT
from lightning_rl.classroom.pages import CLASS, FEEDBACK, page
from lightning_rl.classroom.verdicts import Result
from lightning_rl.notebook.figures import PALETTE

FORMULA = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would compute such a text
BINS = 10


def write_report(results: Sequence[Result], folder: str | Path, hidden: bool = True) -> list[Path]:
    """Write grades.csv, class.html and a page of feedback a student.

    Args:
        results: one assignment's, as `grade` gives them.
        folder: for the files; made if needed.
        hidden: whether feedback tells of hidden cases. Their names and numbers may be passed on.

    Returns:
        The files.
    """
    folder = Path(folder)
    (folder / "feedback").mkdir(parents=True, exist_ok=True)
    texts = {folder / "grades.csv": grades(results), folder / "class.html": class_page(results)}
    for result in results:
        if STUDENT.fullmatch(result["student"]):  # what is no id is nobody's
            place = folder / "feedback" / f"{result['student']}.html"
            texts[place] = feedback(result, hidden)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8", newline="")
    return list(texts)


def grades(results: Sequence[Result]) -> str:
    """Make a table in CSV: a row a student, a column a question.

    Example:
        >>> question = {"question": "q1", "points": 2.0, "maximum": 3.0}
        >>> amy = {"student": "amy", "assignment": "1", "points": 2.0, "maximum": 3.0}
        >>> print(grades([amy | {"questions": [question], "error": "", "seconds": 1.5}]))
        student,assignment,points,maximum,q1,seconds,error
        amy,1,2.0,3.0,2.0,1.5,
        <BLANKLINE>
    """
    names = question_names(results)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["student", "assignment", "points", "maximum", *names, "seconds", "error"])
    for result in results:
        row = [result[key] for key in ("student", "assignment", "points", "maximum")]
        of = {question["question"]: question["points"] for question in result["questions"]}
        row += [of.get(name, "") for name in names] + [result["seconds"], result["error"]]
        table.writerow([_harmless(value) for value in row])
    return text.getvalue()


def _harmless(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def question_names(results: Sequence[Result]) -> list[str]:
    """Give the questions in their order in the notebook."""
    return list(dict.fromkeys(q["question"] for result in results for q in result["questions"]))


def feedback(result: Result, hidden: bool = True) -> str:
    """Make a student's page: each question, its cases, what was got and expected, the hints.

    Args:
        result: the student's.
        hidden: whether it tells of hidden cases; if not, it tells how many points they gave.
    """
    return page(
        FEEDBACK, f"{result['assignment']}: {result['student']}", result=result, hidden=hidden
    )


def class_page(results: Sequence[Result]) -> str:
    """Make the teacher's page of a class: a histogram, what was missed most, a table."""
    points = [float(result["points"]) for result in results]
    maximum = max(float(result["maximum"]) for result in results)
    return page(
        CLASS,
        f"{results[0]['assignment']}: the class",
        results=results,
        names=question_names(results),
        maximum=maximum,
        mean=statistics.mean(points),
        median=statistics.median(points),
        histogram=histogram(points, maximum),
        questions=_questions(results),
        missed=_missed(results),
        links={r["student"] for r in results if STUDENT.fullmatch(r["student"])},
    )


def _questions(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Give each question's mean points, and how many students have all of them."""
    table = []
    for name in question_names(results):
        of = [q for result in results for q in result["questions"] if q["question"] == name]
        mean = statistics.mean(q["points"] for q in of)
        full = sum(q["points"] >= q["maximum"] for q in of)
        maximum = max(q["maximum"] for q in of)
        table.append({"name": name, "mean": mean, "maximum": maximum, "full": full})
    return table


def _missed(results: Sequence[Result]) -> list[tuple[tuple[str, str], int]]:
    """Count the students who lost points with each case, most first: what to explain in class."""
    counts: Counter[tuple[str, str]] = Counter()
    for result in results:
        for question in result["questions"]:
            lost = [one for one in question["cases"] if one["points"] < one["maximum"]]
            counts.update((question["question"], one["case"]) for one in lost)
    return counts.most_common()


def histogram(points: Sequence[float], maximum: float) -> str:
    """Draw how many students have how many points, as SVG."""
    figure = Figure(figsize=(6.4, 2.8), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(points, bins=BINS, range=(0, maximum or 1), color=PALETTE[0], rwidth=0.92)
    axes.axvline(statistics.median(points), color=PALETTE[1], linestyle="--", label="median")
    axes.set(xlabel="points", ylabel="students", xlim=(0, maximum or 1))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="best")
    text = io.StringIO()
    figure.savefig(text, format="svg")
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]
