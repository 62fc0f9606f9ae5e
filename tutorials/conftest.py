"""Run the notebooks in their fast form when they are tests.

`LIGHTNING_RL_FAST= python -m pytest tutorials` runs them in full instead.
"""

import os

# Kernels inherit these; nothing in the package reads the first.
os.environ.setdefault("LIGHTNING_RL_FAST", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
