"""Learn, teach and do reinforcement learning with Lightning: `trainer.fit(agent, env)`."""

from importlib.metadata import version

from lightning_rl.agent import LightningAgentModule
from lightning_rl.agents.dqn import DQNAgent, DQNConfig
from lightning_rl.agents.ppo import PPOAgent, PPOConfig
from lightning_rl.agents.reinforce import ReinforceAgent, ReinforceConfig
from lightning_rl.agents.sac import SACAgent, SACConfig
from lightning_rl.buffers import RolloutBuffer
from lightning_rl.callbacks import EnvStepProgressBar
from lightning_rl.controls import fit_in_background
from lightning_rl.doctor import Doctor
from lightning_rl.dream import DreamEnv, learn_in_dream
from lightning_rl.history import EpisodeHistory
from lightning_rl.live import LiveReturns
from lightning_rl.loader import EnvDataLoader, EvaluationResult, evaluate
from lightning_rl.networks import ActorCriticNetwork
from lightning_rl.player import EpisodePlayer
from lightning_rl.plotting import plot_returns
from lightning_rl.recording import record_episode
from lightning_rl.replay import ReplayBuffer
from lightning_rl.trainer import AgentTrainer
from lightning_rl.trajectories import TrajectoryDataset, make_random_trajectory, make_trajectory
from lightning_rl.world_model import WorldModel

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
