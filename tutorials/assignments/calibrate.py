"""Measure what the answers of a training question reach, and draw it for the teacher's guide.

    python tutorials/assignments/calibrate.py              # what is not measured yet
    python tutorials/assignments/calibrate.py 1_ --seeds 5

Each seed is another student: other physics, and other data or first weights. Scores are kept in
calibration.json as they come, so that a run that is stopped goes on; delete those of an answer that
has changed. The thresholds of a question's ramp are chosen from them, and a test keeps them honest.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import torch

from lightning_rl.classroom.questions import Bar, Case, Session, sitting
from lightning_rl.classroom.verdicts import seeded
from lightning_rl.notebook.figures import PALETTE, NotebookFigure

FOLDER = Path(__file__).resolve().parent
SCORES = FOLDER / "calibration.json"
PICTURE = FOLDER / "calibration.png"
REFERENCE, SECOND = "the answer", "another right answer"
BROKEN = -9999.0  # the score of what can't be trained at all
FEW = 4  # seeds that show which wrong answer is the best one
Scores = dict[str, dict[str, list[float]]]  # of "set question", of an answer's name


def code_cells(name: str) -> list[Any]:
    """Give the cells of code of a problem set."""
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def is_answer(cell: Any) -> bool:
    """Tell whether a student writes in a cell."""
    return bool(cell.metadata.get("nbgrader", {}).get("solution", False))


@contextlib.contextmanager
def sit(name: str, answers: dict[str, str], student: str = "demo") -> Iterator[Session]:
    """Run a set with some answers in the place of the notebook's, by the names of their cells."""
    session = Session(name, student, "the key", "a key", started=True)
    namespace: dict[str, Any] = {"__name__": "graded"}
    with sitting(session), contextlib.redirect_stdout(io.StringIO()):
        for cell in code_cells(name):
            source = answers.get(cell.id, cell.source) if is_answer(cell) else cell.source
            exec(compile(source, cell.id, "exec"), namespace)  # noqa: S102 - our own notebooks
        yield session


def trainings() -> dict[str, Case]:
    """Give the case of each training question, by "set question"."""
    found = {}
    for path in sorted(FOLDER.glob("[0-9]_*.ipynb")):
        with sit(path.stem, {}) as session:
            for question, cases in session.cases.items():
                found |= {f"{path.stem} {question}": one for one in cases.values() if one.bar}
    return found


def read(path: Path) -> tuple[str, str, float, str]:
    """Give a wrong answer: its set, its question, the points it must lose, and its code."""
    source = path.read_text()
    stated = next(node for node in ast.parse(source).body if isinstance(node, ast.Assign))
    question, loses = ast.literal_eval(stated.value)
    return path.parent.name, question, loses, source


def score(name: str, question: str, answers: dict[str, str], student: str) -> float:
    """Train once; give the score."""
    with sit(name, answers, student) as session, seeded():
        one = [one for one in session.of(question) if one.bar][-1]  # the hidden one, if any
        try:
            value = one.function(**session.arguments(one))
        except (
            ArithmeticError,
            AssertionError,
            TypeError,
            ValueError,
        ):  # it broke: that earns nothing
            return BROKEN
    return float(value[0] if isinstance(value, tuple) else value)


def answers_of(key: str) -> dict[str, dict[str, str]]:
    """Give all answers to a training question by name, the notebook's own first."""
    name, question = key.split()
    wrong = sorted((FOLDER / "answers" / name).glob(f"wrong_{question}_*.py"))
    words = {path: path.stem.removeprefix(f"wrong_{question}_").replace("_", " ") for path in wrong}
    right = {cell.id: "" for cell in code_cells(name) if is_answer(cell)}
    right["q1"] = (FOLDER / "answers" / name / "right.py").read_text()
    return {REFERENCE: {}, SECOND: right} | {
        words[path]: {question: path.read_text()} for path in wrong
    }


def measure(key: str, seeds: int, scores: Scores) -> None:
    """Add the scores that are missing: some of each answer, then of the reference and the best."""
    answers = answers_of(key)
    for seed in range(seeds):
        known = scores.setdefault(key, {})
        for which in list(answers) if seed < FEW else [REFERENCE, best_wrong(known)]:
            if len(known.setdefault(which, [])) <= seed:
                found = score(*key.split(), answers[which], f"student {seed}")
                known[which].append(round(found, 3))
                SCORES.write_text(json.dumps(scores, indent=1) + "\n")
                print(key, which, known[which][-1], flush=True)


def best_wrong(known: dict[str, list[float]]) -> str:
    """Name the wrong answer with the highest mean of its first scores."""
    means = {which: sum(values[:FEW]) / FEW for which, values in known.items()}
    return max(
        (which for which in known if which not in (REFERENCE, SECOND)), key=means.__getitem__
    )


def draw(scores: Scores, bars: dict[str, Bar]) -> NotebookFigure:
    """Draw every score as a point, a question below the other, and the ramp behind."""
    figure = NotebookFigure(figsize=(7, 2.1 * len(scores)), layout="constrained")
    for place, (key, answers) in enumerate(sorted(scores.items())):
        axes = figure.add_subplot(len(scores), 1, place + 1)
        low, high = bars[key].low, bars[key].high
        axes.axvspan(low, high, color="grey", alpha=0.15)
        for row, (which, values) in enumerate(answers.items()):
            color = PALETTE[which not in (REFERENCE, SECOND)]
            axes.plot(values, [row] * len(values), "o", color=color, alpha=0.5)
        axes.set_yticks(range(len(answers)), [f"{n} ({len(v)})" for n, v in answers.items()])
        best = max(max(values) for values in answers.values())
        axes.set_xlim(max(axes.get_xlim()[0], low - 3 * (high - low)), best + (high - low) / 4)
        axes.set(title=f"{key}: points rise from {low:g} to {high:g}", ylim=(-0.5, None))
        axes.invert_yaxis()
    return figure


def main() -> None:
    """Measure, then draw."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="beginnings of sets, such as 1_; default: all")
    parser.add_argument("--seeds", type=int, default=20, help="students of each answer")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    scores: Scores = json.loads(SCORES.read_text()) if SCORES.exists() else {}
    cases = trainings()
    for key in cases:
        if key.startswith(tuple(arguments.names or [""])):
            measure(key, arguments.seeds, scores)
    PICTURE.write_bytes(
        draw(scores, {key: one.bar for key, one in cases.items() if one.bar})._repr_png_()
    )


if __name__ == "__main__":
    main()
