"""The rollout buffer: the last rollout, in preallocated arrays, time first."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from gymnasium import Space
from numpy.typing import NDArray
from torch import Tensor

from lightning_rl.buffers.arrays import (
    allocate,
    allocate_actions,
    check_finite,
    flatten_time,
    named_arrays,
    select,
    to_tensor,
    write,
)
from lightning_rl.envs.runner import ObservationArrays, VectorStep
from lightning_rl.errors import ConfigError, ShapeError, StateError
from lightning_rl.settings import count

OWN_FIELDS = ("observations", "actions", "rewards", "terminated", "truncated", "valid")


class RolloutBuffer:
    """One rollout of T steps of N sub-environments, overwritten by the next.

    `observations` has T + 1 rows: row t + 1 is what step t led to, so that in NEXT_STEP mode the
    value of the next state is simply the value of the next row. What `act` asked to remember is
    allocated when it first comes.

    Args:
        num_steps: T, rows for each sub-environment.
        num_envs: N, sub-environments.
        observation_space: of one sub-environment.
        action_space: of one sub-environment.

    Attributes:
        valid: (T, N) bool, False for reset rows.
        remembered: name -> (T, N, ...) array, what `act` returned beside the actions.

    Raises:
        ConfigError: if T or N is below 1.

    Example:
        >>> from gymnasium import spaces
        >>> buffer = RolloutBuffer(128, 8, spaces.Box(-1, 1, (4,)), spaces.Discrete(2))
        >>> buffer.observations.shape, buffer.actions.shape
        ((129, 8, 4), (128, 8))
    """

    def __init__(
        self,
        num_steps: int,
        num_envs: int,
        observation_space: Space,
        action_space: Space,
    ) -> None:
        num_steps, num_envs = count("num_steps", num_steps), count("num_envs", num_envs)
        self.num_steps, self.num_envs = num_steps, num_envs
        self.observations = allocate(observation_space, num_steps + 1, num_envs)
        self.actions = allocate_actions(action_space, num_steps, num_envs)
        self.rewards = np.zeros((num_steps, num_envs), dtype=np.float32)
        self.terminated = np.zeros((num_steps, num_envs), dtype=np.bool_)
        self.truncated = np.zeros((num_steps, num_envs), dtype=np.bool_)
        self.valid = np.zeros((num_steps, num_envs), dtype=np.bool_)
        self.remembered: dict[str, NDArray[Any]] = {}
        self.final_observations: dict[tuple[int, int], Any] = {}
        self.size = 0

    def start(self, observations: ObservationArrays) -> None:
        """Begin a rollout with these (N, ...) observations as its first; forget the last one."""
        write(self.observations, 0, observations)
        self.final_observations.clear()
        self.size = 0

    def add(self, actions: NDArray[Any], remembered: dict[str, Tensor], step: VectorStep) -> None:
        """Append one step of every sub-environment.

        Args:
            actions: (N, ...) as the policy chose them.
            remembered: name -> (N, ...), what `act` wants back in its minibatches.
            step: what the environment answered, its observations prepared for the policy.

        Raises:
            StateError: if T steps are held already.
            ShapeError: if something to remember has another first axis than N.
            ConfigError: if it has the name of one of the buffer's own fields.
        """
        t = self.size
        if t == self.num_steps:
            raise StateError(f"the rollout holds its {t} steps already; call `start` for the next.")
        self.actions[t] = actions
        self.rewards[t] = step.rewards
        self.terminated[t] = step.terminated
        self.truncated[t] = step.truncated
        self.valid[t] = step.valid
        write(self.observations, t + 1, step.observations)
        for name, values in remembered.items():
            self._remember(name, t, values.detach().cpu())
        for env_index, observation in step.final_observations.items():
            self.final_observations[t, env_index] = observation
        self.size = t + 1

    def _remember(self, name: str, t: int, values: Tensor) -> None:
        array = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
        if name not in self.remembered:
            if name in OWN_FIELDS:
                raise ConfigError(f"act remembers {name!r}, which the buffer fills; rename it.")
            shape = (self.num_envs, *array.shape[1:])
            self.remembered[name] = np.zeros((self.num_steps, *shape), dtype=array.dtype)
        target = self.remembered[name]
        if array.shape != target.shape[1:]:
            raise ShapeError(
                f"act remembers {name!r} of shape {array.shape}; expected {target.shape[1:]}, a "
                "row for each sub-environment."
            )
        target[t] = array

    def check_finite(self) -> None:
        """Check every reward and observation of the rollout.

        Raises:
            NonFiniteError: naming the first sub-environment and step (from 1) with a NaN or inf.
        """
        check_finite("rewards", self.rewards[: self.size], first_step=1)
        for name, values in named_arrays(self.observations).items():  # row t is step t's result
            check_finite(name, values[: self.size + 1], first_step=0)
        for (t, env_index), observation in self.final_observations.items():
            for name, values in named_arrays(observation).items():
                check_finite(name, np.asarray(values)[None, None], t + 1, env_index)

    def tensors(self, device: torch.device | str = "cpu") -> dict[str, Any]:
        """Give the rows filled so far as tensors, (T, N, ...), observations (T + 1, N, ...).

        They are views on the CPU and copies elsewhere.
        """
        fields = {
            "actions": self.actions,
            "rewards": self.rewards,
            "terminated": self.terminated,
            "truncated": self.truncated,
            "valid": self.valid,
            **self.remembered,
        }
        filled = {name: values[: self.size] for name, values in fields.items()}
        filled["observations"] = select(self.observations, slice(self.size + 1))
        return {name: to_tensor(values, device) for name, values in filled.items()}

    def rows(self, device: torch.device | str = "cpu") -> dict[str, Any]:
        """Give all fields as one batch, (T*N, ...), without the last observations."""
        fields = self.tensors(device)
        fields["observations"] = select(fields["observations"], slice(self.size))
        return {name: flatten_time(values) for name, values in fields.items()}

    def next_rows(self, device: torch.device | str = "cpu") -> Any:
        """Give what each of `rows` led to, (T*N, ...): of a reset row, a first observation."""
        following = select(self.observations, slice(1, self.size + 1))
        if self.final_observations:  # kept apart, as the next episode has begun in their place
            following = copy.deepcopy(following)
        for index, last in self.final_observations.items():
            write(following, index, last)
        return flatten_time(to_tensor(following, device))
