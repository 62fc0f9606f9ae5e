"""The command line of a course: `python -m lightning_rl.classroom grade SOURCE SUBMISSIONS`."""

import json
import sys
from pathlib import Path
from typing import Any

from jsonargparse import auto_cli

from lightning_rl.classroom.checking import check_notebook
from lightning_rl.classroom.course import make_course, read_course
from lightning_rl.classroom.gradebook import write_gradebook
from lightning_rl.classroom.gradescope import write_autograder
from lightning_rl.classroom.grading import grade_folder
from lightning_rl.classroom.leaderboard import leaderboard as ranked
from lightning_rl.classroom.leaderboard import markdown, pseudonym, read_ids
from lightning_rl.classroom.release import write_release
from lightning_rl.classroom.reports import write_report
from lightning_rl.classroom.results import read_results, write_results
from lightning_rl.classroom.verify import verify_set
from lightning_rl.errors import LightningRLError


def course(name: str, path: str = "course.json", variants: bool = True) -> None:
    """Make a course's secret, once.

    Args:
        name: such as "RL 2027".
        path: of the file; keep it to yourself, and keep it.
        variants: whether each student gets numbers of their own.
    """
    make_course(path, name, variants)
    print(f"{path}: the secret of {name!r}. Keep it to yourself, and keep it.")


def release(source: str, course: str = "course.json", output: str = "release") -> None:
    """Make the copy of a notebook that students get.

    Args:
        source: the teacher's notebook, with solutions and hidden tests.
        course: the file with the secret.
        output: folder for the copy.
    """
    print(f"{write_release(source, read_course(course), output)}: hand this one out")


def check(notebook: str, question: str = "", output: str = "") -> None:
    """Judge a notebook by the tests that a student sees; exit with 1 if points are missing.

    Args:
        notebook: your own: its cells run with what you may do.
        question: one of them, such as q2; by default all.
        output: file for the results in JSON.
    """
    results = check_notebook(notebook, question)
    if output:
        Path(output).write_text(json.dumps(results, indent=1))
    if any(one["points"] < one["maximum"] for one in results):
        sys.exit(1)


def grade(
    source: str,
    submissions: str,
    course: str = "course.json",
    output: str = "results",
    jobs: int = 2,
    isolation: str = "auto",
) -> None:
    """Grade a folder of submissions; write a JSON result for each.

    Args:
        source: the teacher's notebook, with its hidden tests.
        submissions: folder of files ID.ipynb, or of folders named by id.
        course: the file with the secret.
        output: folder for the results.
        jobs: submissions at a time.
        isolation: "bubblewrap", "user" (for root), "limits" (no walls), or "auto".
    """
    results = []
    for result in grade_folder(source, submissions, read_course(course), jobs, isolation=isolation):
        results.append(result)
        points = f"{result['points']:g} of {result['maximum']:g}"
        print(f"{result['student']:24} {points:>12}  {result['error']}", flush=True)
    write_results(results, output)
    print(f"{len(results)} results in {output}")


def report(results: str = "results", output: str = "report", hidden: bool = True) -> None:
    """Write grades.csv, class.html with a histogram, and a page of feedback a student.

    Args:
        results: folder that `grade` wrote.
        output: folder for the report.
        hidden: whether feedback tells of hidden cases; better not before everyone has handed in.
    """
    read = read_results(results)
    write_report(read, output, hidden)
    print(f"{len(read)} students: grades.csv, class.html, feedback/ in {output}")


def leaderboard(
    opted: str, results: str = "results", course: str = "course.json", output: str = ""
) -> None:
    """List the best of those who want to be listed, under pseudonyms.

    Args:
        opted: file with the ids of those who want to be on it, one a line.
        results: folder that `grade` wrote.
        course: the file with the secret, of which the pseudonyms are made.
        output: file for the list, in Markdown; by default it is only printed.
    """
    read, ids = read_course(course), read_ids(opted)
    table = markdown(ranked(read_results(results), ids, read))
    if output:
        Path(output).write_text(table)
    print(table)
    print("For you alone; tell each student their own:")
    for student in ids:
        print(f"  {student:24} {pseudonym(read, student)}")


def gradebook(results: str = "results", output: str = "gradebook.db") -> None:
    """Write results into a gradebook of nbgrader.

    Args:
        results: folder that `grade` wrote.
        output: the gradebook, which may hold other assignments.
    """
    read = read_results(results)
    print(f"{write_gradebook(read, output)}: {len(read)} students' scores")


def gradescope(
    source: str,
    course: str = "course.json",
    output: str = "autograder.zip",
    identity: str = "email",
    isolation: str = "auto",
) -> None:
    """Make the autograder that Gradescope takes.

    Args:
        source: the teacher's notebook.
        course: the file with the secret, which will be in the zip.
        output: the zip.
        identity: what students put as their id: "email", "name" or "id", as Gradescope has it.
        isolation: as in `grade`.
    """
    path = write_autograder(source, read_course(course), output, identity, isolation)
    print(f"{path}: upload it to a programming assignment. It holds the secret.")


def verify(source: str, answers: str = "", variants: int = 20, trainings: bool = False) -> None:
    """Try a problem set's tests on right and wrong answers; exit with 1 if they judge one wrongly.

    Args:
        source: the teacher's notebook.
        answers: folder with right.py, wrong_*.py, survivors.toml; by default answers/NAME.
        variants: students whose numbers the notebook's own answers are tried with.
        trainings: whether to try questions that train, too: minutes for each.
    """
    found = verify_set(source, answers or None, variants, trainings)
    for what, number in found.tried.items():
        print(f"{number:5} {what}")
    print(f"{found.killed:5} mutants found, {found.share:.1%} of those that are faults")
    if found.wrong:
        sys.exit(1)


COMMANDS: dict[str, Any] = {
    one.__name__: one
    for one in (course, release, check, grade, report, leaderboard, gradebook, gradescope, verify)
}


def main(args: list[str] | None = None) -> None:
    """Read the command line; say what is wrong in one line."""
    try:
        auto_cli(COMMANDS, args=args, prog="python -m lightning_rl.classroom")
    except LightningRLError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
