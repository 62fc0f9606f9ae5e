"""An autograder for Gradescope: the zip that a teacher uploads, the results that it writes.

Source: https://gradescope-autograders.readthedocs.io, "Autograder Specifications".
"""

from __future__ import annotations

import json
import sys
import zipfile
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from lightning_rl.classroom.course import Course, read_course
from lightning_rl.classroom.grading import grade_submission, ungraded
from lightning_rl.classroom.isolation import KINDS, PACKAGE
from lightning_rl.classroom.notebooks import notebook_of, read_source, read_submission
from lightning_rl.classroom.verdicts import Result
from lightning_rl.errors import AssignmentError, SubmissionError

IDENTITIES = ("email", "name", "id")  # what a submission's metadata tell of its author
SETUP = """#!/usr/bin/env bash
# Runs once, as root, when the image is built. Python 3.11 or newer is needed; uv brings it along
# where the image has an older one.
set -euo pipefail
apt-get update
apt-get install --yes python3 python3-pip python3-venv bubblewrap util-linux
if python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    python3 -m venv /opt/grader
else
    python3 -m pip install uv
    UV_PYTHON_INSTALL_DIR=/opt/python uv venv --seed --python 3.11 /opt/grader
fi
/opt/grader/bin/python -m pip install --requirement /autograder/source/requirements.txt
"""
RUN = """#!/usr/bin/env bash
# Grades one submission. Nothing of the source, the secret, or what was handed in may be read by
# the user that answers run as; the package itself may.
set -euo pipefail
root="${1:-/autograder}"
chmod 711 "$root/source"
chmod 600 "$root/source"/*.json "$root/source"/*.ipynb
chmod -R go-rwx "$root/submission" "$root/results"
export PYTHONPATH="$root/source/package"
exec "${GRADER_PYTHON:-/opt/grader/bin/python}" -m lightning_rl.classroom.gradescope "$root"
"""


def write_autograder(
    source: str | Path,
    course: Course,
    path: str | Path = "autograder.zip",
    identity: str = "email",
    isolation: str = "auto",
) -> Path:
    """Write the zip to upload: source, secret, package, and Gradescope's two scripts.

    Args:
        source: the teacher's notebook.
        course: whose secret makes the variants. It is in the zip: give that to Gradescope alone.
        path: of the zip.
        identity: which of `email`, `name`, `id` Gradescope's students are known by; it is what
            they put as `student` in the notebook.
        isolation: see `choose` in isolation.py. Gradescope's containers run as root, so that
            `user` works there where bubblewrap does not.

    Raises:
        AssignmentError: if the source can't be graded, or an option is unknown.
    """
    if identity not in IDENTITIES:
        raise AssignmentError(f"got identity={identity!r}; expected one of {IDENTITIES}.")
    if isolation not in ("auto", *KINDS):
        raise AssignmentError(f"got isolation={isolation!r}; expected one of {('auto', *KINDS)}.")
    name = Path(source).name
    read_source(source)
    told = {"source": name, "identity": identity, "isolation": isolation}
    texts = {
        "setup.sh": SETUP,
        "run_autograder": RUN,
        "requirements.txt": "\n".join(_requirements()) + "\n",
        "course.json": json.dumps(asdict(course)),
        "grading.json": json.dumps(told),
        name: Path(source).read_text(encoding="utf-8"),
    }
    files = [one for one in sorted(PACKAGE.rglob("*")) if one.suffix in (".py", ".typed")]
    for file in files:
        texts[f"package/{file.relative_to(PACKAGE.parent)}"] = file.read_text(encoding="utf-8")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for place, text in texts.items():
            entry = zipfile.ZipInfo(place)
            entry.external_attr = (0o755 if text.startswith("#!") else 0o644) << 16
            archive.writestr(entry, text)
    return Path(path)


def _requirements() -> list[str]:
    """Give what the package needs, without its extras."""
    try:
        needed = metadata.requires("lightning_rl") or []
    except metadata.PackageNotFoundError as error:
        raise AssignmentError("lightning_rl is not installed; expected it from pip.") from error
    return [one for one in needed if "extra ==" not in one]


def gradescope_result(result: Result) -> dict[str, Any]:
    """Say a neutral result as Gradescope's results.json: a test a case, hidden ones until later.

    Args:
        result: of one submission.

    Returns:
        What results.json holds. A case that students do not see is shown to them when the
        grades are published.
    """
    tests = []
    for number, question in enumerate(result["questions"], 1):
        for part, one in enumerate(question["cases"] or [_whole(question)], 1):
            said = [one["message"], f"Hint: {one['hint']}" if one["hint"] else ""]
            tests.append(
                {
                    "score": one["points"],
                    "max_score": one["maximum"],
                    "name": f"{question['question']}: {one['case']}",
                    "number": f"{number}.{part}",
                    "output": "\n".join(line for line in said if line),
                    "visibility": "after_published" if one["hidden"] else "visible",
                }
            )
    output = "\n".join([*([result["error"]] if result["error"] else []), *result["notes"]])
    return {
        "execution_time": result["seconds"],
        "output": output,
        "stdout_visibility": "hidden",
        "tests": tests,
    }


def _whole(question: Result) -> dict[str, Any]:
    """Give a question that was not asked as one case."""
    return {**question, "case": "not graded", "hint": "", "hidden": False}


def grade_here(root: str | Path) -> Path:
    """Grade what lies in a folder laid out as Gradescope does; write its results.json.

    Args:
        root: holds source/, submission/, results/ and submission_metadata.json.

    Raises:
        AssignmentError: if the autograder itself is broken. Gradescope then tells the teacher,
            and gives nobody 0 points.
    """
    root = Path(root)
    told = json.loads((root / "source" / "grading.json").read_text())
    source = read_source(root / "source" / told["source"])
    course = read_course(root / "source" / "course.json")
    student = _student(root / "submission_metadata.json", told["identity"])
    try:
        submission = read_submission(notebook_of(student, [root / "submission"]), source)
    except SubmissionError as error:
        result = ungraded(student, source, str(error).replace(f"{root}/", ""))
    else:
        result = grade_submission(source, submission, student, course, isolation=told["isolation"])
    written = root / "results" / "results.json"
    written.write_text(json.dumps(gradescope_result(result), indent=1))
    return written


def _student(path: Path, identity: str) -> str:
    """Give the id of who handed in; a group's is the one that comes first in the alphabet."""
    try:
        users = json.loads(path.read_text())["users"]
        return min(str(user[identity]) for user in users)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AssignmentError(f"{path} tells no {identity} of who handed in: {error}") from error


if __name__ == "__main__":
    grade_here(sys.argv[1])
