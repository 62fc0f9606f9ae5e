"""Agents: an algorithm a file, in the order of its paper's pseudocode.

What all share is in `agent.py`, their formulas in `functional.py`, their networks in `networks/`.
"""

from lightning_rl.agents.dqn import DQNAgent, DQNConfig
from lightning_rl.agents.ppo import PPOAgent, PPOConfig
from lightning_rl.agents.reinforce import ReinforceAgent, ReinforceConfig
from lightning_rl.agents.replay_agent import (
    ReplayAgentModule,
    ReplayConfig,
    make_target,
    move_target,
)
from lightning_rl.agents.sac import SACAgent, SACConfig

__all__ = [
    "DQNAgent",
    "DQNConfig",
    "PPOAgent",
    "PPOConfig",
    "ReinforceAgent",
    "ReinforceConfig",
    "ReplayAgentModule",
    "ReplayConfig",
    "SACAgent",
    "SACConfig",
    "make_target",
    "move_target",
]
