"""Soft actor-critic (SAC).

Haarnoja et al. 2018, "Soft actor-critic algorithms and applications",
https://arxiv.org/abs/1812.05905. In the order of its Algorithm 1:

1. act by the policy and store the transition                    `act`, called by `rollout`
2. draw a minibatch of stored transitions                        `sample`, inherited
3. update both critics, the actor and the temperature            `training_step`
4. move the target critics towards the critics                   `training_step`

The three losses are one sum, stepped by one optimizer: each is kept from the parameters that are
not its own, so the sum's gradient is each loss's gradient where it belongs. Unlike in the paper
all three are taken at the same parameters, where it updates one after the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from lightning_rl.agents.replay_agent import (
    ReplayAgentModule,
    ReplayConfig,
    make_target,
    move_target,
)
from lightning_rl.buffers.arrays import allocate
from lightning_rl.checkpoints.config import config_from
from lightning_rl.errors import ShapeError, SpaceError
from lightning_rl.functional import n_step_target
from lightning_rl.networks.action_values import SoftActorCriticNetwork
from lightning_rl.networks.distributions import SquashedGaussian
from lightning_rl.updates import can_fuse


@dataclass(frozen=True)
class SACConfig(ReplayConfig):
    """SAC's settings. The defaults solve Pendulum-v1 in 8,000 env steps.

    With `n_steps` above 1, the entropies between the first step and the bootstrap are left out.
    """

    rollout_steps: int = 64
    gradient_steps: int = 64
    learning_rate: float = 1e-3  # of the actor
    critic_learning_rate: float = 1e-3  # of the critics and the temperature
    tau: float = 0.01  # twice the paper's: on Pendulum-v1 some seeds fail with 0.005
    initial_temperature: float = 1.0  # α at the start
    learn_temperature: bool = True  # False: α stays as it is at the start
    target_entropy: float | None = None  # H̄ in nats; None: minus the number of action numbers
    anneal_learning_rate: bool = False  # both, linearly, to 0 at the end of the budget

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: naming the setting that is out of its range.
        """
        super().__post_init__()
        self.require_positive("critic_learning_rate", "initial_temperature")


class SACAgent(ReplayAgentModule):
    """SAC with twin critics and a learned temperature, for continuous actions within bounds.

    Args:
        network: has `actor`: observations -> (B, 2A), means and log-deviations before tanh, and
            `critics`: observations, actions (B, A) in [-1, 1] -> (2, B). Default:
            `SoftActorCriticNetwork()`.
        config: the settings.

    Raises:
        SpaceError: when bound, if the actions are no Box of one axis with finite bounds.
        ShapeError: when bound, if the network's outputs have other shapes.

    Example:
        >>> from lightning_rl import AgentTrainer
        >>> agent = SACAgent()
        >>> trainer = AgentTrainer(max_env_steps=8_000)
        >>> trainer.fit(agent, "Pendulum-v1")  # doctest: +SKIP
    """

    action_center: Tensor  # (A,) of the env's bounds
    action_reach: Tensor  # (A,) from the center to the bounds

    def __init__(
        self, network: nn.Module | None = None, config: SACConfig | dict[str, Any] = SACConfig()
    ) -> None:
        config = config_from(SACConfig, config)
        super().__init__(network or SoftActorCriticNetwork(), config)
        self.save_hyperparameters({"config": asdict(config)})
        self.target_critics: Any = None  # once bound
        log_temperature = torch.tensor(config.initial_temperature).log()
        self.log_temperature = nn.Parameter(log_temperature, requires_grad=config.learn_temperature)

    # ---- 1. act ------------------------------------------------------------------------------

    def act(
        self, observations: Any, deterministic: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw actions from the policy, or take tanh of the means, in the env's units."""
        policy = self.policy(observations)
        actions = policy.mode if deterministic else policy.sample(self.generator)
        return self.action_center + self.action_reach * actions, {}

    def policy(self, observations: Any) -> SquashedGaussian:
        """Give π(·|s) over actions (B, A) in (-1, 1)."""
        mean, log_std = self.network.actor(observations).float().chunk(2, dim=-1)
        return SquashedGaussian(mean, log_std.clamp(-20.0, 2.0))

    def assess(self, observations: Any) -> dict[str, Tensor]:
        """Give the best actions, their spread and min Q, as an `EpisodePlayer` shows them.

        Returns:
            means and stds, (N, A) in the env's units, and values, (N,). A deviation is half the
            width of the interval that holds 68 % of the draws, as in an unsquashed Gaussian.
        """
        policy = self.policy(observations)
        deviation = policy.log_std.exp()
        low, high = (policy.mean - deviation).tanh(), (policy.mean + deviation).tanh()
        return {
            "means": self.action_center + self.action_reach * policy.mode,
            "stds": self.action_reach * (high - low) / 2,
            "values": self.network.critics(observations, policy.mode).float().amin(0),
        }

    def random_actions(self, count: int) -> Tensor:
        """Draw (count, A) actions uniformly within the bounds."""
        fractions = torch.rand((count, *self.action_space.shape), generator=self.generator)
        actions = (2.0 * fractions - 1.0).to(self.action_center)
        return self.action_center + self.action_reach * actions

    # ---- 3. learn ----------------------------------------------------------------------------

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Compute the three losses of B transitions, as one sum."""
        move_target(self.target_critics, self.network.critics, self.config.tau)
        self.num_updates += 1
        temperature = self.log_temperature.detach().exp()
        critic_loss = self.critic_loss(batch, temperature)
        actor_loss, log_probs = self.actor_loss(batch["observations"], temperature)
        entropy = -log_probs.detach().mean()
        # Eq. 18, with log α for α before the bracket, which keeps α above 0.
        temperature_loss = self.log_temperature * (entropy - self.target_entropy)
        return {
            "loss": critic_loss + actor_loss + temperature_loss,
            "critic_loss": critic_loss,
            "actor_loss": actor_loss,
            "entropy": entropy,
            "temperature": temperature,
        }

    def critic_loss(self, batch: dict[str, Any], temperature: Tensor) -> Tensor:
        """Σ_i ½ (Q_i(s, a) - y)², averaged (eq. 5), y = r + γ (min Q'(s', a') - α log π(a'|s'))."""
        with torch.no_grad():
            next_observations = batch["next_observations"]
            policy = self.policy(next_observations)
            next_actions, log_probs = policy.sample_with_log_prob(self.generator)
            next_values = self.target_critics(next_observations, next_actions).float().amin(0)
            targets = n_step_target(
                batch["rewards"],
                next_values - temperature * log_probs,
                batch["terminated"],
                batch["discounts"],
            )
        actions = (batch["actions"] - self.action_center) / self.action_reach
        values = self.network.critics(batch["observations"], actions).float()  # (2, B)
        return mse_loss(values, targets.expand_as(values))  # of 2 B numbers: hence the ½

    def actor_loss(self, observations: Any, temperature: Tensor) -> tuple[Tensor, Tensor]:
        """α log π(a|s) - min Q(s, a), a ~ π, averaged (eq. 9); and the log-probabilities, (B,)."""
        actions, log_probs = self.policy(observations).sample_with_log_prob(self.generator)
        with frozen(self.network.critics):
            values = self.network.critics(observations, actions).float().amin(0)
        return (temperature * log_probs - values).mean(), log_probs

    def configure_optimizers(self) -> Any:
        """Adam with a learning rate for the actor and one for the critics and the temperature."""
        config = self.config
        rest = [*self.network.critics.parameters(), self.log_temperature]
        groups = [
            {"params": list(self.network.actor.parameters()), "lr": config.learning_rate},
            {"params": rest, "lr": config.critic_learning_rate},
        ]
        optimizer = Adam(groups, fused=can_fuse(self.trainer))
        if not config.anneal_learning_rate:
            return optimizer
        scheduler = LambdaLR(optimizer, lambda _: 1.0 - self.progress)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    # ---- spaces ------------------------------------------------------------------------------

    def bind_spaces(self, observation_space: Space, action_space: Space, seed: int = 0) -> None:
        """Bind as every agent does, note the bounds and make the target critics."""
        box = action_space if isinstance(action_space, spaces.Box) else None
        if box is None or len(box.shape) != 1 or not has_reach(box):
            raise SpaceError(
                f"SAC got the action space {action_space}; expected a Box with one axis and finite "
                "bounds, the low ones below the high ones, as its actions are tanh of numbers. Use "
                "DQNAgent for Discrete, PPOAgent for any, or gymnasium.wrappers.RescaleAction for "
                "other bounds."
            )
        if self.observation_space is None:
            low, high = torch.from_numpy(box.low).float(), torch.from_numpy(box.high).float()
            self.register_buffer("action_center", (high + low) / 2, persistent=False)
            self.register_buffer("action_reach", (high - low) / 2, persistent=False)
            entropy = self.config.target_entropy
            self.target_entropy = float(-box.shape[0]) if entropy is None else entropy
        super().bind_spaces(observation_space, action_space, seed)
        if self.target_critics is None:
            self.target_critics = make_target(self.network.critics)

    def compiled_parts(self) -> list[nn.Module]:
        """Give the actor and the critics: the network itself is never called."""
        return [self.network.actor, self.network.critics]

    def check_network(self) -> None:
        """Pass two zero observations through the network and check what comes out."""
        observations = self.as_input(allocate(self.observation_space, 2))
        num_actions = self.action_space.shape[0]
        with torch.no_grad():
            parameters = self.network.actor(observations)
            check_shape("actor", parameters, (2, 2 * num_actions))
            values = self.network.critics(observations, parameters[:, :num_actions].tanh())
            check_shape("critics", values, (2, 2))


def has_reach(box: spaces.Box) -> bool:
    """Tell whether each number of a Box has room between its bounds, as much as a float can say."""
    widths = np.subtract(box.high, box.low, dtype=np.float64)
    return widths.size > 0 and bool(((widths > 0) & (widths < np.finfo(np.float32).max)).all())


def check_shape(name: str, output: Any, expected: tuple[int, ...]) -> None:
    """Check what a part of the network returned for 2 observations.

    Raises:
        ShapeError: naming the part, what was got and what is expected.
    """
    if tuple(getattr(output, "shape", ())) != expected:
        raise ShapeError(
            f"the network's {name} returned {getattr(output, 'shape', type(output))} for 2 "
            f"observations; expected {expected}: means and log-deviations (B, 2A) from the actor, "
            "two values (2, B) from the critics."
        )


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Let gradients flow through a module's inputs, but not to its parameters."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
