"""For tests of agents: environments whose answer is known, and checks of agents and environments.

The package's own tests are in the repository's `tests/`.
"""

from lightning_rl.testing.check_agent import check_agent
from lightning_rl.testing.check_env import check_env
from lightning_rl.testing.probe_envs import (
    ConstantRewardEnv,
    CountingEnv,
    DelayedRewardEnv,
    IdentityEnv,
    TwoStateEnv,
)

__all__ = [
    "ConstantRewardEnv",
    "CountingEnv",
    "DelayedRewardEnv",
    "IdentityEnv",
    "TwoStateEnv",
    "check_agent",
    "check_env",
]
