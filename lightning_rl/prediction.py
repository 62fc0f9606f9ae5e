"""From an environment's raw observation to the action it takes: playing without a trainer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from numpy.typing import NDArray

from lightning_rl.buffers.arrays import allocate, to_array, write
from lightning_rl.envs.runner import to_env_actions
from lightning_rl.envs.tuples import by_name
from lightning_rl.errors import ShapeError
from lightning_rl.threads import torch_threads


@torch.no_grad()
def predict_action(agent: Any, observation: Any, deterministic: bool) -> NDArray[Any]:
    """Choose what an environment shall be given, as `LightningAgentModule.predict` says."""
    agent.check_bound()
    observation = by_name(observation) if isinstance(observation, tuple) else observation
    leading = leading_shape(observation, agent.observation_space)
    if not leading:
        observation = _expanded(observation)
    inputs = allocate(agent.input_space, *(leading or (1,)))
    with playing(agent), torch_threads(agent.torch_threads):
        write(inputs, slice(None), agent.prepare(observation))
        actions, _ = agent.act(agent.as_input(inputs), deterministic)
    chosen = to_env_actions(to_array(actions), agent.action_space)
    return chosen if leading else chosen[0]


def leading_shape(observation: Any, space: Space) -> tuple[int, ...]:
    """Give () for one observation of a space, or (N,) for a batch of them.

    Raises:
        ShapeError: if it is neither, in any of a Dict's entries.
    """
    parts = space.spaces if isinstance(space, spaces.Dict) else {"": space}
    given = observation if isinstance(space, spaces.Dict) else {"": observation}
    if not isinstance(given, dict) or set(given) != set(parts):
        raise ShapeError(f"got an observation of {_described(observation)}; expected {space}.")
    found = set()
    for key, part in parts.items():
        shape, expected = np.shape(given[key]), part.shape or ()
        count = len(shape) - len(expected)
        if shape[count:] != expected or count not in (0, 1):
            raise ShapeError(
                f"got an observation of {_described(observation)}; expected one of {space}, or a "
                "batch of them, with one axis more."
            )
        found.add(shape[:count])
    if len(found) != 1 or found == {(0,)}:
        raise ShapeError(f"got parts of {_described(observation)}; expected as many of each, ≥ 1.")
    return found.pop()


def _described(observation: Any) -> str:
    if not isinstance(observation, dict):
        return f"shape {np.shape(observation)}"
    return f"shapes { {key: np.shape(part) for key, part in observation.items()} }"


def _expanded(observation: Any) -> Any:
    """Make one observation a batch of one."""
    if isinstance(observation, dict):
        return {key: np.asarray(part)[None] for key, part in observation.items()}
    return np.asarray(observation)[None]


@contextmanager
def playing(agent: Any) -> Iterator[None]:
    """Put an agent that is training into evaluation mode; then put every part back."""
    if not agent.training:
        yield
        return
    modes = [(module, module.training) for module in agent.modules()]
    agent.eval()
    try:
        yield
    finally:
        for module, was_training in modes:  # a part may be frozen in evaluation mode
            module.training = was_training
