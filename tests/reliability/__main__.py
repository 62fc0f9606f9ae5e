"""Measure the goals of reliability and print their table: `python -m tests.reliability`.

Each goal has checks of its own, which measure, or tests of the suite, which are run and counted.
`--short`, as CI runs it, takes the checks alone, with fewer cases: the suite is run there anyway.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
import time
import traceback
import warnings

import torch

from tests.reliability import files, formulas, running, safety, values
from tests.reliability.goals import GOALS, Check, Checks, Figure
from tests.reliability.proofs import prove

CHECKS: Checks = [*formulas.CHECKS, *running.CHECKS, *values.CHECKS, *files.CHECKS, *safety.CHECKS]


def measured(check: Check, short: bool) -> Figure | None:
    """Run a check without its output; an error of its own is a figure that does not hold."""
    begun, said = time.monotonic(), io.StringIO()
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            figure = check(short)
    except Exception as error:
        traceback.print_exc()
        figure = Figure(f"{check.__name__} raised {type(error).__name__}", False)
    print(f"{check.__name__}: {time.monotonic() - begun:.1f} s", file=sys.stderr)
    return figure


def main() -> int:
    """Measure, print, and say by the exit status whether all that was measured holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer cases, as CI runs them")
    parser.add_argument("--goals", type=int, nargs="*", default=list(GOALS), help="their numbers")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("lightning.pytorch", "lightning.fabric", "lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    asked = [(goal, check) for goal, check in CHECKS if goal in options.goals]
    given = [(goal, measured(check, options.short)) for goal, check in asked]
    figures = [(goal, figure) for goal, figure in given if figure is not None]
    figures += [] if options.short else prove(options.goals)
    print("| # | goal | figure | holds |\n| --- | --- | --- | --- |")
    for goal in options.goals:
        of_goal = [figure for number, figure in figures if number == goal]
        holds = all(figure.holds for figure in of_goal)
        answer = ("yes" if holds else "NO") if of_goal else "-"
        words = "; ".join(figure.words for figure in of_goal) or "not measured in this form"
        print(f"| {goal} | {GOALS[goal]} | {words} | {answer} |")
    return 0 if all(figure.holds for _, figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
