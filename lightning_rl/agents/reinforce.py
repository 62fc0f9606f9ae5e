"""REINFORCE, the smallest complete agent: read this one first.

Williams 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement
learning", https://doi.org/10.1007/BF00992696. Make actions that were followed by a high return
more likely:

    ∇J = E[ Σ_t ∇ log π(a_t|s_t) (G_t - b(s_t)) ],   G_t = Σ_k γ^k r_{t+k}
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Adam

from lightning_rl.agent import LightningAgentModule
from lightning_rl.buffers.arrays import select
from lightning_rl.checkpoints.config import config_from
from lightning_rl.errors import ConfigError
from lightning_rl.functional import discounted_returns, normalize
from lightning_rl.networks.actor_critic import ActorCriticNetwork
from lightning_rl.networks.distributions import action_distribution
from lightning_rl.settings import Settings

MAX_ROLLOUTS = 100  # without an episode's end


@dataclass(frozen=True)
class ReinforceConfig(Settings):
    """REINFORCE's settings. The defaults solve CartPole-v1 within 300,000 env steps."""

    rollout_steps: int = 2048  # rows of a rollout, over all sub-environments
    learning_rate: float = 1e-3  # with 3e-3 some seeds fall back in the end
    gamma: float = 0.99  # discount factor
    baseline: bool = True  # subtract a learned value b(s): same mean, less variance
    normalize_advantages: bool = True  # also shift and scale them, so that one learning rate fits

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: naming the setting that is out of its range.
        """
        super().__post_init__()
        self.require_counts("rollout_steps")
        self.require_positive("learning_rate")
        self.require_fractions("gamma")


class ReinforceAgent(LightningAgentModule):
    """REINFORCE: one policy-gradient step from each rollout, with or without a baseline.

    The rows of episodes that did not end within the rollout are left out, because their return is
    not known; so a rollout should hold several episodes of each sub-environment. Where none has
    ended, another rollout is made.

    Args:
        network: returns `(action parameters (B, P), values (B,))`. Default: `ActorCriticNetwork()`.
        config: the settings.

    Example:
        >>> from lightning_rl import AgentTrainer
        >>> trainer = AgentTrainer(max_env_steps=200_000)
        >>> trainer.fit(ReinforceAgent(), "CartPole-v1")  # doctest: +SKIP
    """

    default_num_envs = 4

    def __init__(
        self,
        network: nn.Module | None = None,
        config: ReinforceConfig | dict[str, Any] = ReinforceConfig(),
    ) -> None:
        config = config_from(ReinforceConfig, config)
        super().__init__(network or ActorCriticNetwork(), config.rollout_steps)
        self.save_hyperparameters({"config": asdict(config)})
        self.config = config

    def act(
        self, observations: Any, deterministic: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Draw actions from the policy, or take the most likely ones."""
        parameters, _ = self.network(observations)
        distribution = action_distribution(parameters, self.action_space)
        return (distribution.mode if deterministic else distribution.sample(self.generator)), {}

    def assess(self, observations: Any) -> dict[str, Tensor]:
        """Give action parameters (N, P) and V(s), (N,), as an `EpisodePlayer` shows them."""
        parameters, values = self.network(observations)
        return {"action_parameters": parameters, "values": values}

    def rollout(self, total_step: int) -> None:
        """Make a full rollout, and another one as long as no episode has ended in the last.

        Raises:
            ConfigError: if none has ended in a hundred.
        """
        ended = len(self.episodes)
        for _ in range(MAX_ROLLOUTS):
            super().rollout(self.rollout_steps)
            if len(self.episodes) > ended:
                return
        raise ConfigError(
            f"no episode has ended in {MAX_ROLLOUTS} rollouts of {self.rollout_steps} rows; "
            "REINFORCE learns from whole episodes only. Use gymnasium.wrappers.TimeLimit, or an "
            "agent that bootstraps, such as PPOAgent."
        )

    def sample(self) -> list[dict[str, Any]]:
        """Give one batch: all rows whose episode has ended, with their returns G_t."""
        data = self.replay_buffer.tensors(self.device)
        flags = data["terminated"], data["truncated"]
        returns = discounted_returns(data["rewards"], *flags, self.config.gamma)  # (T, N)
        ended = flags[0] | flags[1]
        known = ended.flip(0).cummax(0).values.flip(0)  # does the row's episode end further on?
        batch = self.replay_buffer.rows(self.device) | {"returns": returns.flatten()}
        return [select(batch, (known & data["valid"]).flatten())]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> dict[str, Tensor]:
        """Compute the policy-gradient loss, and the baseline's regression to the returns."""
        parameters, values = self.network(batch["observations"])  # (B, P), (B,)
        distribution = action_distribution(parameters, self.action_space)
        uses_baseline = float(self.config.baseline)  # 0: the values get a gradient, of zeros
        advantages = batch["returns"] - uses_baseline * values.detach()
        value_loss = uses_baseline * (values - batch["returns"]).square().mean()
        if self.config.normalize_advantages:
            advantages = normalize(advantages)
        log_probs = distribution.log_prob(batch["actions"])  # (B,)
        policy_loss = -(log_probs * advantages).mean()
        entropy = distribution.entropy().mean()
        loss = policy_loss + 0.5 * value_loss
        return {"loss": loss, "policy_loss": policy_loss, "entropy": entropy.detach()}

    def configure_optimizers(self) -> Any:
        """Adam."""
        return Adam(self.parameters(), self.config.learning_rate)
