"""Neutral results on disk: a JSON file a submission."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lightning_rl.classroom.verdicts import Result
from lightning_rl.errors import AssignmentError

KEYS = {"student", "assignment", "points", "maximum", "seconds", "error", "notes", "questions"}
QUESTION_KEYS = {"question", "points", "maximum", "message", "seconds", "cases", "cell"}


def write_results(results: Sequence[Result], folder: str | Path) -> list[Path]:
    """Write a JSON file a submission; a folder's own names can be names of files again."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for result in results:
        paths.append(folder / f"{result['student']}.json")
        paths[-1].write_text(json.dumps(result, indent=1))
    return paths


def read_results(folder: str | Path) -> list[Result]:
    """Read the results of one assignment back, in the order of ids.

    Raises:
        AssignmentError: if there is none, one is damaged, or they are of several assignments.
    """
    results = [_read(path) for path in sorted(Path(folder).glob("*.json"))]
    if not results:
        raise AssignmentError(f"{folder} holds no results; expected what `grade` wrote.")
    assignments = sorted({str(result["assignment"]) for result in results})
    if len(assignments) > 1:
        raise AssignmentError(
            f"{folder} holds results of {assignments}; expected one assignment's. Let `grade` "
            "write each to a folder of its own, with --output."
        )
    return sorted(results, key=lambda result: str(result["student"]))


def _read(path: Path) -> Result:
    try:
        result: Result = json.loads(path.read_text())
        missing = KEYS - set(result)
        for question in result["questions"]:
            missing |= QUESTION_KEYS - set(question)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise AssignmentError(f"{path} is no result of `grade`: {error}") from error
    if missing:
        raise AssignmentError(f"{path} is no result of `grade`: it lacks {sorted(missing)}.")
    return result
