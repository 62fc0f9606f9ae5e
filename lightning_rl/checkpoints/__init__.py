"""What a resumed run needs, as tensors and plain Python that load without unpickling.

When it is saved and restored is said in `agent.py`; weights and optimizers are Lightning's.
"""

from lightning_rl.checkpoints.agent_state import agent_state, load_agent_state, restore_run
from lightning_rl.checkpoints.config import config_from
from lightning_rl.checkpoints.env_state import env_state, load_env_state
from lightning_rl.checkpoints.plain_values import from_plain, to_plain
from lightning_rl.checkpoints.spaces import space_from_state, space_state

__all__ = [
    "agent_state",
    "config_from",
    "env_state",
    "from_plain",
    "load_agent_state",
    "load_env_state",
    "restore_run",
    "space_from_state",
    "space_state",
    "to_plain",
]
