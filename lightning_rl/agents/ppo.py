"""Proximal policy optimization (PPO).

Schulman, Wolski, Dhariwal, Radford, Klimov 2017, "Proximal policy optimization algorithms",
https://arxiv.org/abs/1707.06347. An iteration, in the order of its Algorithm 1:

1. act for T steps in N environments                          `act`, called by `rollout`
2. compute advantages Â_1, ..., Â_T                           `compute_advantages`
3. optimise the surrogate L for K epochs of minibatches       `sample`, `training_step`
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from gymnasium import Space
from gymnasium.vector import VectorEnv
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from lightning_rl.agent import LightningAgentModule
from lightning_rl.buffers.arrays import allocate, flatten_time, select, write
from lightning_rl.checkpoints.config import config_from
from lightning_rl.errors import ConfigError
from lightning_rl.functional import (
    approx_kl,
    clip_fraction,
    explained_variance,
    gae,
    normalize,
    ppo_policy_loss,
    ppo_value_loss,
)
from lightning_rl.networks.actor_critic import ActorCriticNetwork, check_actor_critic_outputs
from lightning_rl.networks.distributions import ActionDistribution, action_distribution
from lightning_rl.settings import Settings
from lightning_rl.stats.normalization import ObservationNormalizer, RewardScaler, RunningMoments
from lightning_rl.updates import can_fuse


@dataclass(frozen=True)
class PPOConfig(Settings):
    """PPO's settings. The defaults solve CartPole-v1 within 65,536 env steps."""

    rollout_steps: int = 2048  # rows of a rollout, over all sub-environments
    batch_size: int = 512  # rows of a minibatch
    update_epochs: int = 6  # passes over a rollout
    learning_rate: float = 5e-3  # high, because it is annealed
    gamma: float = 0.98  # discount factor
    gae_lambda: float = 0.95  # 0: one-step TD error, 1: Monte Carlo
    clip_range: float = 0.2  # ε of eq. 7
    value_clip_range: float | None = None  # None: the value loss is not clipped
    value_coef: float = 0.5  # c1 of eq. 9
    entropy_coef: float = 0.0  # c2 of eq. 9
    max_grad_norm: float = 0.5  # used where the trainer has no gradient_clip_val
    target_kl: float | None = None  # stop an iteration's updates above 1.5 times this
    anneal_learning_rate: bool = True  # linearly, to 0 at the end of the budget
    anneal_clip_range: bool = True
    normalize_advantages: bool = True  # within each minibatch of each process
    normalize_whole_rollout: bool = False  # instead: advantages over the rows of all processes
    normalize_observations: bool = False  # by running statistics
    normalize_rewards: bool = False  # by the running deviation of the return

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: naming the setting that is out of its range.
        """
        super().__post_init__()
        self.require_counts("rollout_steps", "batch_size", "update_epochs")
        if self.batch_size > self.rollout_steps:
            raise ConfigError(
                f"batch_size={self.batch_size} does not fit a rollout of "
                f"rollout_steps={self.rollout_steps} rows; expected at most as many."
            )
        self.require_positive(
            "learning_rate", "clip_range", "value_clip_range", "max_grad_norm", "target_kl"
        )
        self.require_not_negative("value_coef", "entropy_coef")
        self.require_fractions("gamma", "gae_lambda")
        if self.normalize_advantages and self.normalize_whole_rollout:
            raise ConfigError(
                "normalize_whole_rollout=True, and normalize_advantages=True, which would do so "
                "again in each minibatch; expected one of the two. Set the other to False."
            )


class PPOAgent(LightningAgentModule):
    """PPO with generalised advantage estimation, for discrete and continuous actions.

    Args:
        network: returns `(action parameters (B, P), values (B,))` for B observations. Default:
            `ActorCriticNetwork()`.
        config: the settings.

    Raises:
        ShapeError: when bound, if the network's outputs have other shapes.

    Example:
        >>> from lightning_rl import AgentTrainer
        >>> agent = PPOAgent()
        >>> trainer = AgentTrainer(max_env_steps=65_536)
        >>> trainer.fit(agent, "CartPole-v1")  # doctest: +SKIP
    """

    default_num_envs = 32

    def __init__(
        self, network: nn.Module | None = None, config: PPOConfig | dict[str, Any] = PPOConfig()
    ) -> None:
        config = config_from(PPOConfig, config)
        super().__init__(network or ActorCriticNetwork(), config.rollout_steps)
        self.save_hyperparameters({"config": asdict(config)})
        self.config = config
        self.max_grad_norm = config.max_grad_norm
        self.clip_range = config.clip_range
        self.reward_scaler: RewardScaler | None = None

    # ---- 1. act ------------------------------------------------------------------------------

    def act(
        self, observations: Any, deterministic: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw actions from the policy, or take the most likely ones.

        Nothing is remembered: the same weights give all log-probabilities and values afterwards.
        """
        policy = getattr(self.network, "policy", None)
        parameters = policy(observations) if policy else self.network(observations)[0]
        distribution = action_distribution(parameters, self.action_space)
        return (distribution.mode if deterministic else distribution.sample(self.generator)), {}

    def rollout(self, total_step: int) -> None:
        """Anneal the clip range, act, and scale the rewards where asked for."""
        if self.config.anneal_clip_range:
            self.clip_range = self.config.clip_range * (1 - self.progress)
        super().rollout(total_step)
        if self.reward_scaler is not None:
            buffer, filled = self.replay_buffer, slice(self.replay_buffer.size)
            ended = buffer.terminated[filled] | buffer.truncated[filled]
            rewards, valid = buffer.rewards[filled], buffer.valid[filled]
            rewards[:] = self.reward_scaler(rewards, ended, valid, self.ranks.gather)

    def evaluate_actions(
        self, observations: Any, actions: Tensor
    ) -> tuple[Tensor, ActionDistribution, Tensor]:
        """Give log π(a|s), (B,), the distribution π(·|s), and the values V(s), (B,)."""
        parameters, values = self.network(observations)
        distribution = action_distribution(parameters, self.action_space)
        return distribution.log_prob(actions), distribution, values

    def assess(self, observations: Any) -> dict[str, Tensor]:
        """Give action parameters (N, P) and V(s), (N,), as an `EpisodePlayer` shows them."""
        parameters, values = self.network(observations)
        return {"action_parameters": parameters, "values": values}

    # ---- 2. advantages -----------------------------------------------------------------------

    @torch.no_grad()
    def compute_advantages(self) -> dict[str, Any]:
        """Turn the rollout into a batch to learn from; reset rows are left out.

        Returns:
            observations, actions, log_probs, values, advantages, returns: (rows, ...).
        """
        buffer, config = self.replay_buffer, self.config
        data = buffer.tensors(self.device)
        num_steps, num_envs = data["rewards"].shape
        observations = flatten_time(self.as_input(data["observations"]))  # ((T+1)*N, ...)
        parameters, values = self.network(observations)
        values = values.float().view(num_steps + 1, num_envs)
        advantages = gae(
            data["rewards"],
            values[:-1],
            self.next_values(values),
            data["terminated"],
            data["truncated"],
            config.gamma,
            config.gae_lambda,
            data["valid"],
        )  # (T, N)
        rows = num_steps * num_envs
        actions = flatten_time(data["actions"])
        distribution = action_distribution(parameters[:rows], self.action_space)
        batch = {
            "observations": select(observations, slice(rows)),
            "actions": actions,
            "log_probs": distribution.log_prob(actions).float(),
            "values": values[:-1].flatten(),
            "advantages": advantages.flatten(),
            "returns": (advantages + values[:-1]).flatten(),
        }
        valid_rows = data["valid"].flatten().nonzero().squeeze(-1)
        return self.standardized({n: select(v, valid_rows) for n, v in batch.items()})

    def standardized(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Normalise advantages by the whole rollout of all processes, if the settings say so."""
        if self.config.normalize_whole_rollout:
            moments = RunningMoments(())
            moments.update(batch["advantages"].cpu().numpy(), self.ranks.gather)
            std = float(moments.variance) ** 0.5
            batch["advantages"] = (batch["advantages"] - float(moments.mean)) / (std + 1e-8)
        return batch

    def next_values(self, values: Tensor) -> Tensor:
        """Give V of the state that each step led to, (T, N), from the rows' values (T + 1, N).

        Row t + 1 is what step t led to. Only where an environment resets within the step
        (SAME_STEP) that row is a new episode, and the true last observation is valued apart.
        """
        final = self.replay_buffer.final_observations
        if not final:
            return values[1:]
        observations = allocate(self.input_space, len(final))
        for row, observation in enumerate(final.values()):
            write(observations, row, observation)
        steps, env_indices = zip(*final, strict=True)
        next_values = values[1:].clone()
        next_values[steps, env_indices] = self.network(self.as_input(observations))[1].float()
        return next_values

    # ---- 3. optimise the surrogate -----------------------------------------------------------

    def sample(self) -> Iterator[dict[str, Any]]:
        """Yield the minibatches: `update_epochs` passes over the shuffled rollout."""
        batch = self.compute_advantages()
        self.metrics.add(
            "explained_variance", explained_variance(batch["values"], batch["returns"])
        )
        num_rows = len(batch["actions"])
        collected = self.replay_buffer.size * self.replay_buffer.num_envs  # with reset rows
        num_minibatches = math.ceil(collected / self.config.batch_size)  # alike in all processes
        bounds = [num_rows * i // num_minibatches for i in range(num_minibatches + 1)]
        for _ in range(self.config.update_epochs):
            if num_minibatches == 1:  # all rows at once: their order does not matter
                yield batch
                continue
            permutation = torch.randperm(num_rows, generator=self.generator).to(self.device)
            shuffled = select(batch, permutation)
            for start, stop in pairwise(bounds):
                yield select(shuffled, slice(start, max(stop, start + 1)))  # never empty

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Compute the loss of one minibatch of B rows (Schulman et al. 2017, eq. 9)."""
        config = self.config
        log_probs, distribution, values = self.evaluate_actions(
            batch["observations"], batch["actions"]
        )
        advantages = batch["advantages"]  # (B,)
        if config.normalize_advantages:
            advantages = normalize(advantages)
        policy_loss = ppo_policy_loss(log_probs, batch["log_probs"], advantages, self.clip_range)
        value_loss = ppo_value_loss(
            values, batch["returns"], batch["values"], config.value_clip_range
        )
        entropy = distribution.entropy().mean()
        loss = policy_loss + config.value_coef * value_loss
        if config.entropy_coef:
            loss = loss - config.entropy_coef * entropy
        kl = approx_kl(log_probs.detach(), batch["log_probs"])
        self.stop_updates = self.exceeds_target_kl(kl)
        return {
            "loss": loss,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "approx_kl": kl,
            "clip_fraction": clip_fraction(log_probs.detach(), batch["log_probs"], self.clip_range),
        }

    def exceeds_target_kl(self, kl: Tensor) -> bool:
        """Tell whether the policy has moved further than the settings allow, in any process."""
        if self.config.target_kl is None:
            return False
        too_far = bool(kl > 1.5 * self.config.target_kl)
        return self.trainer.strategy.reduce_boolean_decision(too_far, all=False)

    def configure_optimizers(self) -> Any:
        """Adam with ε = 1e-5, its learning rate annealed once an iteration."""
        fused = can_fuse(self.trainer)
        optimizer = Adam(self.parameters(), self.config.learning_rate, eps=1e-5, fused=fused)
        if not self.config.anneal_learning_rate:
            return optimizer
        scheduler = LambdaLR(optimizer, lambda _: 1.0 - self.progress)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    # ---- spaces and statistics ---------------------------------------------------------------

    def bind_env(self, env: VectorEnv, seed: int = 0) -> None:
        """Bind as every agent does, and make the reward scaler where asked for."""
        super().bind_env(env, seed)
        if self.config.normalize_rewards:
            scaler = RewardScaler(env.num_envs, self.config.gamma)
            if self.reward_scaler is not None:  # keep the statistics; the returns start anew
                scaler.moments = self.reward_scaler.moments
            self.reward_scaler = scaler

    def bind_spaces(self, observation_space: Space, action_space: Space, seed: int = 0) -> None:
        """Bind as every agent does, and make the observation normaliser where asked for."""
        if self.config.normalize_observations and self.observation_space is None:
            self.observation_normalizer = ObservationNormalizer(observation_space)
        super().bind_spaces(observation_space, action_space, seed)

    def check_network(self) -> None:
        """Pass two zero observations through the network and check what comes out."""
        observations = self.as_input(allocate(self.input_space, 2))
        with torch.no_grad():
            outputs = self.network(observations)
        check_actor_critic_outputs(outputs, 2, self.action_space)

    def extra_state(self) -> dict[str, Any]:
        """Save the reward scaler too."""
        scaler = self.reward_scaler
        rewards = {} if scaler is None else {"rewards": scaler.state_dict()}
        return super().extra_state() | rewards

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Load the reward scaler too."""
        super().load_extra_state(state)
        if "rewards" in state:
            scaler = self.reward_scaler or RewardScaler(
                len(state["rewards"]["returns"]), self.config.gamma
            )
            scaler.load_state_dict(state["rewards"])
            self.reward_scaler = scaler
