"""Many runs: seeds side by side, sweeps of settings, the phases of an experiment, workers of Ray.

One run is `trainer.py`; how several are drawn is in `notebook/`.
"""

from lightning_rl.experiments.media import log_media
from lightning_rl.experiments.phases import PhaseLog, PhaseLogger, log_episodes
from lightning_rl.experiments.ray_train import RayReport, last_checkpoint
from lightning_rl.experiments.seeds import SeedRun, SeedRuns, fit_seeds
from lightning_rl.experiments.sweep import Sweep, SweepTrial, load_sweep, sweep

__all__ = [
    "PhaseLog",
    "PhaseLogger",
    "RayReport",
    "SeedRun",
    "SeedRuns",
    "Sweep",
    "SweepTrial",
    "fit_seeds",
    "last_checkpoint",
    "load_sweep",
    "log_episodes",
    "log_media",
    "sweep",
]
