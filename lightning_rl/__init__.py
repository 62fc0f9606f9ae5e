"""Learn, teach and do reinforcement learning with Lightning: `trainer.fit(agent, env)`."""

from importlib.metadata import version

from lightning_rl.agent import LightningAgentModule
from lightning_rl.agents.dqn import DQNAgent, DQNConfig
from lightning_rl.agents.ppo import PPOAgent, PPOConfig
from lightning_rl.agents.reinforce import ReinforceAgent, ReinforceConfig
from lightning_rl.agents.sac import SACAgent, SACConfig
from lightning_rl.buffers import RolloutBuffer
from lightning_rl.callbacks import EnvStepProgressBar
from lightning_rl.history import EpisodeHistory
from lightning_rl.plotting import plot_returns
from lightning_rl.loader import EnvDataLoader, EvaluationResult, evaluate
from lightning_rl.networks import ActorCriticNetwork
from lightning_rl.replay import ReplayBuffer
from lightning_rl.trainer import AgentTrainer

__version__ = version("lightning_rl")

__all__ = [
    "ActorCriticNetwork",
    "AgentTrainer",
    "DQNAgent",
    "DQNConfig",
    "EnvDataLoader",
    "EnvStepProgressBar",
    "EpisodeHistory",
    "EvaluationResult",
    "LightningAgentModule",
    "PPOAgent",
    "PPOConfig",
    "ReinforceAgent",
    "ReinforceConfig",
    "ReplayBuffer",
    "RolloutBuffer",
    "SACAgent",
    "SACConfig",
    "evaluate",
    "plot_returns",
]
