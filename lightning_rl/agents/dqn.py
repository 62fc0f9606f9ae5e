"""Deep Q-networks (DQN).

Mnih et al. 2015, "Human-level control through deep reinforcement learning",
https://doi.org/10.1038/nature14236, with van Hasselt, Guez, Silver 2016, "Deep reinforcement
learning with double Q-learning", https://arxiv.org/abs/1509.06461. In the order of the former's
Algorithm 1:

1. act ε-greedily and store the transition                  `act`, called by `rollout`
2. draw a minibatch of stored transitions                   `sample`, inherited
3. set y = r + γ max Q'(s', ·), descend on (y - Q(s, a))²   `td_targets`, `training_step`
4. every C updates, reset the target network: Q' = Q        `training_step`
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from gymnasium import Space, spaces
from torch import Tensor, nn
from torch.nn.functional import smooth_l1_loss
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from lightning_rl.agents.replay_agent import (
    ReplayAgentModule,
    ReplayConfig,
    make_target,
    move_target,
)
from lightning_rl.buffers.arrays import allocate
from lightning_rl.buffers.prioritized import PrioritizedReplayBuffer
from lightning_rl.buffers.replay import ReplayBuffer
from lightning_rl.checkpoints.config import config_from
from lightning_rl.errors import ShapeError, SpaceError
from lightning_rl.functional import n_step_target
from lightning_rl.networks.action_values import QNetwork
from lightning_rl.updates import can_fuse


@dataclass(frozen=True)
class DQNConfig(ReplayConfig):
    """DQN's settings. The defaults solve CartPole-v1 in 50,000 env steps."""

    rollout_steps: int = 256
    gradient_steps: int = 128
    batch_size: int = 64
    learning_rate: float = 1e-3
    n_steps: int = 5  # with 1, learning is much slower and less even
    buffer_capacity: int = 100_000
    tau: float = 1.0
    target_update_interval: int = 64  # C: updates between two moves of the target network
    double_q: bool = True  # choose the next action by Q, and value it by Q'
    exploration_fraction: float = 0.16  # part of the budget in which ε falls from 1, linearly
    final_epsilon: float = 0.05
    explore_again: bool = True  # in a further fit, ε falls from 1 again; False: it stays final
    anneal_learning_rate: bool = True  # linearly, to 0 at the end of the budget
    max_grad_norm: float = 10.0  # used where the trainer has no gradient_clip_val
    priority_exponent: float = 0.0  # α of prioritised replay (Schaul et al. 2016); 0: uniform
    importance_exponent: float = 0.4  # β at the start; it rises to 1 by the end of the budget

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: naming the setting that is out of its range.
        """
        super().__post_init__()
        self.require_counts("target_update_interval")
        self.require_positive("exploration_fraction", "max_grad_norm")
        self.require_fractions("final_epsilon", "priority_exponent", "importance_exponent")


class DQNAgent(ReplayAgentModule):
    """DQN with double Q-learning, for discrete actions.

    Args:
        network: returns Q(s, ·), (B, n), for B observations. Default: `QNetwork()`.
        config: the settings.

    Raises:
        SpaceError: when bound, if the actions are not `Discrete`.
        ShapeError: when bound, if the network's output has another shape.

    Example:
        >>> from lightning_rl import AgentTrainer
        >>> agent = DQNAgent()
        >>> trainer = AgentTrainer(max_env_steps=50_000)
        >>> trainer.fit(agent, "CartPole-v1")  # doctest: +SKIP
    """

    def __init__(
        self, network: nn.Module | None = None, config: DQNConfig | dict[str, Any] = DQNConfig()
    ) -> None:
        config = config_from(DQNConfig, config)
        super().__init__(network or QNetwork(), config)
        self.save_hyperparameters({"config": asdict(config)})
        self.max_grad_norm = config.max_grad_norm
        self.target_network: Any = None  # Q', once bound
        self.epsilon = 1.0

    # ---- 1. act ------------------------------------------------------------------------------

    def act(
        self, observations: Any, deterministic: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Take the action of the largest value or, with probability ε, any action."""
        best: Tensor = self.network(observations).argmax(-1)
        if deterministic:
            return best, {}
        explores = torch.rand(best.shape, generator=self.generator) < self.epsilon
        return torch.where(explores.to(best.device), self.random_actions(len(best)), best), {}

    def assess(self, observations: Any) -> dict[str, Tensor]:
        """Give Q(s, ·), (N, n), and max Q(s, ·), (N,), as an `EpisodePlayer` shows them."""
        action_values = self.network(observations)
        return {"action_values": action_values, "values": action_values.amax(-1)}

    def random_actions(self, count: int) -> Tensor:
        """Draw (count,) actions uniformly."""
        num_actions = int(self.action_space.n)
        actions = torch.randint(num_actions, (count,), generator=self.generator)
        return actions.to(self.device)

    def rollout(self, total_step: int) -> None:
        """Let ε and β follow their schedules, and act."""
        config, progress = self.config, self.progress
        goes_on = self.env_steps_at_fit_start > 0 and not config.explore_again
        fall = 1.0 if goes_on else min(1.0, progress / config.exploration_fraction)
        self.epsilon = 1.0 + fall * (config.final_epsilon - 1.0)
        if isinstance(self.replay_buffer, PrioritizedReplayBuffer):
            start = config.importance_exponent
            self.replay_buffer.importance_exponent = start + progress * (1.0 - start)
        super().rollout(total_step)

    # ---- 3. learn ----------------------------------------------------------------------------

    @torch.no_grad()
    def td_targets(self, batch: dict[str, Any]) -> Tensor:
        """Compute y, (B,): the rewards and the discounted value of the best next action.

        Double Q (van Hasselt et al. 2016, eq. 4): y = r + γ Q'(s', argmax_a Q(s', a)).
        """
        next_values = self.target_network(batch["next_observations"])  # (B, n)
        choosing = self.network(batch["next_observations"]) if self.config.double_q else next_values
        best = choosing.argmax(-1, keepdim=True)
        next_values = next_values.gather(-1, best).squeeze(-1).float()
        return n_step_target(batch["rewards"], next_values, batch["terminated"], batch["discounts"])

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Compute the Huber loss of B transitions: the error's gradient is clipped to ±1."""
        if self.num_updates % self.config.target_update_interval == 0:
            move_target(self.target_network, self.network, self.config.tau)
        self.num_updates += 1
        all_values = self.network(batch["observations"])  # (B, n)
        values = all_values.gather(-1, batch["actions"].unsqueeze(-1)).squeeze(-1).float()
        targets = self.td_targets(batch)
        if isinstance(self.replay_buffer, PrioritizedReplayBuffer):
            self.replay_buffer.update_priorities(batch["indices"], targets - values.detach())
            losses = smooth_l1_loss(values, targets, reduction="none")
            loss = (batch["weights"] * losses).mean()  # Schaul et al. 2016, algorithm 1
        else:
            loss = smooth_l1_loss(values, targets)
        return {"loss": loss, "q_value": values.detach().mean()}

    def configure_optimizers(self) -> Any:
        """Adam, for the network alone: the target network only follows."""
        fused = can_fuse(self.trainer)
        optimizer = Adam(self.network.parameters(), self.config.learning_rate, fused=fused)
        if not self.config.anneal_learning_rate:
            return optimizer
        scheduler = LambdaLR(optimizer, lambda _: 1.0 - self.progress)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    # ---- spaces and buffer -------------------------------------------------------------------

    def bind_spaces(self, observation_space: Space, action_space: Space, seed: int = 0) -> None:
        """Bind as every agent does, and copy the network as the first target network."""
        if not isinstance(action_space, spaces.Discrete):
            raise SpaceError(
                f"DQN got the action space {action_space}; expected Discrete, as it values each "
                "action apart. Use SACAgent for a Box, PPOAgent for any."
            )
        super().bind_spaces(observation_space, action_space, seed)
        if self.target_network is None:
            self.target_network = make_target(self.network)

    def check_network(self) -> None:
        """Pass two zero observations through the network and check what comes out."""
        with torch.no_grad():
            values = self.network(self.as_input(allocate(self.observation_space, 2)))
        expected = (2, int(self.action_space.n))
        if not isinstance(values, Tensor) or tuple(values.shape) != expected:
            raise ShapeError(
                f"the network returned {getattr(values, 'shape', type(values))}; expected "
                f"{expected}: a value for each action of 2 observations. Change its last layer."
            )

    def new_buffer(self, *args: Any, **options: Any) -> ReplayBuffer:
        """Make a buffer that draws by priority where asked for."""
        config = self.config
        if not config.priority_exponent:
            return ReplayBuffer(*args, **options)
        exponents = (config.priority_exponent, config.importance_exponent)
        return PrioritizedReplayBuffer(
            *args, priority_exponent=exponents[0], importance_exponent=exponents[1], **options
        )
