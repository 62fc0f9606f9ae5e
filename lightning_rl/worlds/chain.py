"""The chain from collecting to acting, each step one function.

1. collect env steps with random actions                      `make_random_trajectory`
2. learn what the environment does                            `train_world_model`
3. learn to act in what was learned                           `train_in_dream`
4. see what that is worth in the real environment             `evaluate`

`learn_in_dream` does it all, and repeats it with what the agent meets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lightning_rl.agent import LightningAgentModule
from lightning_rl.agents.ppo import PPOAgent
from lightning_rl.envs.vectorize import EnvLike
from lightning_rl.experiments.phases import PhaseLog, log_episodes
from lightning_rl.settings import Settings, seed_number
from lightning_rl.trainer import AgentTrainer
from lightning_rl.trajectories.collect import make_random_trajectory, make_trajectory
from lightning_rl.trajectories.dataset import TrajectoryDataset
from lightning_rl.worlds.dream_env import DreamEnv
from lightning_rl.worlds.dream_on_device import DreamOnDevice
from lightning_rl.worlds.world_model import WorldModel


@dataclass(frozen=True)
class DreamConfig(Settings):
    """Settings of the chain. The defaults solve CartPole-v1 with 10,000 random env steps."""

    random_steps: int = 10_000  # real env steps collected with random actions
    rounds: int = 0  # how often to go on with what the agent meets, at most
    steps_per_round: int = 2000  # real env steps of a further round
    envs_per_round: int = 4  # copies of the environment that share them
    target_return: float | None = None  # no further round if the agent's own episodes reach it
    model_epochs: int = 25  # passes over the data, each time
    batch_size: int = 512  # of the world model's minibatches
    dream_steps: int = 65_536  # env steps the agent dreams, each time
    num_envs: int = 32  # dreams side by side
    horizon: int = 500  # env steps of a dream
    known_range: float | None = 0.8  # see `DreamEnv`
    disagreement_penalty: float = 0.0  # see `DreamEnv`
    on_device: bool = False  # dream on the agent's device: see `DreamOnDevice`

    def __post_init__(self) -> None:
        """Check the ranges that no other part checks.

        Raises:
            ConfigError: naming the setting that is out of its range.
        """
        super().__post_init__()
        self.require_counts(
            "random_steps",
            "steps_per_round",
            "envs_per_round",
            "model_epochs",
            "batch_size",
            "dream_steps",
            "num_envs",
            "horizon",
        )
        self.require_not_negative("rounds")


class DreamResult(NamedTuple):
    """What the chain made, and what it cost."""

    agent: LightningAgentModule
    model: WorldModel
    dataset: TrajectoryDataset
    real_steps: int  # env steps made in the real environment, the dataset's


QUIET = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
FEW_BATCHES = {"limit_val_batches": 0, "log_every_n_steps": 1}  # losses come once an epoch


def train_world_model(
    dataset: Dataset[Any],
    model: WorldModel | None = None,
    config: DreamConfig = DreamConfig(),
    seed: int = 0,
    **trainer_options: Any,
) -> WorldModel:
    """Train a world model on a dataset, as the plain `lightning.Trainer` would.

    Args:
        dataset: of env steps, such as a `TrajectoryDataset`.
        model: one to go on with. Default: a new one.
        config: `model_epochs` and `batch_size` are used.
        seed: of the weights and of the order of the data; the caller's random numbers stay.
        **trainer_options: of `AgentTrainer`; nothing is logged or saved unless they say so.

    Example:
        >>> import tempfile
        >>> dataset = make_random_trajectory("CartPole-v1", tempfile.mkdtemp(), 200, progress=False)
        >>> model = train_world_model(dataset)  # doctest: +SKIP
        >>> model.predict(torch.zeros(1, 4), torch.zeros(1, 3)).mean.shape  # doctest: +SKIP
        torch.Size([1, 3, 4])
    """
    model = WorldModel() if model is None else model
    options = {**QUIET, **FEW_BATCHES, "max_epochs": config.model_epochs}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_number(seed))
        loader = DataLoader(dataset, config.batch_size, shuffle=True)
        AgentTrainer(**options | trainer_options).fit(model, loader, val_dataloaders=[])
    return model


def train_in_dream(
    agent: LightningAgentModule,
    model: WorldModel,
    starts: Any,
    config: DreamConfig = DreamConfig(),
    seed: int = 0,
    **trainer_options: Any,
) -> LightningAgentModule:
    """Train an agent in what a world model predicts; the real environment is not touched.

    Args:
        agent: a new agent, or one to go on with.
        model: a trained world model.
        starts: what `DreamEnv` takes: a dataset, or states.
        config: the settings of the dream.
        seed: of weights, dreams and random numbers.
        **trainer_options: of `AgentTrainer`; nothing is logged or saved unless they say so.

    Returns:
        The agent. Its `env_steps` and `episodes` are those of its dreams.
    """
    limits = (config.horizon, config.known_range, config.disagreement_penalty)
    kind = DreamOnDevice if config.on_device else DreamEnv
    dream = kind(model, starts, config.num_envs, *limits)
    options = {**QUIET, "max_env_steps": config.dream_steps, **trainer_options}
    AgentTrainer(seed=seed, **options).fit(agent, dream)
    return agent


def learn_in_dream(
    env: EnvLike,
    directory: str | Path,
    agent: LightningAgentModule | None = None,
    model: WorldModel | None = None,
    config: DreamConfig = DreamConfig(),
    seed: int = 0,
    log: PhaseLog | None = None,
    **trainer_options: Any,
) -> DreamResult:
    """Collect, learn the environment, learn to act in the dream; repeat with what the agent meets.

    A further round collects real env steps with the agent's policy, adds them to the data, trains
    the world model on all of them and the agent in the new dream. With `target_return`, the
    rounds stop once the mean return of the episodes so collected reaches it. Those env steps are
    counted like all others, and nothing else of the real environment decides anything: it is not
    evaluated here.

    Args:
        env: what `make_vector_env` takes; it is copied, never stepped.
        directory: a new one, for the trajectories.
        agent: default: `PPOAgent()`.
        model: default: `WorldModel()`.
        config: the settings.
        seed: of everything.
        log: of the phases `collect`, `world_model` and `agent`. Default: nothing is logged.
        **trainer_options: of both trainers, such as `accelerator="cpu"`.

    Example:
        >>> import tempfile
        >>> from lightning_rl import evaluate
        >>> result = learn_in_dream("CartPole-v1", tempfile.mkdtemp())  # doctest: +SKIP
        >>> result.real_steps  # doctest: +SKIP
        10000
        >>> evaluate(result.agent, "CartPole-v1").mean  # doctest: +SKIP
        500.0
    """
    agent = PPOAgent() if agent is None else agent
    model = WorldModel() if model is None else model
    seed = seed_number(seed)
    is_quiet = trainer_options.get("quiet", False)
    progress = bool(trainer_options.get("enable_progress_bar", not is_quiet))
    dataset = make_random_trajectory(env, directory, config.random_steps, seed, progress=progress)
    before = 0
    for round_number in range(config.rounds + 1):
        log_collected(log, round_number, dataset, before)
        seeds = seed + round_number
        options = trainer_options | logger_of(log, "world_model", round_number)
        train_world_model(dataset, model, config, seeds, **options)
        options = trainer_options | logger_of(log, "agent", round_number)
        train_in_dream(agent, model, dataset, config, seeds, **options)
        if round_number == config.rounds:
            break
        before = dataset.num_episodes
        dataset = make_trajectory(
            agent, env, directory, config.steps_per_round, seed,
            num_envs=config.envs_per_round, append=True, progress=progress,
        )  # fmt: skip
        target = config.target_return
        if target is not None and mean_return(dataset, before) >= target:
            break
    return DreamResult(agent, model, dataset, dataset.num_steps)


def logger_of(log: PhaseLog | None, phase: str, round_number: int) -> dict[str, Any]:
    """Give the trainer's option for a phase's logger; none if nothing is logged."""
    return {} if log is None else {"logger": log.phase(phase, round_number)}


def log_collected(
    log: PhaseLog | None, round_number: int, dataset: TrajectoryDataset, first_episode: int
) -> None:
    """Log the episodes that were collected last, by the real env steps until their ends."""
    if log is None:
        return
    episodes = [dataset.episode(i) for i in range(dataset.num_episodes)]
    lengths = [len(episode["rewards"]) for episode in episodes]
    ended = [bool(e["terminated"][-1] | e["truncated"][-1]) for e in episodes]
    returns = [
        float(episode["rewards"].sum()) if whole else math.nan
        for episode, whole in zip(episodes, ended, strict=True)
    ]
    before, new = sum(lengths[:first_episode]), slice(first_episode, None)
    log_episodes(log.phase("collect", round_number), returns[new], lengths[new], before)


def mean_return(dataset: TrajectoryDataset, first_episode: int = 0) -> float:
    """Average the returns of a dataset's episodes, from one on, that ended; -inf if none did."""
    episodes = (dataset.episode(i) for i in range(first_episode, dataset.num_episodes))
    ended = [e for e in episodes if bool(e["terminated"][-1] | e["truncated"][-1])]
    return float(np.mean([float(e["rewards"].sum()) for e in ended])) if ended else -math.inf
