"""A notebook's questions as its student sees them, without a notebook server."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning_rl.classroom.notebooks import Cell, code_cells, without_magic
from lightning_rl.classroom.questions import Session, sitting
from lightning_rl.classroom.verdicts import Result, judge, words
from lightning_rl.errors import AssignmentError


def check_notebook(
    path: str | Path, only: str = "", say: Callable[[str], None] = print
) -> list[Result]:
    """Run a notebook's cells in order, and judge its questions by the visible tests.

    It runs in this process, with what the notebook's author may do: check your own. `grade` is
    for other people's. A cell that fails is told, and the next one goes on.

    Args:
        path: the notebook, released and filled in.
        only: a single question, such as `q2`; by default all.
        say: gets each verdict, in words.

    Returns:
        The neutral result of each question.

    Raises:
        SubmissionError: if it is no notebook.
        AssignmentError: if it has no such question.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    with sitting(Session(checks=False)) as current:
        for cell in code_cells(Path(path)):
            problem = _run(cell, names)
            if problem:
                say(f"{cell.name}: {problem}")
        if not current.cases:
            raise AssignmentError(f"{path} has no question; expected a released notebook.")
        asked = [only] if only else list(current.cases)
        results = [judge(current, question) for question in asked]
    for result in results:
        say(words(result))
    points, maximum = (sum(one[what] for one in results) for what in ("points", "maximum"))
    say(f"Points: {points:g} of {maximum:g}")
    return results


def _run(cell: Cell, names: dict[str, Any]) -> str:
    """Run a cell with its output left out; give what went wrong."""
    codes = [without_magic(code) for hidden, code in cell.parts() if not hidden]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            for code in codes:
                exec(compile(code, f"<{cell.name}>", "exec"), names)  # noqa: S102 - one's own
    except (Exception, SystemExit) as error:  # an unfinished answer; its question says more
        return f"{type(error).__name__}: {error}"
    return ""
