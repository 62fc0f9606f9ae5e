"""How long a class takes to grade: 30 submissions in at most 10 minutes on 2 cores.

    python tests/benchmarks/grading.py              # set 2, whose training is the longest
    python tests/benchmarks/grading.py 4_world_model --submissions 6

Makes a class from the set's own answers (half of it right, a third with one wrong answer, a wrong
training among them, the rest as students get it), grades it by the command a teacher uses, and
exits with 1 if a right submission lacks points or an untouched one has any. Run it on a machine
that does nothing else, with `taskset -c 0,1` before it where there are more cores; bubblewrap must
be installed, or you be root.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from itertools import cycle
from pathlib import Path
from typing import Any

import nbformat

from lightning_rl.classroom.course import make_course
from lightning_rl.classroom.isolation import choose
from lightning_rl.classroom.release import release_notebook
from lightning_rl.classroom.results import read_results
from lightning_rl.classroom.verify import read_wrong

SETS = Path(__file__).parents[2] / "tutorials" / "assignments"
MIX = ("right", "wrong", "right", "stub", "right", "wrong")  # of each six submissions
MINUTES = 10.0  # for 30 submissions


def hand_in(name: str, number: int, folder: Path) -> None:
    """Make a course, and a class's submissions of a set, named by what they are."""
    course = make_course(folder / "course.json", "A benchmark")
    released = release_notebook(SETS / f"{name}.ipynb", course)
    source = nbformat.read(SETS / f"{name}.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    right = {cell.metadata.nbgrader.grade_id: cell.source for cell in answer_cells(source)}
    wrong = cycle(sorted((SETS / "answers" / name).glob("wrong_*.py"), reverse=True))
    (folder / "handed_in").mkdir()
    for student in range(number):
        kind = MIX[student % len(MIX)]
        answers = dict(right) if kind != "stub" else {}
        if kind == "wrong":
            question, _, text = read_wrong(next(wrong))  # those of trainings come first
            answers[question] = text
        write(released, answers, folder / "handed_in" / f"{kind}{student:02}.ipynb")


def answer_cells(notebook: Any) -> list[Any]:
    """Give the cells that a student fills in."""
    return [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("solution")]


def write(released: Any, answers: dict[str, str], path: Path) -> None:
    """Write a student's copy with some answers filled in."""
    copied = nbformat.from_dict(released)
    for cell in answer_cells(copied):
        cell.source = answers.get(cell.metadata.nbgrader.grade_id, cell.source)
    nbformat.write(copied, path)  # type: ignore[no-untyped-call]


def grade(name: str, jobs: int, folder: Path) -> float:
    """Grade the folder by the command line; give its seconds."""
    command = [sys.executable, "-m", "lightning_rl.classroom", "grade", str(SETS / f"{name}.ipynb")]
    command += ["handed_in", "--jobs", str(jobs)]
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True)
    return time.perf_counter() - start


def kind_of(result: dict[str, Any]) -> str:
    """Give what a submission is by its student's name."""
    return str(result["student"]).rstrip("0123456789")


def judged_wrongly(results: list[dict[str, Any]]) -> list[str]:
    """Name right submissions without all points, and untouched ones with any."""
    shares = {"right": 1.0, "stub": 0.0}
    return [
        f"{one['student']}: {one['points']:g} of {one['maximum']:g} points"
        for one in results
        if kind_of(one) in shares and one["points"] != one["maximum"] * shares[kind_of(one)]
    ]


def main() -> None:
    """Grade a class, and print minutes, workers and the slowest submission."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="?", default="2_ppo")
    parser.add_argument("--submissions", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=2, help="submissions at a time")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        hand_in(options.name, options.submissions, Path(folder))
        seconds = grade(options.name, options.jobs, Path(folder))
        results = read_results(Path(folder) / "results")
    kinds = Counter(map(kind_of, results))
    slowest = max(results, key=lambda one: float(one["seconds"]))
    limit = MINUTES * options.submissions / 30
    print(f"\n{options.name}: {', '.join(f'{n} {kind}' for kind, n in kinds.items())}")
    print(f"{seconds / 60:.1f} minutes with {options.jobs} workers behind {choose()}; ", end="")
    print(f"the target is {limit:.2g}, on two cores")
    print(f"slowest: {slowest['student']}, {slowest['seconds']:.0f} s")
    wrong = judged_wrongly(results)
    print("\n".join(["", "judged wrongly:", *wrong]) if wrong else "each has the points it should")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
