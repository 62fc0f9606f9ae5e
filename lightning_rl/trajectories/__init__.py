"""Env steps on disk: collected once, read by a DataLoader, exchanged with Minari.

What an agent learns from while it acts is in `buffers/`.
"""

from lightning_rl.trajectories.collect import make_random_trajectory, make_trajectory
from lightning_rl.trajectories.dataset import TrajectoryDataset
from lightning_rl.trajectories.minari import from_minari, to_minari

__all__ = [
    "TrajectoryDataset",
    "from_minari",
    "make_random_trajectory",
    "make_trajectory",
    "to_minari",
]
