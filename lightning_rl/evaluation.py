"""Evaluation: greedy episodes in a separate copy of an environment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from lightning_rl.agent import LightningAgentModule
from lightning_rl.buffers.arrays import allocate, to_array, write
from lightning_rl.envs.runner import EndedEpisodes, EnvRunner, to_env_actions
from lightning_rl.envs.separate import make_separate_env
from lightning_rl.envs.vectorize import EnvLike
from lightning_rl.errors import EnvError, NonFiniteError
from lightning_rl.settings import count, seed_number

MAX_EPISODE_STEPS = 1_000_000  # an episode of an evaluation that is longer has no end


class EvaluationResult(NamedTuple):
    """The episodes of an evaluation."""

    returns: NDArray[np.float64]  # (episodes,) undiscounted sums of raw rewards
    lengths: NDArray[np.int64]  # (episodes,) in env steps

    @property
    def mean(self) -> float:
        """Mean return."""
        return float(self.returns.mean())

    @property
    def std(self) -> float:
        """Standard deviation of the returns over episodes."""
        return float(self.returns.std())

    def __str__(self) -> str:
        """Say the result in one line, with more digits where returns are small."""
        digits = 1 if abs(self.mean) >= 10 else 2
        numbers = f"{self.mean:.{digits}f} ± {self.std:.{digits}f}"
        return f"return {numbers} over {len(self.returns)} episodes"

    def __repr__(self) -> str:
        """Say the result, not all of its numbers."""
        return f"<EvaluationResult: {self}>"


def evaluate(
    agent: LightningAgentModule, env: EnvLike, episodes: int = 100, seed: int = 0
) -> EvaluationResult:
    """Play greedy episodes in a separate copy of an environment.

    Training is not touched: not the environment, not the statistics, not the random numbers.

    Args:
        agent: a trained agent, or one loaded from a checkpoint.
        env: what `make_vector_env` takes; it is copied, never stepped.
        episodes: how many episodes to play.
        seed: sub-environment i is seeded with `seed + i`.

    Raises:
        ConfigError: if `episodes` is below 1.
        EnvError: if an episode goes on for more than a million env steps.
        StateError: if the agent was never trained, loaded or bound to an environment.

    Example:
        >>> from lightning_rl import EnvDataLoader, PPOAgent
        >>> agent = PPOAgent()
        >>> _ = EnvDataLoader(agent, "CartPole-v1")  # binds the (untrained) agent
        >>> evaluate(agent, "CartPole-v1", episodes=10).returns.shape
        (10,)
    """
    episodes, seed = count("episodes", episodes), seed_number(seed)
    with evaluation_mode(agent, seed):
        return play_episodes(agent, make_separate_env(env, episodes), episodes, seed)


@contextmanager
def evaluation_mode(agent: LightningAgentModule, seed: int) -> Iterator[None]:
    """Let an agent play in evaluation mode, with random numbers of its own; then put all back."""
    modes = [(module, module.training) for module in agent.modules()]
    random_state = agent.generator.get_state()
    agent.eval()
    agent.generator.manual_seed(seed)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        agent.generator.set_state(random_state)
        for module, was_training in modes:  # a part may be frozen in evaluation mode
            module.training = was_training


@torch.no_grad()
def play_episodes(
    agent: LightningAgentModule,
    env: VectorEnv,
    episodes: int,
    seed: int,
) -> EvaluationResult:
    """Play greedy episodes in `env` itself, which is reset first.

    Every sub-environment plays its share of whole episodes: taking the first that end, whichever
    they are, would favour short ones.

    Raises:
        EnvError: if an episode goes on for more than a million env steps.
    """
    episodes = count("episodes", episodes)
    agent.check_bound()
    agent.bind_spaces(env.single_observation_space, env.single_action_space)
    share = np.full(env.num_envs, episodes // env.num_envs)
    share[: episodes % env.num_envs] += 1
    finished: list[EndedEpisodes] = []
    runner = EnvRunner(env, finished.append)
    runner.reset(seed=seed)
    played = np.zeros(env.num_envs, dtype=np.int64)
    inputs = allocate(agent.input_space, env.num_envs)
    returns, lengths = [], []
    while (played < share).any():
        write(inputs, slice(None), agent.prepare(runner.observations))
        actions, _ = agent.act(agent.as_input(inputs), deterministic=True)
        runner.step(to_env_actions(to_array(actions), env.single_action_space))
        if runner.lengths.max() > MAX_EPISODE_STEPS:
            raise EnvError(
                f"an evaluation episode did not end within {MAX_EPISODE_STEPS:,} env steps; "
                "expected one that ends. Limit it with gymnasium.wrappers.TimeLimit."
            )
        while finished:
            ended = finished.pop()
            counts = played[ended.env_indices] < share[ended.env_indices]
            returns.append(ended.returns[counts])
            lengths.append(ended.lengths[counts])
            played[ended.env_indices] += 1
    result = EvaluationResult(np.concatenate(returns), np.concatenate(lengths))
    if not np.isfinite(result.returns).all():
        raise NonFiniteError(
            f"an evaluation episode returned {result.returns}; expected finite numbers. "
            "Check the environment's rewards."
        )
    return result


class EvaluationDataLoader:
    """One batch: the episodes that an agent plays greedily in an environment of its own.

    Args:
        agent: the agent to evaluate.
        env: what to make the separate evaluation environment from, by `make_env`.
        episodes: how many.
        seed: of the first sub-environment.

    Yields:
        `{"episode_return": (E,) float32, "episode_length": (E,) float32}`.
    """

    def __init__(self, agent: LightningAgentModule, env: EnvLike, episodes: int, seed: int) -> None:
        self.agent, self.episodes, self.seed = agent, episodes, seed
        self.source = env
        self.env: VectorEnv | None = None

    def make_env(self) -> VectorEnv:
        """Make the environment, once; some can't be copied, which matters only to an evaluation.

        Raises:
            EnvError: if the environment can neither be copied nor made again.
            SpaceError: if it has other spaces than the agent.
        """
        if self.env is None:
            env = make_separate_env(self.source, self.episodes)
            if self.agent.observation_space is not None:
                self.agent.bind_spaces(env.single_observation_space, env.single_action_space)
            self.env = env
        return self.env

    def __len__(self) -> int:
        """Count the batches: one."""
        return 1

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Play the episodes."""
        result = play_episodes(self.agent, self.make_env(), self.episodes, self.seed)
        yield {
            "episode_return": torch.from_numpy(result.returns.astype(np.float32)),
            "episode_length": torch.from_numpy(result.lengths.astype(np.float32)),
        }
