"""A dream that is dreamt where the agent is: on a GPU, a rollout at a time."""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor

from lightning_rl.buffers.arrays import to_array
from lightning_rl.envs.runner import to_env_actions
from lightning_rl.errors import ConfigError
from lightning_rl.policy import check_acted
from lightning_rl.worlds.dream_env import Array, DreamEnv, outside
from lightning_rl.worlds.dynamics import EnsembleNetwork


class Dreams(NamedTuple):
    """N dreams at one moment, or T of them, time first, on one device."""

    observations: Tensor  # (..., N, D)
    rewards: Tensor  # (..., N) of the step that led there
    terminated: Tensor  # (..., N)
    truncated: Tensor  # (..., N)
    members: Tensor  # (..., N) in whose world each happens
    elapsed: Tensor  # (..., N) env steps of each


class DreamOnDevice(DreamEnv):
    """A `DreamEnv` for thousands of dreams: a rollout is dreamt on the agent's device.

    While an agent that collects rollouts is trained (PPO, REINFORCE), no step comes to the
    main memory before all of the rollout's steps are done; then all comes at once, to where every
    agent's buffer and episodes are. The dream's random numbers are drawn beforehand. A model on
    another device is copied to the agent's for each rollout. Elsewhere (`evaluate`, a replay agent)
    it is a DreamEnv.

    A rollout should have several steps of all dreams: `PPOConfig(rollout_steps=16 * num_envs)`.

    Args:
        model, starts, num_envs, horizon, known_range, disagreement_penalty: as `DreamEnv` takes
            them.

    Raises:
        ConfigError: when an agent that normalises observations is trained, as their statistics
            are in the main memory.

    Example:
        >>> from gymnasium import spaces
        >>> from lightning_rl import AgentTrainer, PPOAgent, WorldModel
        >>> model = WorldModel()  # doctest: +SKIP
        >>> dream = DreamOnDevice(model, dataset, num_envs=4096)  # doctest: +SKIP
        >>> agent = PPOAgent(config={"rollout_steps": 65_536, "batch_size": 8192})
        >>> AgentTrainer(accelerator="gpu").fit(agent, dream)  # doctest: +SKIP
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._foreseen: tuple[Array, Array, Array, Array] | None = None  # the next step returns it

    def roll_out(self, agent: Any, total_step: int) -> None:
        """Fill an agent's buffer with its next rollout, as `LightningAgentModule.rollout` does.

        Args:
            agent: whose `act` answers the observations.
            total_step: rows to collect, over all dreams (rounded up to full steps).
        """
        if agent.observation_normalizer is not None:
            raise ConfigError(
                "normalize_observations=True in a DreamOnDevice; expected False, as their "
                "statistics are in the main memory. Set it, or dream in a DreamEnv."
            )
        num_steps = math.ceil(total_step / self.num_envs)
        dreams, actions, remembered = self.dream(agent, num_steps)
        arrays = [to_array(values) for values in dreams]
        observations, rewards, terminated, truncated, members, elapsed = arrays
        chosen = to_array(actions)
        remembered = {name: values.cpu() for name, values in remembered.items()}
        for t in range(num_steps):
            self._foreseen = observations[t], rewards[t], terminated[t], truncated[t]
            step = agent.runner.step(to_env_actions(chosen[t], self.single_action_space))
            kept = {name: values[t] for name, values in remembered.items()}
            agent.replay_buffer.add(chosen[t], kept, step)
        self._observations, self._ended = observations[-1].copy(), terminated[-1] | truncated[-1]
        self._members, self._elapsed = members[-1].copy(), elapsed[-1].copy()

    def step(self, actions: Any) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Give the step that was dreamt already, or dream one."""
        if self._foreseen is None:
            return super().step(actions)
        foreseen, self._foreseen = self._foreseen, None
        observations, rewards, terminated, truncated = foreseen
        return observations, rewards.astype(np.float64), terminated, truncated, {}

    @torch.no_grad()
    def dream(self, agent: Any, num_steps: int) -> tuple[Dreams, Tensor, dict[str, Tensor]]:
        """Dream T steps on the agent's device; nothing of them is looked at.

        Returns:
            The dreams after each step, (T, N, ...); the actions, (T, N, ...), as the policy drew
            them; and what it remembered, name -> (T, N, ...).
        """
        device = agent.device
        network = self._network_on(device)
        noise, first, members = (part.to(device) for part in self._draw(num_steps))
        low, high = (torch.from_numpy(bound).to(device) for bound in self._known)
        now, steps = self._now(device), []
        for t in range(num_steps):
            acted = check_acted(agent.act(agent.as_input(now.observations)))
            taken = self._taken(acted[0])
            sampled = self._sample(network, now.observations, taken, now.members, noise[t])
            if self.known_range is not None:
                sampled = self._leave(*sampled, now.elapsed, (low, high), network.lowest_reward)
            now = self._after(now, sampled, first[t], members[t])
            steps.append((now, *acted))
        after, actions, remembered = zip(*steps, strict=True)
        joined = {name: torch.stack([kept[name] for kept in remembered]) for name in remembered[0]}
        dreams = Dreams(*(torch.stack(values) for values in zip(*after, strict=True)))
        return dreams, torch.stack(actions), joined

    def _network_on(self, device: torch.device) -> EnsembleNetwork:
        network: EnsembleNetwork = self.network
        return network if network.lowest.device == device else copy.deepcopy(network).to(device)

    def _draw(self, num_steps: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw what T steps take: noise, and where and whose a new dream would be, (T, N, ...)."""
        size = (num_steps, self.num_envs)
        noise = self.np_random.standard_normal((*size, self.network.num_observed + 1), np.float32)
        first = self.starts[self.np_random.integers(len(self.starts), size=size)]
        members = self.np_random.integers(self.network.num_members, size=size)
        return torch.from_numpy(noise), torch.from_numpy(first), torch.from_numpy(members)

    def _now(self, device: torch.device) -> Dreams:
        """Put the dreams, as the last step left them, on a device."""
        ended: Any = self._ended
        arrays = (
            self._observations, np.zeros(self.num_envs, np.float32), ended, np.zeros_like(ended),
            self._members, self._elapsed,
        )  # fmt: skip
        return Dreams(*(torch.from_numpy(array).to(device) for array in arrays))

    def _taken(self, actions: Tensor) -> Tensor:
        """Give what an environment takes for a policy's actions, as `to_env_actions` does."""
        space = self.single_action_space
        if isinstance(space, spaces.Box):
            low, high = (torch.from_numpy(b).to(actions) for b in (space.low, space.high))
            taken = actions.clamp(low, high)
            return taken.round() if space.dtype.kind in "iu" else taken
        return actions + int(space.start)

    def _leave(
        self,
        observations: Tensor,
        rewards: Tensor,
        terminated: Tensor,
        elapsed: Tensor,
        known: tuple[Tensor, Tensor],
        lowest_reward: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """End the dreams that leave what is known, so that it never pays."""
        unknown = outside(observations, known) & ~terminated
        worst = lowest_reward.clamp(max=0.0) * (self.horizon - elapsed - 1)
        rewards = torch.where(unknown, rewards + worst, rewards)
        return observations, rewards, terminated | unknown

    def _after(
        self, before: Dreams, sampled: tuple[Tensor, Tensor, Tensor], first: Tensor, members: Tensor
    ) -> Dreams:
        """Give the dreams after a step; one that had ended starts anew."""
        began = before.terminated | before.truncated
        following, rewards, terminated = sampled
        space, elapsed = self.single_observation_space, before.elapsed + 1
        following = following.to(before.observations)
        low, high = (torch.from_numpy(bound).to(following) for bound in (space.low, space.high))
        return Dreams(
            torch.where(began.unsqueeze(-1), first, following.clamp(low, high)),
            torch.where(began, 0.0, rewards.float()),
            terminated & ~began,
            (elapsed >= self.horizon) & ~began,
            torch.where(began, members, before.members),
            torch.where(began, 0, elapsed),
        )
