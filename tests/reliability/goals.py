"""The goals of reliability: what each promises, and what a check of it gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

GOALS = {
    1: "exact resume at iteration boundaries",
    2: "random numbers are restored late enough",
    3: "a resume that can't be exact says so",
    4: "same seed, same run",
    5: "no hidden global state",
    6: "GAE and returns are right",
    7: "identities of the formulas",
    8: "agrees with others",
    9: "truncation is no termination",
    10: "no fake transitions",
    11: "buffers lose nothing",
    12: "shape errors are loud",
    13: "NaN and infinity are caught at their source",
    14: "environments that raise, die or hang",
    15: "Ctrl-C ends at a boundary, saved; exit 130",
    16: "SIGTERM saves; exit 143",
    17: "SIGKILL while saving",
    18: "disk full, read-only folder",
    19: "every damage is found",
    20: "falls back to the last good file",
    21: "flat memory",
    22: "all is closed and put back",
    23: "no code from data",
    24: "safe by construction",
    25: "safe versions",
    26: "bounded inputs",
    27: "private by default",
}


@dataclass(frozen=True)
class Figure:
    """What one check has measured; a goal holds if all of its figures do.

    Args:
        words: such as "0 of 1,000 flips silent".
        holds: whether that is what the goal promises.
    """

    words: str
    holds: bool


# A check is told whether to take its short form, which CI runs: fewer cases, a second or two. It
# gives None where it has none.
Check = Callable[[bool], Figure | None]
Checks = list[tuple[int, Check]]  # each with the goal it measures
