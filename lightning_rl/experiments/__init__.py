"""Many runs: seeds side by side in processes of their own.

One run is `trainer.py`; how several are drawn is in `notebook/`.
"""

from lightning_rl.experiments.seeds import SeedRun, SeedRuns, fit_seeds

__all__ = ["SeedRun", "SeedRuns", "fit_seeds"]
