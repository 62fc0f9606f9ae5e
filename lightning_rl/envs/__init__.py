"""Environments: what the user gave becomes a vector environment, which a runner steps.

What acts in them is in `agents/`; environments for tests are in `testing/`, dreams in `worlds/`.
"""

from lightning_rl.envs.runner import (
    EndedEpisodes,
    EnvRunner,
    ObservationArrays,
    VectorStep,
    to_env_actions,
)
from lightning_rl.envs.separate import make_separate_env
from lightning_rl.envs.vectorize import EnvLike, autoreset_mode, is_env, make_vector_env

__all__ = [
    "EndedEpisodes",
    "EnvLike",
    "EnvRunner",
    "ObservationArrays",
    "VectorStep",
    "autoreset_mode",
    "is_env",
    "make_separate_env",
    "make_vector_env",
    "to_env_actions",
]
