"""Notebooks of assignments: a teacher's source, a student's submission."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_rl.errors import AssignmentError, SubmissionError

MAX_BYTES = 50 * 2**20  # of a notebook
HIDDEN = re.compile(r"^[ \t]*### (BEGIN|END) HIDDEN TESTS[ \t]*$", re.MULTILINE)
RELEASE = "lightning_rl"  # the notebook's metadata that says of which release it is
MAGIC = re.compile(r"^\s*[%!].*$", re.MULTILINE)
STUDENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


@dataclass(frozen=True)
class Cell:
    """A cell of code: kind `setup`, `answer` or `tests`, which matter, or the student's `own`."""

    name: str
    kind: str
    source: str

    def parts(self) -> list[tuple[bool, str]]:
        """Give its code in pieces, each hidden or not; lines keep their numbers."""
        pieces = HIDDEN.split(self.source)
        hidden = [word == "BEGIN" for word in ("", *pieces[1::2])]
        lines = [
            sum(piece.count("\n") for piece in pieces[: 2 * n : 2]) for n in range(len(hidden))
        ]
        codes = zip(hidden, lines, pieces[::2], strict=True)
        return [(hide, "\n" * skip + code) for hide, skip, code in codes]


@dataclass(frozen=True)
class Source:
    """A teacher's notebook.

    Args:
        name: the assignment's, which is the file's.
        release: a short hash of the cells, so that a later version is told from this one.
        cells: in order.
    """

    name: str
    release: str
    cells: list[Cell]


@dataclass(frozen=True)
class Submission:
    """What a student handed in: answers by the name of their cells."""

    file: Path
    release: str | None
    answers: dict[str, str]
    notes: list[str] = field(default_factory=list)


def read_source(path: str | Path) -> Source:
    """Read a teacher's notebook.

    Raises:
        AssignmentError: if it is none, has no tests, or two cells have one name.
    """
    path = Path(path)
    try:
        notebook = _read(path)
    except SubmissionError as error:
        raise AssignmentError(str(error)) from error
    cells = [one for cell in notebook["cells"] if (one := _cell(cell)) is not None]
    names = [one.name for one in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise AssignmentError(f"{path}: two cells are called {twice}; expected names of their own.")
    if not any(one.kind == "tests" for one in cells):
        raise AssignmentError(
            f"{path} has no cell with tests; expected nbgrader's source notebook, with "
            "`grade: true` in the metadata of at least one."
        )
    told = json.dumps([[one.name, one.kind, one.source] for one in cells]).encode()
    return Source(path.stem, hashlib.sha256(told).hexdigest()[:12], cells)


def _cell(cell: dict[str, Any]) -> Cell | None:
    metadata = cell.get("metadata", {}).get("nbgrader")
    if cell["cell_type"] != "code" or not isinstance(metadata, dict):
        return None
    kind = "answer" if metadata.get("solution") else "tests" if metadata.get("grade") else "setup"
    return Cell(str(metadata.get("grade_id")), kind, cell["source"])


def read_submission(path: Path, source: Source) -> Submission:
    """Read a student's notebook: its answers only.

    Raises:
        SubmissionError: if it is none, a link, too big, or of another release.
    """
    notebook = _read(path)
    release = notebook.get("metadata", {}).get(RELEASE, {})
    release = release.get("release") if isinstance(release, dict) else None
    if release not in (None, source.release):
        raise SubmissionError(
            f"{path} is of release {str(release)[:20]!r}; expected {source.release!r}. Grade it "
            "with the source it was released from, or ask for the answers in the new copy."
        )
    found = [one for cell in notebook["cells"] if (one := _cell(cell)) is not None]
    answers: dict[str, str] = {}
    notes = []
    for one in found:
        if one.kind == "answer" and one.name in answers:
            notes.append(f"the cell {one.name!r} is there twice; the first counts")
        elif one.kind == "answer":
            answers[one.name] = one.source
    if not any(cell.get("outputs") for cell in notebook["cells"]):
        notes.append("it has no outputs: it was handed in without being run")
    return Submission(path, release, answers, notes)


def code_cells(path: Path) -> list[Cell]:
    """Read all cells of code of a notebook, those of its author's own among them.

    Raises:
        SubmissionError: if it is none.
    """
    code = [cell for cell in _read(path)["cells"] if cell["cell_type"] == "code"]
    return [_cell(one) or Cell(f"cell {n}", "own", one["source"]) for n, one in enumerate(code, 1)]


def without_magic(source: str) -> str:
    """Leave out lines for IPython, where there is none; lines keep their numbers."""
    return MAGIC.sub("", source)


def _read(path: Path) -> dict[str, Any]:
    """Read a notebook's file, and check that it is one."""
    help_ = "Hand in the released notebook, saved by Jupyter, as a file of its own."
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        why = "is a link" if path.is_symlink() else f"can't be read ({error.strerror})"
        raise SubmissionError(f"{path} {why}; expected a notebook. {help_}") from error
    with open(handle, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise SubmissionError(
            f"{path} has more than {MAX_BYTES // 2**20} MB; clear its outputs, then hand it in."
        )
    try:
        notebook = json.loads(data)
        for cell in notebook["cells"]:
            lines = cell["source"]
            cell["source"] = lines if isinstance(lines, str) else "".join(lines)
            cell["metadata"].get("nbgrader")
            cell["cell_type"].lower()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise SubmissionError(f"{path} is not a notebook of Jupyter's format 4. {help_}") from error
    return dict(notebook)


def find_submissions(folder: str | Path) -> tuple[dict[str, Path], dict[str, str]]:
    """Find each student's notebook: `ID.ipynb`, or one notebook somewhere in the folder `ID`.

    That is how nbgrader lays out `submitted/`, and how most sites hand out what was handed in.

    Returns:
        Files by student id; and what is wrong by the name of what can't be graded.

    Raises:
        AssignmentError: if the folder is none, or holds no submission.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise AssignmentError(f"{folder} is no folder; expected one with a submission a student.")
    places: dict[str, list[Path]] = {}
    for place in sorted(folder.iterdir()):
        if place.suffix == ".ipynb" or place.is_dir():
            places.setdefault(place.name.removesuffix(".ipynb"), []).append(place)
    if not places:
        raise AssignmentError(
            f"{folder} holds no submission; expected files named ID.ipynb, or folders named by id."
        )
    files, problems = {}, {}
    for student, found in places.items():
        try:
            files[student] = notebook_of(student, found)
        except SubmissionError as error:
            problems[student] = str(error)
    return files, problems


def notebook_of(student: str, places: list[Path]) -> Path:
    """Find the one notebook of a student, in files and folders.

    Raises:
        SubmissionError: if there is none or more than one, a link, or no proper id.
    """
    if not STUDENT.fullmatch(student):
        raise SubmissionError(
            f"{places[0].parent}: {student!r} is no id; expected letters, digits and . _ @ + -, "
            "beginning with a letter or a digit. Rename the file or folder to the student's id."
        )
    if any(place.is_symlink() for place in places):
        raise SubmissionError(f"{places[0]} is a link; expected a file or folder of its own.")
    folders = [place for place in places if place.is_dir()]
    files = [place for place in places if not place.is_dir()]
    for one in folders:
        inside = one.rglob("*.ipynb")
        files += [path for path in inside if ".ipynb_checkpoints" not in path.parts]
    if len(files) != 1:
        named = ", ".join(map(str, files)) or "none"
        raise SubmissionError(
            f"{places[0]}: {student!r} handed in {len(files)} notebooks ({named}); expected one. "
            "Keep the one that counts."
        )
    return files[0]
