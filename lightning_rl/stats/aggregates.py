"""What several runs say together: the interquartile mean, with an interval around it.

Both are defined as in rliable: Agarwal, Schwarzer, Castro, Courville, Bellemare 2021, "Deep
reinforcement learning at the edge of the statistical precipice", https://arxiv.org/abs/2108.13264.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
CHUNK = 100  # resamples at a time: little memory


def interquartile_mean(scores: Array, axis: int = 0) -> Array:
    """Average the middle half of the scores, in which outliers count for little.

    A quarter of the scores is cut off at either end, rounded down, so that fewer than four are
    simply averaged.

    Args:
        scores: (..., R, ...) of R runs.
        axis: of the runs.

    Returns:
        The means, without that axis.

    Example:
        >>> float(interquartile_mean(np.array([0.0, 10.0, 20.0, 1000.0])))
        15.0
    """
    ordered = np.sort(np.asarray(scores, dtype=np.float64), axis=axis)
    count = ordered.shape[axis]
    cut = count // 4
    means: Array = ordered.take(range(cut, count - cut), axis=axis).mean(axis=axis)
    return means


def bootstrap_interval(
    strata: Sequence[Array], confidence: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[Array, Array]:
    """Say between which values the interquartile mean of all runs would be, had others been made.

    Runs are drawn anew with replacement, within each stratum (an environment) apart, and the
    percentiles of the interquartile means of what was drawn are the interval's ends.

    Args:
        strata: of each environment the scores of its runs, (R,), or curves, (R, P); R may differ.
        confidence: the part of the resamples that is within.
        resamples: how often runs are drawn.
        seed: of the drawing.

    Returns:
        The low and the high ends: numbers, or (P,).

    Example:
        >>> low, high = bootstrap_interval([np.array([1.0, 2.0, 3.0, 4.0, 5.0])])
        >>> bool(1.0 <= low < 3.0 < high <= 5.0)
        True
    """
    generator = np.random.default_rng(seed)
    means = []
    for start in range(0, resamples, CHUNK):
        count = min(CHUNK, resamples - start)
        drawn = [
            np.asarray(scores)[generator.integers(len(scores), size=(count, len(scores)))]
            for scores in strata
        ]
        means.append(interquartile_mean(np.concatenate(drawn, axis=1), axis=1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(np.concatenate(means), (tail, 1 - tail), axis=0)
    return low, high
