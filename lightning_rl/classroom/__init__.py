"""Assignments that grade themselves: questions and verdicts in a notebook, grades for a class.

The problem sets are in the repository's `tutorials/assignments/`; formulas are in `functional`.
"""

from lightning_rl.classroom.expectations import MismatchError, expect
from lightning_rl.classroom.policies import Perceptron, policy_text, read_policy
from lightning_rl.classroom.questions import begin, case, training
from lightning_rl.classroom.variants import Variant
from lightning_rl.classroom.verdicts import check

__all__ = [
    "MismatchError",
    "Perceptron",
    "Variant",
    "begin",
    "case",
    "check",
    "expect",
    "policy_text",
    "read_policy",
    "training",
]
