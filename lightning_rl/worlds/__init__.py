"""World models: learned from stored steps, dreamt in, acted in.

The steps are stored by `trajectories/`; the agents that dream are those of `agents/`.
"""

from lightning_rl.worlds.chain import (
    DreamConfig,
    DreamResult,
    learn_in_dream,
    train_in_dream,
    train_world_model,
)
from lightning_rl.worlds.dream_env import DreamEnv, visited_states
from lightning_rl.worlds.dynamics import EnsembleNetwork, Outcome
from lightning_rl.worlds.horizon import HorizonErrors, horizon_errors
from lightning_rl.worlds.plots import plot_horizon_errors, plot_predictions
from lightning_rl.worlds.world_model import (
    Prediction,
    WorldModel,
    WorldModelConfig,
    predict_windows,
)

__all__ = [
    "DreamConfig",
    "DreamEnv",
    "DreamResult",
    "EnsembleNetwork",
    "HorizonErrors",
    "Outcome",
    "Prediction",
    "WorldModel",
    "WorldModelConfig",
    "horizon_errors",
    "learn_in_dream",
    "plot_horizon_errors",
    "plot_predictions",
    "predict_windows",
    "train_in_dream",
    "train_world_model",
    "visited_states",
]
