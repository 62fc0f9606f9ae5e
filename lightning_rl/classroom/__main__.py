"""The command line of a course: `python -m lightning_rl.classroom grade SOURCE SUBMISSIONS`."""

import sys
from typing import Any

from jsonargparse import auto_cli

from lightning_rl.classroom.course import make_course, read_course
from lightning_rl.classroom.grading import grade_folder, write_results
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


COMMANDS: dict[str, Any] = {"course": course, "grade": grade}


def main(args: list[str] | None = None) -> None:
    """Read the command line; say what is wrong in one line."""
    try:
        auto_cli(COMMANDS, args=args, prog="python -m lightning_rl.classroom")
    except LightningRLError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
