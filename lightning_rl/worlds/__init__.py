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
from lightning_rl.worlds.dream_on_device import DreamOnDevice
from lightning_rl.worlds.dynamics import EnsembleNetwork, Outcome
from lightning_rl.worlds.eye import Eye, EyeConfig
from lightning_rl.worlds.film import DrawnDreamEnv, film_dream
from lightning_rl.worlds.horizon import HorizonErrors, horizon_errors
from lightning_rl.worlds.percepts import PerceivedEnv, perceive
from lightning_rl.worlds.picture_chain import (
    PictureDreamConfig,
    PictureDreamResult,
    learn_from_pictures,
    make_picture_dream,
    make_seen_trajectory,
    train_eye,
)
from lightning_rl.worlds.pictures import PictureEnv
from lightning_rl.worlds.plots import plot_horizon_errors, plot_predictions
from lightning_rl.worlds.probe import Probe, join_windows
from lightning_rl.worlds.recurrent_env import RecurrentDreamEnv, RememberedEnv
from lightning_rl.worlds.rssm import RecurrentConfig, RecurrentWorldModel
from lightning_rl.worlds.world_model import (
    Prediction,
    WorldModel,
    WorldModelConfig,
    predict_windows,
)

__all__ = [
    "DrawnDreamEnv",
    "DreamConfig",
    "DreamEnv",
    "DreamOnDevice",
    "DreamResult",
    "EnsembleNetwork",
    "Eye",
    "EyeConfig",
    "HorizonErrors",
    "Outcome",
    "PerceivedEnv",
    "PictureDreamConfig",
    "PictureDreamResult",
    "PictureEnv",
    "Prediction",
    "Probe",
    "RecurrentConfig",
    "RecurrentDreamEnv",
    "RecurrentWorldModel",
    "RememberedEnv",
    "WorldModel",
    "WorldModelConfig",
    "film_dream",
    "horizon_errors",
    "join_windows",
    "learn_from_pictures",
    "learn_in_dream",
    "make_picture_dream",
    "make_seen_trajectory",
    "perceive",
    "plot_horizon_errors",
    "plot_predictions",
    "predict_windows",
    "train_eye",
    "train_in_dream",
    "train_world_model",
    "visited_states",
]
