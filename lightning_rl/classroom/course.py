"""A course's secret, which makes the students' variants."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from lightning_rl.classroom.variants import course_key
from lightning_rl.errors import AssignmentError


@dataclass(frozen=True)
class Course:
    """A course's name and secret.

    Args:
        name: such as `RL 2027`.
        secret: known to the teacher alone.
        variants: whether each student gets numbers of their own.
    """

    name: str
    secret: str
    variants: bool = True

    @property
    def key(self) -> str:
        """What student copies hold."""
        return course_key(self.secret, self.name)

    def student(self, student: str) -> str:
        """Give the id that variants are made of."""
        return student if self.variants else "everyone"


def make_course(path: str | Path, name: str, variants: bool = True) -> Course:
    """Write a course's file with a new secret, readable by its owner alone.

    Raises:
        AssignmentError: if it is there already: with another secret all variants would change.
    """
    course = Course(name, secrets.token_hex(16), variants)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise AssignmentError(f"{path} is there already; expected a new file's name.") from error
    with open(handle, "w") as file:
        json.dump(asdict(course), file)
    return course


def read_course(path: str | Path) -> Course:
    """Read a course's file.

    Raises:
        AssignmentError: if it is missing, or holds no secret.
    """
    try:
        told = json.loads(Path(path).read_text())
        course = Course(str(told["name"]), str(told["secret"]), bool(told["variants"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AssignmentError(
            f"{path} holds no course's secret. Make it once, with `python -m "
            f"lightning_rl.classroom course NAME --path {path}`, and keep it to yourself."
        ) from error
    if len(course.secret) < 16:
        raise AssignmentError(f"{path} has a secret of under 16 characters, which can be guessed.")
    return course
