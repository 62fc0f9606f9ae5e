"""The chain from pictures to acting: who has seen only pictures learns in a dream of them.

1. collect pictures with random actions                       `make_random_trajectory`
2. learn to say a picture in a few numbers                    `train_eye`
3. look at all pictures with that eye                         `perceive`
4. learn what the environment does with those numbers         `train_world_model`
5. learn to act in what was learned                           `DreamEnv`, `AgentTrainer`
6. see what that is worth in the real environment             `evaluate(result.agent, result.env())`

The parts are those of Ha, Schmidhuber 2018, "World models", https://arxiv.org/abs/1803.10122: an
eye V, a memory M, a controller C; here with the world model and the agents that learn from states.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from lightning_rl.agent import LightningAgentModule
from lightning_rl.agents.ppo import PPOAgent
from lightning_rl.buffers.arrays import to_array
from lightning_rl.envs.closing import close_made
from lightning_rl.envs.runner import to_env_actions
from lightning_rl.envs.vectorize import EnvLike
from lightning_rl.evaluation import evaluation_mode
from lightning_rl.experiments.phases import PhaseLog
from lightning_rl.notebook.recording import EpisodeRecord
from lightning_rl.settings import seed_number
from lightning_rl.trainer import AgentTrainer
from lightning_rl.trajectories.collect import make_random_trajectory
from lightning_rl.trajectories.dataset import TrajectoryDataset
from lightning_rl.trajectories.recorder import open_recorder
from lightning_rl.worlds.chain import (
    FEW_BATCHES,
    QUIET,
    DreamConfig,
    log_collected,
    logger_of,
    mean_return,
    train_world_model,
)
from lightning_rl.worlds.dream_env import DreamEnv, visited_states
from lightning_rl.worlds.eye import Eye
from lightning_rl.worlds.film import DrawnDreamEnv, film_dream
from lightning_rl.worlds.percepts import PerceivedEnv, perceive
from lightning_rl.worlds.pictures import PictureEnv
from lightning_rl.worlds.world_model import WorldModel

Array = NDArray[Any]


@dataclass(frozen=True)
class PictureDreamConfig(DreamConfig):
    """Settings of the chain from pictures: those of `DreamConfig`, and the eye's training."""

    height: int = 16  # pixel rows
    width: int = 16  # pixel columns
    eye_epochs: int = 20  # passes over the pictures, each time
    eye_batch_size: int = 256
    known_range: float | None = 2.0  # times what the next line says, about its middle
    range_quantile: float = 0.005  # codes are skewed: known are all but so many at either end

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ConfigError: naming the setting that is out of its range.
        """
        super().__post_init__()
        self.require_counts("height", "width", "eye_epochs", "eye_batch_size")
        self.require_fractions("range_quantile")


class PictureDreamResult(NamedTuple):
    """What the chain made, and what it cost."""

    agent: LightningAgentModule
    eye: Eye
    model: WorldModel  # of percepts
    dream: DreamEnv  # in which the agent learned last
    pictures: TrajectoryDataset
    percepts: TrajectoryDataset  # the same env steps, as the eye sees them
    source: EnvLike
    size: tuple[int, int]  # of the pictures: rows, columns

    @property
    def real_steps(self) -> int:
        """Env steps made in the real environment."""
        return self.pictures.num_steps

    def env(self, num_envs: int = 100) -> PerceivedEnv:
        """Make the real environment, drawn, and seen with the eye: what the agent acts in.

        Args:
            num_envs: sub-environments, where the number is open; 1 for an `EpisodePlayer`.
        """
        return PerceivedEnv(PictureEnv(self.source, num_envs, *self.size), self.eye)

    def drawn_dream(self) -> DrawnDreamEnv:
        """Make one dream that begins where episodes did, drawn: for an `EpisodePlayer`."""
        starts = self.percepts.start_observations
        dream = DreamEnv(self.model, starts, 1, self.dream.horizon, self.dream.known_range)
        return DrawnDreamEnv(dream, self.eye)

    def film(
        self, seed: int = 0, num_steps: int = 60, members: Sequence[int] | None = None
    ) -> EpisodeRecord:
        """Let the agent act in the real environment, and dream on beside it: see `film_dream`.

        Args:
            seed: of the episode.
            num_steps: env steps of it, at most.
            members: of the ensemble.
        """
        one = drawn_env(self.source, 1, self.size)
        with one as drawn, tempfile.TemporaryDirectory() as scratch:
            seen = make_seen_trajectory(
                self.agent, self.eye, drawn, scratch, num_steps, seed, progress=False
            )
            longest = int(seen.episode_lengths.argmax())
            episode = seen.episode(longest)
            known: Any = self.dream.known_range
            return film_dream(self.model, self.eye, episode, 1, None, members, known)


@contextmanager
def drawn_env(source: EnvLike, num_envs: int, size: tuple[int, int]) -> Iterator[PictureEnv]:
    """Draw an environment, and close it if it was made here."""
    env = PictureEnv(source, num_envs, *size)
    try:
        yield env
    finally:
        close_made(env, source)


def train_eye(
    dataset: TrajectoryDataset,
    eye: Eye | None = None,
    config: PictureDreamConfig = PictureDreamConfig(),
    seed: int = 0,
    **trainer_options: Any,
) -> Eye:
    """Train an eye on a dataset of pictures, as the plain `lightning.Trainer` would.

    Args:
        dataset: of pictures, as `make_random_trajectory(PictureEnv(...), ...)` gives it.
        eye: one to go on with. Default: a new one.
        config: `eye_epochs` and `eye_batch_size` are used.
        seed: of the weights and of the order of the data; the caller's random numbers stay.
        **trainer_options: of `AgentTrainer`; nothing is logged or saved unless they say so.

    Raises:
        SpaceError: if the dataset is not of pictures.

    Example:
        >>> import tempfile
        >>> pictures = PictureEnv("CartPole-v1")
        >>> data = make_random_trajectory(pictures, tempfile.mkdtemp(), 200, progress=False)
        >>> eye = train_eye(data)  # doctest: +SKIP
        >>> eye.see(data[0]["observations"]).shape  # doctest: +SKIP
        torch.Size([4])
    """
    eye = Eye() if eye is None else eye
    options = {**QUIET, **FEW_BATCHES, "max_epochs": config.eye_epochs}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_number(seed))
        loader = DataLoader(dataset, config.eye_batch_size, shuffle=True)
        AgentTrainer(**options | trainer_options).fit(eye, loader, val_dataloaders=[])
    return eye


def known_percepts(
    percepts: TrajectoryDataset, num_codes: int, quantile: float = 0.005, factor: float = 1.0
) -> tuple[Array, Array]:
    """Give the range in which a dream of percepts goes on: the lowest and the highest, (D,) each.

    Args:
        percepts: whose values are known.
        num_codes: K. Only codes and their changes have a range; any last action is known.
        quantile: of the values, so many at either end are not.
        factor: on the range, about its middle.
    """
    states = visited_states(percepts)
    low, high = np.quantile(states, (quantile, 1 - quantile), axis=0)
    reach = np.where(np.arange(len(low)) < 2 * num_codes, (high - low) / 2 * factor, np.inf)
    middle = (low + high) / 2
    return middle - reach, middle + reach


def make_picture_dream(
    model: WorldModel,
    percepts: TrajectoryDataset,
    eye: Eye,
    config: PictureDreamConfig = PictureDreamConfig(),
) -> DreamEnv:
    """Make the dream of a world model of percepts, which ends where its numbers are unknown."""
    known: Any = config.known_range
    if known is not None:
        known = known_percepts(percepts, eye.config.num_codes, config.range_quantile, known)
    penalty = config.disagreement_penalty
    return DreamEnv(model, percepts, config.num_envs, config.horizon, known, penalty)


def learn_from_pictures(
    env: EnvLike,
    directory: str | Path,
    agent: LightningAgentModule | None = None,
    eye: Eye | None = None,
    model: WorldModel | None = None,
    config: PictureDreamConfig = PictureDreamConfig(),
    seed: int = 0,
    log: PhaseLog | None = None,
    **trainer_options: Any,
) -> PictureDreamResult:
    """Collect pictures, learn to see, learn the environment, learn to act in the dream.

    As `learn_in_dream`, from pictures: a further round collects pictures with the agent's policy,
    trains the eye and the world model on all there are, and the agent in the new dream.

    Args:
        env: what `make_vector_env` takes and `PictureEnv` can draw; it is copied, never stepped.
        directory: a new one, for the trajectories of pictures and of percepts.
        agent: default: `PPOAgent()`.
        eye: default: `Eye()`.
        model: default: `WorldModel()`.
        config: the settings.
        seed: of everything.
        log: of the phases `collect`, `eye`, `world_model` and `agent`. Default: nothing is logged.
        **trainer_options: of all three trainers, such as `accelerator="cpu"`.

    Example:
        >>> import tempfile
        >>> from lightning_rl import evaluate
        >>> result = learn_from_pictures("CartPole-v1", tempfile.mkdtemp())  # doctest: +SKIP
        >>> evaluate(result.agent, result.env()).mean  # doctest: +SKIP
        500.0
    """
    agent = PPOAgent() if agent is None else agent
    eye = Eye() if eye is None else eye
    model = WorldModel() if model is None else model
    folder, size = Path(directory), (config.height, config.width)
    is_quiet = trainer_options.get("quiet", False)
    progress = bool(trainer_options.get("enable_progress_bar", not is_quiet))
    with drawn_env(env, 16, size) as drawn:
        pictures = make_random_trajectory(
            drawn, folder / "pictures", config.random_steps, seed, progress=progress
        )
    before = 0
    for round_number in range(config.rounds + 1):
        log_collected(log, round_number, pictures, before)
        seeds = seed + round_number
        options = trainer_options | logger_of(log, "eye", round_number)
        train_eye(pictures, eye, config, seeds, **options)
        percepts = perceive(pictures, eye, folder / f"percepts_{round_number}")
        options = trainer_options | logger_of(log, "world_model", round_number)
        train_world_model(percepts, model, config, seeds, **options)
        dream = make_picture_dream(model, percepts, eye, config)
        options = {**QUIET, "max_env_steps": config.dream_steps, **trainer_options}
        options |= logger_of(log, "agent", round_number)
        AgentTrainer(seed=seeds, **options).fit(agent, dream)
        if round_number == config.rounds:
            break
        before = pictures.num_episodes
        with drawn_env(env, config.envs_per_round, size) as few:
            pictures = make_seen_trajectory(
                agent, eye, few, folder / "pictures", config.steps_per_round, seed, progress
            )
        target = config.target_return
        if target is not None and mean_return(pictures, before) >= target:
            break
    return PictureDreamResult(agent, eye, model, dream, pictures, percepts, env, size)


def make_seen_trajectory(
    agent: LightningAgentModule,
    eye: Eye,
    env: PictureEnv,
    directory: str | Path,
    num_steps: int,
    seed: int = 0,
    progress: bool = True,
) -> TrajectoryDataset:
    """Add to stored pictures those that an agent meets, which acts on what an eye makes of them.

    Args:
        agent: trained on percepts.
        eye: trained on such pictures.
        env: of pictures; it is copied, never stepped.
        directory: of the pictures.
        num_steps: exactly so many env steps are stored.
        seed: of the environments and of the agent's random numbers.
        progress: show a progress bar.

    Returns:
        All pictures in the directory.
    """
    agent.check_bound()
    with open_recorder(env, directory, num_steps, seed, env.num_envs, True) as recorder:
        runner = recorder.runner
        seen = PerceivedEnv(runner.env, eye)  # it is the runner that steps
        space, actions = runner.env.single_action_space, None

        def act(shown: Array) -> Array:
            nonlocal actions
            began = runner.lengths == 0
            percepts = seen.start(shown) if actions is None else seen.follow(actions, shown, began)
            chosen, _ = agent.act(agent.as_input(agent.prepare(percepts)))
            actions = to_env_actions(to_array(chosen), space)
            return actions

        with evaluation_mode(agent, recorder.seed):
            recorder.record(act, num_steps, progress)
    return TrajectoryDataset(directory)
