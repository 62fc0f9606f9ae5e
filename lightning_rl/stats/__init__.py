"""What is counted while an agent is trained: episodes, scalars, running moments.

How it is drawn is in `notebook/` and `callbacks/`.
"""

from lightning_rl.stats.aggregates import bootstrap_interval, interquartile_mean
from lightning_rl.stats.history import EpisodeHistory
from lightning_rl.stats.metrics import IterationMetrics
from lightning_rl.stats.normalization import (
    ObservationNormalizer,
    RewardScaler,
    RunningMoments,
)

__all__ = [
    "EpisodeHistory",
    "IterationMetrics",
    "ObservationNormalizer",
    "RewardScaler",
    "RunningMoments",
    "bootstrap_interval",
    "interquartile_mean",
]
