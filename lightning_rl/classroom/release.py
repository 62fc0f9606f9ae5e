"""Student copies of a teacher's notebook: without solutions, hidden tests or outputs."""

from __future__ import annotations

import ast
import copy
import json
import re
from pathlib import Path
from typing import Any

from lightning_rl.classroom.course import Course
from lightning_rl.classroom.notebooks import RELEASE, read_source
from lightning_rl.errors import AssignmentError, needs_extra

LEFT = re.compile(r"(BEGIN|END) (SOLUTION|HIDDEN TESTS|MARK SCHEME)")


def release_notebook(path: str | Path, course: Course) -> Any:
    """Make the student's copy of a notebook, by the preprocessors of nbgrader.

    Solutions become stubs; hidden tests, outputs and mark schemes go; cells of tests are locked.
    The call of `begin` gets the course's key, from which the secret can't be found, and the
    notebook's metadata the release, by which `grade` knows a copy of another version.

    Args:
        path: the teacher's notebook.
        course: whose students get it.

    Returns:
        The copy, as nbformat's notebook.

    Raises:
        AssignmentError: if it is no source, does not call `begin` once, or can't be cleared.
    """
    source = read_source(path)
    notebook = _cleared(Path(path))
    begins = sum(_begin(cell, course) for cell in notebook.cells if cell.cell_type == "code")
    if begins != 1:
        raise AssignmentError(
            f"{path} calls `begin` in {begins} cells; expected one call: it gets the course's key."
        )
    notebook.metadata[RELEASE] = {"release": source.release}
    left = LEFT.search(json.dumps(notebook))
    if left is not None:
        raise AssignmentError(f"{path}: {left[0]!r} is left in the copy; see nbgrader's marks.")
    return notebook


def write_release(path: str | Path, course: Course, folder: str | Path) -> Path:
    """Write the student's copy into a folder, under the notebook's own name.

    Raises:
        AssignmentError: as in `release_notebook`, or if it would replace the source.
    """
    path, copied = Path(path), Path(folder) / Path(path).name
    if copied.resolve() == path.resolve():
        raise AssignmentError(f"{path} is the source itself; expected another folder for copies.")
    text = json.dumps(release_notebook(path, course), indent=1, ensure_ascii=False)
    copied.parent.mkdir(parents=True, exist_ok=True)
    copied.write_text(text + "\n", encoding="utf-8")
    return copied


def _cleared(path: Path) -> Any:
    with needs_extra("classroom", "to make students' copies"):
        import nbformat
        from nbgrader import preprocessors as steps
    order = (
        steps.LockCells, steps.ClearSolutions, steps.ClearOutput, steps.ClearHiddenTests,
        steps.ClearMarkScheme, steps.ComputeChecksums, steps.CheckCellMetadata,
    )  # fmt: skip
    notebook: Any = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    try:
        for step in order:
            notebook, _ = step().preprocess(notebook, {})
    except (RuntimeError, ValueError) as error:  # marks without an end, cells without an id
        raise AssignmentError(f"{path}: nbgrader can't clear it: {error}") from error
    return notebook


def _begin(cell: Any, course: Course) -> int:
    """Give the calls of `begin` in a cell the course's key; count them."""
    if "begin(" not in cell.source:
        return 0
    calls = [
        node
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "begin"
    ]
    for call in calls:
        text = ast.get_source_segment(cell.source, call) or ""
        cell.source = cell.source.replace(text, ast.unparse(_with_key(call, course)))
    return len(calls)


def _with_key(call: ast.Call, course: Course) -> ast.Call:
    call = copy.deepcopy(call)
    call.args = call.args[:2]
    call.keywords = [one for one in call.keywords if one.arg != "key"]
    call.keywords.append(ast.keyword("key", ast.Constant(course.key)))
    if not course.variants:  # everyone has the same numbers
        call.args[1] = ast.Constant(course.student(""))
    return call
