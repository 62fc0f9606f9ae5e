"""Many runs: seeds side by side in processes of their own, and the phases of one experiment.

One run is `trainer.py`; how several are drawn is in `notebook/`.
"""

from lightning_rl.experiments.media import log_media
from lightning_rl.experiments.phases import PhaseLog, PhaseLogger, log_episodes
from lightning_rl.experiments.seeds import SeedRun, SeedRuns, fit_seeds

__all__ = [
    "PhaseLog",
    "PhaseLogger",
    "SeedRun",
    "SeedRuns",
    "fit_seeds",
    "log_episodes",
    "log_media",
]
