"""Learn, teach and do reinforcement learning with Lightning: `trainer.fit(agent, env)`."""

from importlib.metadata import version

from lightning_rl.agent import LightningAgentModule
from lightning_rl.agents import (
    DQNAgent,
    DQNConfig,
    PPOAgent,
    PPOConfig,
    ReinforceAgent,
    ReinforceConfig,
    SACAgent,
    SACConfig,
)
from lightning_rl.buffers import ReplayBuffer, RolloutBuffer
from lightning_rl.callbacks import Doctor, EnvStepProgressBar, LiveReturns
from lightning_rl.evaluation import EvaluationResult, evaluate
from lightning_rl.loader import EnvDataLoader
from lightning_rl.networks import ActorCriticNetwork
from lightning_rl.notebook import EpisodePlayer, fit_in_background, plot_returns, record_episode
from lightning_rl.stats import EpisodeHistory
from lightning_rl.trainer import AgentTrainer
from lightning_rl.trajectories import TrajectoryDataset, make_random_trajectory, make_trajectory
from lightning_rl.worlds import DreamEnv, WorldModel, learn_in_dream

__version__ = version("lightning_rl")

__all__ = [
    "ActorCriticNetwork",
    "AgentTrainer",
    "DQNAgent",
    "DQNConfig",
    "Doctor",
    "DreamEnv",
    "EnvDataLoader",
    "EnvStepProgressBar",
    "EpisodeHistory",
    "EpisodePlayer",
    "EvaluationResult",
    "LightningAgentModule",
    "LiveReturns",
    "PPOAgent",
    "PPOConfig",
    "ReinforceAgent",
    "ReinforceConfig",
    "ReplayBuffer",
    "RolloutBuffer",
    "SACAgent",
    "SACConfig",
    "TrajectoryDataset",
    "WorldModel",
    "evaluate",
    "fit_in_background",
    "learn_in_dream",
    "make_random_trajectory",
    "make_trajectory",
    "plot_returns",
    "record_episode",
]
