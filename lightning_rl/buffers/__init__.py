"""Buffers: what an agent learns from, in preallocated arrays, time first.

Trajectories that outlive their agent, on disk, are in `trajectories/`.
"""

from lightning_rl.buffers.arrays import allocate, flatten_time, select, to_array, to_tensor, write
from lightning_rl.buffers.prioritized import PrioritizedReplayBuffer, SumTree
from lightning_rl.buffers.replay import ReplayBuffer
from lightning_rl.buffers.rollout import RolloutBuffer

__all__ = [
    "PrioritizedReplayBuffer",
    "ReplayBuffer",
    "RolloutBuffer",
    "SumTree",
    "allocate",
    "flatten_time",
    "select",
    "to_array",
    "to_tensor",
    "write",
]
