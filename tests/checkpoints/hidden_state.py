"""State of an environment in a module of the user's own."""

import random

import numpy as np

DICE, COUNT = random.Random(3), 0  # noqa: S311
_RNG = np.random.default_rng(3)


def drawn() -> float:
    return float(_RNG.normal())
