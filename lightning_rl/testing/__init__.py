"""For tests of agents: environments whose answer is known, and a check of the contract.

The package's own tests are in the repository's `tests/`.
"""

from lightning_rl.testing.check_agent import check_agent
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
]
