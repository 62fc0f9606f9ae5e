"""A list of the best, of those who want to be on it, under names that only the teacher can tell."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

from lightning_rl.classroom.course import Course
from lightning_rl.classroom.verdicts import Result
from lightning_rl.errors import AssignmentError

QUALITIES = (
    "amber", "bold", "brisk", "bright", "calm", "clear", "clever", "cosy", "curious", "daring",
    "eager", "fair", "fleet", "gentle", "golden", "happy", "humble", "jolly", "keen", "kind",
    "lively", "lucky", "mellow", "merry", "nimble", "patient", "proud", "quick", "quiet", "steady",
    "sunny", "wise",
)  # fmt: skip
ANIMALS = (
    "badger", "bear", "beaver", "bee", "crane", "crow", "deer", "dolphin", "falcon", "finch", "fox",
    "frog", "gecko", "hare", "hedgehog", "heron", "ibis", "jay", "koala", "lark", "lynx", "marten",
    "mole", "newt", "otter", "owl", "panda", "puffin", "raven", "seal", "swift", "wren",
)  # fmt: skip


def pseudonym(course: Course, student: str) -> str:
    """Give a student's name on lists of this course: an HMAC of the id with the course's secret.

    Without the secret nobody can tell whose it is, not even by trying all ids.

    Example:
        >>> amy = pseudonym(Course("RL", "a secret of the teacher"), "amy")
        >>> amy == pseudonym(Course("RL", "a secret of the teacher"), "amy")
        True
        >>> amy == pseudonym(Course("RL", "another secret, longer"), "amy")
        False
    """
    told = "\0".join(["pseudonym", course.name, student]).encode()
    digest = hmac.new(course.secret.encode(), told, hashlib.sha256).digest()
    quality, animal = QUALITIES[digest[0] % 32], ANIMALS[digest[1] % 32]
    return f"{quality} {animal} {int.from_bytes(digest[2:10], 'big') % 10_000:04}"


def read_ids(path: str | Path) -> list[str]:
    """Read the ids of those who want to be on the list, one a line.

    Raises:
        AssignmentError: if the file can't be read or holds none.
    """
    try:
        ids = Path(path).read_text().split()
    except (OSError, ValueError) as error:
        raise AssignmentError(f"{path} can't be read; expected an id a line.") from error
    if not ids:
        raise AssignmentError(f"{path} holds no id; expected those who want to be listed.")
    return list(dict.fromkeys(ids))


def leaderboard(
    results: Sequence[Result], opted: Sequence[str], course: Course
) -> list[tuple[int, str, float]]:
    """Rank those who want to be ranked; equal points are an equal rank.

    Args:
        results: one assignment's.
        opted: ids of those who want to; nobody else appears, nor is counted.
        course: whose secret makes the names.

    Returns:
        Rank, pseudonym and points, the best first; equals in the order of their pseudonyms.

    Raises:
        AssignmentError: if an id handed nothing in.
    """
    points = {result["student"]: float(result["points"]) for result in results}
    unknown = sorted(set(opted) - set(points))
    if unknown:
        raise AssignmentError(f"no results of {unknown}; expected ids that handed something in.")
    scores = [points[one] for one in opted]
    rows = sorted((-points[one], pseudonym(course, one)) for one in opted)
    return [(1 + sum(one > -minus for one in scores), name, -minus) for minus, name in rows]


def markdown(rows: Sequence[tuple[int, str, float]]) -> str:
    """Write a list as a table.

    Example:
        >>> print(markdown([(1, "quiet otter 0042", 9.5)]))
        | rank | name | points |
        | ---: | --- | ---: |
        | 1 | quiet otter 0042 | 9.5 |
        <BLANKLINE>
    """
    lines = ["| rank | name | points |", "| ---: | --- | ---: |"]
    lines += [f"| {rank} | {name} | {points:g} |" for rank, name, points in rows]
    return "\n".join(lines) + "\n"
