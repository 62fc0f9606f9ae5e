"""The loader: an environment, seen by Lightning as a dataset."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv

from lightning_rl.agent import LightningAgentModule
from lightning_rl.checkpoints.agent_state import env_entry
from lightning_rl.envs.closing import close_made
from lightning_rl.envs.runner import EnvRunner
from lightning_rl.envs.vectorize import EnvLike, make_vector_env
from lightning_rl.envs.workers import WAIT_SECONDS, limit_waiting
from lightning_rl.errors import StateError
from lightning_rl.settings import given_count, seed_number

EPOCH_ROWS = 10_000  # an epoch is at least this many rows: its bookkeeping costs under 2 %


class EnvDataLoader:
    """Lets an agent's iterations pass for the batches of a DataLoader.

    Each batch is one iteration: a rollout, of which the first minibatch is yielded; the agent's
    `optimizer_step` takes the others. An epoch is the smallest number of iterations that holds
    10,000 rows (env steps and reset rows). The length is known, because Lightning prefetches from
    an unsized loader: each rollout would then be made by the policy before the last update.

    Args:
        agent: the agent that acts; it is bound to the environment here.
        env: a name, spec, environment, vector environment or function (`make_vector_env`).
        num_envs: sub-environments, where the number is open. Default: `agent.default_num_envs`.
        seed: of weights, environments and random numbers.
        max_env_steps: stop after the iteration that reaches it. Default: as the trainer says.
        iterations_per_epoch: overrides the length of an epoch.
        env_timeout: seconds that sub-environments in other processes may take for a step or reset,
            before it is an error; None: for ever.

    Raises:
        ConfigError: for a number below 1.

    Example:
        >>> import lightning
        >>> from lightning_rl import PPOAgent
        >>> agent = PPOAgent()
        >>> loader = EnvDataLoader(agent, "CartPole-v1", seed=0)
        >>> len(loader)  # 5 iterations of 2,048 rows
        5
        >>> trainer = lightning.Trainer(max_epochs=1, ...)  # doctest: +SKIP
        >>> trainer.fit(agent, loader)  # doctest: +SKIP
    """

    def __init__(
        self,
        agent: LightningAgentModule,
        env: EnvLike,
        num_envs: int | None = None,
        seed: int = 0,
        max_env_steps: int | None = None,
        iterations_per_epoch: int | None = None,
        env_timeout: float | None = WAIT_SECONDS,
    ) -> None:
        budget = given_count("max_env_steps", max_env_steps)
        iterations = given_count("iterations_per_epoch", iterations_per_epoch)
        seed = seed_number(seed)
        self.agent, self.source = agent, env
        self.env = make_vector_env(env, agent.default_num_envs if num_envs is None else num_envs)
        try:
            agent.bind_env(self.env, seed)
        except Exception:
            close_made(self.env, env)
            raise
        limit_waiting(self.env, env_timeout)
        self.max_env_steps = agent.max_env_steps = budget
        self.iterations = iterations or math.ceil(EPOCH_ROWS / agent.rollout_steps)

    def close(self) -> None:
        """Close the environment, unless the user made it; the agent can still be saved with it."""
        if isinstance(self.source, gym.Env | VectorEnv):
            return
        runner: EnvRunner | None = self.agent.runner
        if runner is not None and runner.env is self.env and not runner.env_at_close:
            runner.env_at_close = {runner.num_calls: env_entry(self.env, self.agent.env_as_made)}
        close_made(self.env, self.source)

    def __len__(self) -> int:
        """Count the iterations of an epoch."""
        return self.iterations

    def __iter__(self) -> Iterator[Any]:
        """Run the iterations of one epoch, yielding the first minibatch of each.

        Raises:
            StateError: before training has begun, as the environment was not reset then.
        """
        if not self.agent.runner.was_reset:
            raise StateError(
                "the environment was not reset yet, which is done when training begins; expected "
                "trainer.fit(agent, loader), or agent.start_run(seed) before the first iteration."
            )
        for _ in range(self.iterations):
            yield self.agent.start_iteration()

    def state_dict(self) -> dict[str, Any]:
        """Tell Lightning that the loader can be resumed: the agent saves all there is."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing: see `state_dict`."""
