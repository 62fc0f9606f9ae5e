"""Buffers: the transitions an agent learns from, in preallocated arrays, time first."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from numpy.typing import NDArray
from torch import Tensor

from lightning_rl.envs import Observation, Step
from lightning_rl.errors import ConfigError, NonFiniteError, StateError


def allocate(space: Space, *leading: int) -> Any:
    """Allocate zeros for (*leading) observations or actions of one space; float64 becomes float32.

    Example:
        >>> allocate(spaces.Box(-1, 1, (4,)), 128, 8).shape
        (128, 8, 4)
    """
    if isinstance(space, spaces.Dict):
        return {key: allocate(part, *leading) for key, part in space.items()}
    dtype = np.float32 if space.dtype is not None and space.dtype.kind == "f" else space.dtype
    return np.zeros((*leading, *(space.shape or ())), dtype=dtype)


def write(target: Any, index: Any, values: Any) -> None:
    """Copy values into `target[index]`, entry by entry where they are dicts."""
    if isinstance(target, dict):
        for key, part in target.items():
            write(part, index, values[key])
    else:
        target[index] = values


def to_tensor(values: Any, device: torch.device | str = "cpu") -> Any:
    """View arrays as tensors (no copy on the CPU), entry by entry where they are dicts."""
    if isinstance(values, dict):
        return {key: to_tensor(part, device) for key, part in values.items()}
    return torch.as_tensor(values).to(device)


def flatten_time(values: Any) -> Any:
    """Join the time and environment axes, (T, N, ...) -> (T*N, ...), also within dicts."""
    if isinstance(values, dict):
        return {key: flatten_time(part) for key, part in values.items()}
    return values.flatten(0, 1)


def select(values: Any, rows: Any) -> Any:
    """Index the first axis, also within dicts."""
    if isinstance(values, dict):
        return {key: select(part, rows) for key, part in values.items()}
    return values[rows]


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
        if num_steps < 1 or num_envs < 1:
            raise ConfigError(f"num_steps={num_steps}, num_envs={num_envs}; expected at least 1.")
        self.num_steps, self.num_envs = num_steps, num_envs
        self.observations = allocate(observation_space, num_steps + 1, num_envs)
        self.actions = allocate(action_space, num_steps, num_envs)
        self.rewards = np.zeros((num_steps, num_envs), dtype=np.float32)
        self.terminated = np.zeros((num_steps, num_envs), dtype=np.bool_)
        self.truncated = np.zeros((num_steps, num_envs), dtype=np.bool_)
        self.valid = np.zeros((num_steps, num_envs), dtype=np.bool_)
        self.remembered: dict[str, NDArray[Any]] = {}
        self.final_observations: dict[tuple[int, int], Any] = {}
        self.size = 0

    def start(self, observations: Observation) -> None:
        """Begin a rollout with these (N, ...) observations as its first; forget the last one."""
        write(self.observations, 0, observations)
        self.final_observations.clear()
        self.size = 0

    def add(self, actions: NDArray[Any], remembered: dict[str, Tensor], step: Step) -> None:
        """Append one step of every sub-environment.

        Args:
            actions: (N, ...) as the policy chose them.
            remembered: name -> (N, ...), what `act` wants back in its minibatches.
            step: what the environment answered, its observations prepared for the policy.

        Raises:
            StateError: if T steps are held already.
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
            self._remember(name, t, values.detach().cpu().numpy())
        for env_index, observation in step.final_observations.items():
            self.final_observations[t, env_index] = observation
        self.size = t + 1

    def _remember(self, name: str, t: int, values: NDArray[Any]) -> None:
        if name not in self.remembered:
            self.remembered[name] = np.zeros((self.num_steps, *values.shape), dtype=values.dtype)
        self.remembered[name][t] = values

    def check_finite(self) -> None:
        """Check every reward and observation of the rollout.

        Raises:
            NonFiniteError: naming the first sub-environment and step (from 1) with a NaN or inf.
        """
        single = not isinstance(self.observations, dict)
        named = {"observations": self.observations} if single else self.observations
        for name, field in {"rewards": self.rewards, **named}.items():
            values = field[: self.size if name == "rewards" else self.size + 1]
            if values.dtype.kind != "f" or np.isfinite(values.sum()):
                continue  # a sum is finite only if its parts are: one pass, no temporary array
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                t, env_index = int(bad[0][0]), int(bad[0][1])
                step = t + 1 if name == "rewards" else t  # observation row t is step t's result
                raise NonFiniteError(
                    f"sub-environment {env_index} returned {values[tuple(bad[0])]} in its {name} "
                    f"at step {step} of this rollout; expected finite numbers. The rollout was "
                    "not learned from. Check the environment's `step` (division by zero, overflow)."
                )

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
