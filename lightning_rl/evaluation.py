"""Evaluation: greedy episodes in a separate copy of an environment."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from gymnasium.wrappers import TimeLimit
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm  # type: ignore[import-untyped]

from lightning_rl.agent import LightningAgentModule
from lightning_rl.buffers.arrays import allocate, to_array, write
from lightning_rl.envs.closing import close_env
from lightning_rl.envs.runner import EndedEpisodes, EnvRunner, to_env_actions
from lightning_rl.envs.running_statistics import carry_statistics
from lightning_rl.envs.separate import make_separate_env, parts_of, separate_env
from lightning_rl.envs.vectorize import EnvLike
from lightning_rl.envs.workers import WAIT_SECONDS
from lightning_rl.errors import EnvError, NonFiniteError, SpaceError, StateError
from lightning_rl.settings import count, given_count, seed_number
from lightning_rl.threads import check_idle, torch_threads
from lightning_rl.updates import check_parameters

MAX_EPISODE_STEPS = 100_000  # an episode of an evaluation that is longer has no end
PATIENCE_SECONDS = 2.0  # without a word, if no episode ends
NOT_PLAYED = "Such an agent is not played: load an earlier checkpoint."
BAR_SECONDS = 10.0  # without a bar: most evaluations are over by then


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


class StoppedError(StateError):
    """An evaluation was to end before its last episode."""


class EpisodeCounter:
    """Counts the whole episodes of an evaluation: each sub-environment's share of them.

    It says within seconds if none ends, and shows a bar if it takes long.

    Args:
        num_envs: N, sub-environments.
        episodes: E, how many episodes to count.
        max_episode_steps: count an episode as ended there.
        progress: show a bar if it takes longer than ten seconds.
    """

    def __init__(
        self, num_envs: int, episodes: int, max_episode_steps: int | None, progress: bool
    ) -> None:
        self.share = np.full(num_envs, episodes // num_envs)
        self.share[: episodes % num_envs] += 1
        self.left = self.share.copy()  # (N,)
        self.is_cut = np.zeros(num_envs, dtype=np.bool_)  # (N,) counted before it has ended
        self.max_episode_steps, self.progress = max_episode_steps, progress
        self.returns: list[NDArray[np.float64]] = []
        self.lengths: list[NDArray[np.int64]] = []
        self.bar: Any = None
        self.has_warned = False
        start = time.monotonic()
        self.patience_ends, self.bar_begins = start + PATIENCE_SECONDS, start + BAR_SECONDS

    @property
    def is_complete(self) -> bool:
        """Whether every sub-environment has played its share."""
        return not self.left.any()

    def add(self, ended: EndedEpisodes) -> None:
        """Count the episodes that ended, where some are left and they were not cut before."""
        counts = (self.left[ended.env_indices] > 0) & ~self.is_cut[ended.env_indices]
        self.is_cut[ended.env_indices] = False
        self._count(ended.env_indices[counts], ended.returns[counts], ended.lengths[counts])

    def _count(self, env_indices: Any, returns: Any, lengths: Any) -> None:
        self.returns.append(returns)
        self.lengths.append(lengths)
        self.left[env_indices] -= 1
        if self.progress and time.monotonic() > self.bar_begins:
            total = int(self.share.sum())
            self.bar = self.bar or tqdm(total=total, unit="episode", leave=False)
            self.bar.update(total - int(self.left.sum()) - self.bar.n)

    def cut(self, runner: EnvRunner) -> bool:
        """Count episodes that are too long; tell whether only those go on, so a reset is due.

        Raises:
            EnvError: if there is no limit but our own.
        """
        if not (self.returns or self.has_warned) and time.monotonic() > self.patience_ends:
            self._warn(runner)
        limit = self.max_episode_steps or MAX_EPISODE_STEPS
        if runner.lengths.max() < limit:
            return False
        if self.max_episode_steps is None:
            raise EnvError(
                f"an evaluation episode did not end within {limit:,} env steps; expected one that "
                "ends. Give max_episode_steps, or limit it with gymnasium.wrappers.TimeLimit."
            )
        due = (runner.lengths >= limit) & ~self.is_cut & (self.left > 0)
        self._count(due.nonzero()[0], runner.returns[due], runner.lengths[due])
        self.is_cut |= due
        all_cut = not self.is_complete and bool(self.is_cut[self.left > 0].all())
        self.is_cut &= not all_cut
        return all_cut

    def _warn(self, runner: EnvRunner) -> None:
        self.has_warned = True
        if self.max_episode_steps is None and not has_time_limit(runner.env):
            warnings.warn(
                f"no episode has ended within {runner.lengths.max():,} env steps, and the "
                f"environment has no time limit; each may go on for {MAX_EPISODE_STEPS:,}. Give "
                "max_episode_steps to cut them.",
                stacklevel=2,
            )

    def close(self) -> None:
        """Take the bar away."""
        if self.bar is not None:
            self.bar.close()

    def result(self) -> EvaluationResult:
        """Give the episodes.

        Raises:
            NonFiniteError: if a return is NaN or infinite.
        """
        result = EvaluationResult(np.concatenate(self.returns), np.concatenate(self.lengths))
        if not np.isfinite(result.returns).all():
            raise NonFiniteError(
                f"an evaluation episode returned {result.returns}; expected finite numbers. "
                "Check the environment's rewards."
            )
        return result


def has_time_limit(env: VectorEnv) -> bool:
    """Tell whether an environment says that its episodes end in time."""
    specs = [part.spec for part in parts_of(env)]
    limited = any(isinstance(part, TimeLimit) for part in parts_of(env))
    return limited or any(spec is not None and spec.max_episode_steps for spec in specs)


def evaluate(
    agent: LightningAgentModule,
    env: EnvLike,
    episodes: int = 100,
    seed: int = 0,
    max_episode_steps: int | None = None,
    env_timeout: float | None = WAIT_SECONDS,
    progress: bool = True,
) -> EvaluationResult:
    """Play greedy episodes in a separate copy of an environment, which is closed at the end.

    Training is not touched: not the environment, not the statistics, not the random numbers. A
    copy's NormalizeObservation and NormalizeReward take the statistics of the environment that the
    agent was trained in, and learn nothing.

    Args:
        agent: a trained agent, or one loaded from a checkpoint.
        env: what `make_vector_env` takes; it is copied, never stepped.
        episodes: how many episodes to play.
        seed: sub-environment i is seeded with `seed + i`.
        max_episode_steps: cut longer episodes there. Default: the environment's own limit cuts
            them, and one that goes on for more than 100,000 env steps is an error.
        env_timeout: seconds that sub-environments in other processes may take for a step.
        progress: show a bar if it takes longer than ten seconds.

    Raises:
        ConfigError: if `episodes` or `max_episode_steps` is below 1.
        EnvError: if an episode goes on for more than 100,000 env steps.
        StateError: if the agent was never trained, loaded or bound to an environment, or is
            trained in the background right now.

    Example:
        >>> from lightning_rl import EnvDataLoader, PPOAgent
        >>> agent = PPOAgent()
        >>> _ = EnvDataLoader(agent, "CartPole-v1")  # binds the (untrained) agent
        >>> evaluate(agent, "CartPole-v1", episodes=10).returns.shape
        (10,)
    """
    episodes, seed = count("episodes", episodes), seed_number(seed)
    limit = given_count("max_episode_steps", max_episode_steps)
    with evaluation_mode(agent, seed), agent_env(agent, env, episodes) as vector_env:
        return play_episodes(agent, vector_env, episodes, seed, limit, env_timeout, progress)


@contextmanager
def agent_env(agent: LightningAgentModule, env: EnvLike, max_envs: int) -> Iterator[VectorEnv]:
    """Make a separate environment for an agent to play in, and close it in the end."""
    with separate_env(env, max_envs) as vector_env:
        carry_statistics(vector_env, agent.runner and agent.runner.env)
        yield vector_env


@contextmanager
def evaluation_mode(agent: LightningAgentModule, seed: int) -> Iterator[None]:
    """Let an agent play in evaluation mode, with random numbers of its own; then put all back.

    Torch uses as many threads as in the agent's last `fit`, by default one.

    Raises:
        StateError: if the agent is trained in another thread.
        NonFiniteError: if one of its parameters is NaN or infinite.
    """
    check_idle(agent)
    check_parameters(agent, NOT_PLAYED)
    modes = [(module, module.training) for module in agent.modules()]
    random_state = agent.generator.get_state()
    agent.stop_asked = False
    agent.eval()
    agent.generator.manual_seed(seed)
    try:
        threads = torch_threads(agent.torch_threads)
        with torch.no_grad(), torch.random.fork_rng(devices=[]), threads:
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
    max_episode_steps: int | None = None,
    env_timeout: float | None = WAIT_SECONDS,
    progress: bool = False,
) -> EvaluationResult:
    """Play greedy episodes in `env` itself, which is reset first; the arguments are `evaluate`'s.

    Every sub-environment plays its share of whole episodes: taking the first that end, whichever
    they are, would favour short ones.

    Raises:
        EnvError: if an episode goes on for more than 100,000 env steps without a limit.
    """
    episodes = count("episodes", episodes)
    agent.check_bound()
    check_parameters(agent, NOT_PLAYED)
    agent.bind_spaces(env.single_observation_space, env.single_action_space)
    with closing(EpisodeCounter(env.num_envs, episodes, max_episode_steps, progress)) as counter:
        runner = EnvRunner(env, counter.add, env_timeout)
        runner.reset(seed=seed)
        inputs = allocate(agent.input_space, env.num_envs)
        while not counter.is_complete:
            if agent.stop_asked:
                raise StoppedError("the evaluation was stopped; it has no result.")
            write(inputs, slice(None), agent.prepare(runner.observations))
            actions, _ = agent.act(agent.as_input(inputs), deterministic=True)
            runner.step(to_env_actions(to_array(actions), env.single_action_space))
            if counter.cut(runner):
                runner.reset()
    return counter.result()


class EvaluationDataLoader:
    """One batch: the episodes that an agent plays greedily in an environment of its own.

    Args:
        agent: the agent to evaluate.
        env: what to make the separate evaluation environment from, by `make_env`.
        episodes: how many.
        seed: of the first sub-environment.
        max_episode_steps: cut longer episodes there.
        env_timeout: seconds that sub-environments in other processes may take for a step.
        num_processes: of the training; each plays its share of the episodes.

    Yields:
        `{"episode_return": (E,) float32, "episode_length": (E,) float32}`.
    """

    def __init__(
        self,
        agent: LightningAgentModule,
        env: EnvLike,
        episodes: int,
        seed: int,
        max_episode_steps: int | None = None,
        env_timeout: float | None = WAIT_SECONDS,
        num_processes: int = 1,
    ) -> None:
        self.agent, self.episodes, self.seed = agent, episodes, seed
        self.num_processes = num_processes
        self.max_episode_steps, self.env_timeout = max_episode_steps, env_timeout
        self.source = env
        self.env: VectorEnv | None = None

    def make_env(self) -> VectorEnv:
        """Make the environment, unless there is one; it is kept until `close`.

        Raises:
            EnvError: if the environment can neither be copied nor made again.
            SpaceError: if it has other spaces than the agent.
        """
        if self.env is None:
            share = math.ceil(self.episodes / self.num_processes)
            env = make_separate_env(self.source, share)
            try:
                if self.agent.observation_space is not None:
                    self.agent.bind_spaces(env.single_observation_space, env.single_action_space)
            except SpaceError:
                close_env(env)
                raise
            self.env = env
        return self.env

    def close(self) -> None:
        """Close the environment; it is made again when it is needed."""
        env, self.env = self.env, None
        if env is not None:
            close_env(env)

    def __len__(self) -> int:
        """Count the batches: one."""
        return 1

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        """Play the episodes; of several processes each plays its share, and all get all results."""
        ranks = self.agent.ranks
        seed, share = ranks.broadcast(self.seed), ranks.share(self.episodes)
        result = self._play(len(share), seed + share.start)
        episodes = ranks.gather_rows(np.stack(result, axis=-1).astype(np.float32))
        returns, lengths = torch.from_numpy(episodes).unbind(-1)
        yield {"episode_return": returns.contiguous(), "episode_length": lengths.contiguous()}

    def _play(self, episodes: int, seed: int) -> EvaluationResult:
        if episodes == 0:  # there are more processes
            return EvaluationResult(np.zeros(0), np.zeros(0, dtype=np.int64))
        env = self.make_env()
        carry_statistics(env, self.agent.runner and self.agent.runner.env)
        limits = self.max_episode_steps, self.env_timeout
        try:
            return play_episodes(self.agent, env, episodes, seed, *limits)
        except StoppedError:  # what has ended so far would favour short episodes
            return EvaluationResult(np.array([np.nan]), np.array([0]))
