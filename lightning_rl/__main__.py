"""The command line: `python -m lightning_rl` trains PPO on CartPole-v1, unless told otherwise."""

import csv
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from itertools import count as numbers_from
from pathlib import Path
from typing import Any, Literal

from jsonargparse import auto_cli

from lightning_rl import (
    AgentTrainer,
    DQNAgent,
    DQNConfig,
    PPOAgent,
    PPOConfig,
    ReinforceAgent,
    ReinforceConfig,
    SACAgent,
    SACConfig,
)
from lightning_rl.agent import LightningAgentModule
from lightning_rl.errors import ConfigError, EnvError
from lightning_rl.evaluation import EvaluationResult, evaluate
from lightning_rl.experiments.media import log_media
from lightning_rl.experiments.phases import Kind, PhaseLog
from lightning_rl.experiments.seeds import SeedRuns, fit_seeds
from lightning_rl.experiments.sweep import sweep
from lightning_rl.notebook.curves import plot_returns
from lightning_rl.notebook.recording import EpisodeRecord, record_episode
from lightning_rl.settings import count
from lightning_rl.settings_files import without_files
from lightning_rl.stats.history import COLUMNS, EpisodeHistory
from lightning_rl.trajectories.collect import make_random_trajectory
from lightning_rl.worlds.chain import DreamConfig, learn_in_dream
from lightning_rl.worlds.picture_chain import PictureDreamConfig, learn_from_pictures
from lightning_rl.worlds.plots import plot_horizon_errors, plot_predictions
from lightning_rl.worlds.world_model import WorldModel

PICTURED_STEPS = 2000  # random env steps for a world model's pictures, learned from by nobody
PICTURED_WINDOW = 20  # steps ahead
SPACE: dict[str, Any] = {  # of a sweep: what all agents have
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "gamma": [0.95, 0.98, 0.99, 0.995],
}


def command(
    agent_class: Any, config_class: Any, default_env: str, default_budget: int
) -> Callable[..., None]:
    """Make the subcommand of one agent; the command line is built from its signature."""

    def train(
        env: str = default_env,
        max_env_steps: int = default_budget,
        num_envs: int | None = None,
        seed: int = 0,
        seeds: int = 1,
        episodes: int = 100,
        output_dir: str = f"runs/{agent_class.__name__}",
        log: Kind | None = None,
        settings: config_class = config_class(),
    ) -> None:
        """Train an agent, evaluate it, and write its curve, its episodes and a checkpoint.

        Args:
            env: name of a Gymnasium environment.
            max_env_steps: the budget, in env steps.
            num_envs: sub-environments; by default the agent's.
            seed: of weights, environments and random numbers.
            seeds: how many runs to make, from that seed on, a process a core.
            episodes: greedy episodes of the evaluation.
            output_dir: folder for the curve, the episodes, the logs and the checkpoint.
            log: where the run is logged, with its curve and an episode, in the folder `logs`: csv,
                tensorboard or wandb, which is offline unless WANDB_MODE=online. By default its
                scalars alone, as Lightning does. Each of several seeds is logged in its own folder.
            settings: the agent's settings.
        """
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        make_agent = partial(agent_class, config=settings)
        options: dict[str, Any] = {"max_env_steps": max_env_steps, "num_envs": num_envs}
        if seeds == 1:
            train_one(make_agent(), env, seed, episodes, folder, log, options)
            return
        check_logs_itself(log)
        numbers = range(seed, seed + count("seeds", seeds))
        runs = fit_seeds(make_agent, env, numbers, episodes=episodes, directory=folder, **options)
        write_seeds(runs, folder)

    return train


def train_one(
    agent: LightningAgentModule,
    env: str,
    seed: int,
    episodes: int,
    folder: Path,
    log: Kind | None,
    options: dict[str, Any],
) -> None:
    """Train an agent once, evaluate it, write what was reached, and log it."""
    name = type(agent).__name__
    with phase_log(log, False, folder, name, env=env, seed=seed) as phases:
        logger = None if phases is None else phases.phase("agent")
        trainer = AgentTrainer(seed=seed, default_root_dir=folder, logger=logger, **options)
        trainer.fit(agent, env)
        score = evaluate(agent, env, episodes=episodes, seed=seed)
        print(f"\n{name} on {env}, {agent.env_steps} env steps, seed {seed}")
        print(f"greedy evaluation: {score}")
        write_results(agent, trainer, folder)
        if phases is not None:
            episode = recorded(agent, env, seed)
            log_results(phases, agent, score, agent.env_steps, episode, "returns")


def check_logs_itself(log: Kind | None) -> None:
    """Check that several seeds, whose processes log by themselves, are not to be logged as one.

    Raises:
        ConfigError: if they are.
    """
    if log is not None:
        raise ConfigError(
            f"--log {log} with several --seeds; expected one of the two: each of several seeds is "
            "logged in its own folder, as Lightning does. Give --log and --seed for one run."
        )


def recorded(agent: LightningAgentModule, env: str, seed: int) -> EpisodeRecord | None:
    """Record an episode, or say why that can't be done: what was learned counts more."""
    try:
        return record_episode(agent, env, seed)
    except EnvError as error:
        print(f"no episode is logged: {error}")
        return None


def write_seeds(runs: SeedRuns, folder: Path) -> None:
    """Write the curve of several seeds, and say what they reach and where everything is."""
    print(f"\n{runs.name}, greedy evaluation of each seed\n{runs.table()}")
    if all(len(run.episodes) for run in runs):
        plot_returns(runs, path=str(folder / "returns.png"))
        print(f"{'curve':>10}: {(folder / 'returns.png').resolve()}")
    for run in runs:
        print(f"{f'seed {run.seed}':>10}: {(folder / f'seed_{run.seed}').resolve()}")


def write_results(agent: LightningAgentModule, trainer: AgentTrainer, folder: Path) -> None:
    """Write the curve, the episodes and a checkpoint, and say where they are."""
    names = {"curve": "returns.png", "episodes": "episodes.csv", "checkpoint": "agent.ckpt"}
    if not len(agent.episodes):
        print("no episode ended within the budget, so there is no curve; raise --max_env_steps")
        del names["curve"]
    paths = {what: folder / name for what, name in names.items()}
    if "curve" in paths:
        plot_returns(agent, path=str(paths["curve"]))
    write_csv(agent.episodes, paths["episodes"])
    trainer.save_checkpoint(paths["checkpoint"], weights_only=False)  # with the optimizer
    for what, path in paths.items():
        print(f"{what:>10}: {path.resolve()}")


def write_csv(history: EpisodeHistory, path: Path) -> None:
    """Write one line an episode."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(zip(*(history[name].tolist() for name in COLUMNS), strict=True))


def dream(
    env: str = "CartPole-v1",
    seed: int = 0,
    episodes: int = 100,
    output_dir: str = "runs/dream",
    log: Kind | None = None,
    split: bool = False,
    settings: DreamConfig = DreamConfig(),
    agent: PPOConfig = PPOConfig(),
) -> None:
    """Collect random env steps, learn a world model, and train PPO in it; then evaluate for real.

    With `dream --pixels`, all of it is learned from pictures, and a film is written: reality above,
    what was dreamt below. `dream --pixels --help` shows its settings.

    Args:
        env: name of a Gymnasium environment.
        seed: of everything.
        episodes: greedy episodes of the evaluation in the real environment.
        output_dir: folder for the trajectories, the pictures and the checkpoints.
        log: where the phases are logged, in the folder `logs`: csv, tensorboard or wandb, which is
            offline unless WANDB_MODE=online. By default nothing is logged.
        split: log each phase as a run of its own, instead of all in one run.
        settings: of collecting, of the world model's training and of the dream.
        agent: PPO's settings.
    """
    folder = Path(output_dir)
    directory = new_folder(folder)
    options: dict[str, Any] = {"default_root_dir": folder}
    learner = PPOAgent(config=agent)
    with phase_log(log, split, folder, "dream", env=env, seed=seed) as phases:
        result = learn_in_dream(env, directory, learner, None, settings, seed, phases, **options)
        score = evaluate(learner, env, episodes=episodes, seed=seed)
        if phases is not None:
            episode = record_episode(learner, env, seed)
            log_results(phases, learner, score, result.real_steps, episode)
    print(f"\nPPOAgent in a dream of {env}, {result.real_steps} real env steps, seed {seed}")
    print(f"greedy evaluation: {score}")
    trainer: Any = result.agent.trainer
    write_results(result.agent, trainer, folder)
    print(f"{'data':>10}: {directory.resolve()}")
    write_model(result.model, env, seed, folder)


def phase_log(
    kind: Kind | None, split: bool, folder: Path, name: str, **facts: Any
) -> AbstractContextManager[PhaseLog | None]:
    """Make the log of an experiment's phases, if there shall be one."""
    return nullcontext() if kind is None else PhaseLog(kind, folder / "logs", name, split, **facts)


def log_results(
    phases: PhaseLog,
    agent: LightningAgentModule,
    score: EvaluationResult,
    real_steps: int,
    episode: EpisodeRecord | None,
    curve: str = "dreamed_returns",
) -> None:
    """Log what was reached, by real env steps; the curve of training; and an episode, if any."""
    logger = phases.phase("evaluation")
    lengths = float(score.lengths.mean())
    logger.log_metrics({"episode_return": score.mean, "episode_length": lengths}, real_steps)
    if len(agent.episodes):
        log_media(logger, curve, plot_returns(agent), real_steps)
    if episode is not None:
        log_media(logger, "episode", episode, real_steps)
    print(f"{'logs':>10}: {phases.folder.resolve()}")


def new_folder(folder: Path) -> Path:
    """Name a folder for trajectories that does not exist yet."""
    paths = (folder / f"trajectories_{number}" for number in numbers_from())
    return next(path for path in paths if not path.exists())


def dream_in_pictures(
    env: str = "CartPole-v1",
    seed: int = 0,
    episodes: int = 100,
    output_dir: str = "runs/dream_in_pictures",
    film: str = "film.gif",
    log: Kind | None = None,
    split: bool = False,
    settings: PictureDreamConfig = PictureDreamConfig(),
    agent: PPOConfig = PPOConfig(),
) -> None:
    """Learn from random pictures to see, to dream and to act; then evaluate, and film, for real.

    Args:
        env: name of a Gymnasium environment that can be drawn.
        seed: of everything.
        episodes: greedy episodes of the evaluation in the real environment.
        output_dir: folder for the trajectories, the film and the checkpoints.
        film: name of the film; its ending chooses the format (`.gif`, `.png`, `.mp4`).
        log: where the phases are logged, in the folder `logs`: csv, tensorboard or wandb, which is
            offline unless WANDB_MODE=online. By default nothing is logged.
        split: log each phase as a run of its own, instead of all in one run.
        settings: of collecting, of the eye, of the world model's training and of the dream.
        agent: PPO's settings.
    """
    folder = Path(output_dir)
    directory = new_folder(folder)
    options: dict[str, Any] = {"default_root_dir": folder}
    learner = PPOAgent(config=agent)
    with phase_log(log, split, folder, "dream", env=env, seed=seed) as phases:
        options |= {"config": settings, "seed": seed, "log": phases}
        result = learn_from_pictures(env, directory, learner, **options)
        score = evaluate(learner, result.env(episodes), episodes=episodes, seed=seed)
        seen = result.film(seed)
        if phases is not None:
            log_results(phases, learner, score, result.real_steps, seen)
    print(f"\nPPOAgent in a dream of {env} in pictures, {result.real_steps} real env steps")
    print(f"greedy evaluation: {score}")
    trainer: Any = learner.trainer
    write_results(learner, trainer, folder)
    seen.save(folder / film)
    result.eye.trainer.save_checkpoint(folder / "eye.ckpt")
    result.model.trainer.save_checkpoint(folder / "world_model.ckpt")
    files = {"data": directory, "film": folder / film, "eye": folder / "eye.ckpt"}
    for what, path in (files | {"model": folder / "world_model.ckpt"}).items():
        print(f"{what:>10}: {path.resolve()}")


def write_model(model: WorldModel, env: str, seed: int, folder: Path) -> None:
    """Write a world model's checkpoint, and pictures of how well it predicts new env steps."""
    model.trainer.save_checkpoint(folder / "world_model.ckpt")
    with tempfile.TemporaryDirectory() as scratch:
        steps = make_random_trajectory(
            env, scratch, PICTURED_STEPS, seed + 1_000_000, progress=False
        )
        windows = steps.with_window(min(PICTURED_WINDOW, int(steps.episode_lengths.max())))
        batch = windows[list(range(len(windows)))]
    plot_predictions(model, batch, path=str(folder / "predictions.png"))
    plot_horizon_errors(model, batch, path=str(folder / "horizon_errors.png"))
    names = {"predicted": "predictions", "errors": "horizon_errors"}
    for what, name in names.items():
        print(f"{what:>10}: {(folder / name).resolve()}.png")
    print(f"{'model':>10}: {(folder / 'world_model.ckpt').resolve()}")


def sweep_settings(
    agent: Literal["ppo", "reinforce", "dqn", "sac"] = "ppo",
    env: str = "CartPole-v1",
    space: dict[str, Any] = SPACE,
    trials: int = 20,
    seeds: int = 3,
    max_env_steps: int = 65_536,
    num_envs: int | None = None,
    episodes: int = 20,
    processes: int | None = None,
    prune: bool = True,
    output_dir: str = "runs/sweep",
) -> None:
    """Look for good settings; the same command goes on with what was interrupted.

    Args:
        agent: whose settings they are.
        env: name of a Gymnasium environment.
        space: of each setting a list of choices, or a range, as the default shows.
        trials: settings to try, in all.
        seeds: runs of each, from seed 0 on.
        max_env_steps: the budget of a run, in env steps.
        num_envs: sub-environments; by default the agent's.
        episodes: greedy episodes of each seed's evaluation.
        processes: trials at a time; by default one a core.
        prune: end hopeless trials early.
        output_dir: folder of this sweep, and of nothing else.
    """
    classes: dict[str, Any] = {
        "ppo": PPOAgent, "reinforce": ReinforceAgent, "dqn": DQNAgent, "sac": SACAgent,
    }  # fmt: skip
    found = sweep(
        classes[agent], env, space, output_dir, trials, range(count("seeds", seeds)),
        episodes=episodes, processes=processes, prune=prune,
        max_env_steps=max_env_steps, num_envs=num_envs,
    )  # fmt: skip
    print(
        f"\n{classes[agent].__name__} on {env}, greedy return over {seeds} seeds\n{found.table()}"
    )
    print(f"{'best':>10}: {found.best.settings}")
    path = Path(output_dir) / "returns.png"
    found.plot(path=str(path))
    print(f"{'curves':>10}: {path.resolve()}")


COMMANDS: dict[str, Any] = {
    "ppo": command(PPOAgent, PPOConfig, "CartPole-v1", 65_536),
    "reinforce": command(ReinforceAgent, ReinforceConfig, "CartPole-v1", 200_000),
    "dqn": command(DQNAgent, DQNConfig, "CartPole-v1", 50_000),
    "sac": command(SACAgent, SACConfig, "Pendulum-v1", 20_000),
    "dream": dream,
    "sweep": sweep_settings,
}
PIXELS = {"dream": dream_in_pictures}  # what `--pixels` makes of a subcommand


def main(args: list[str] | None = None) -> None:
    """Read the command line; without a subcommand, train PPO."""
    args = without_files(sys.argv[1:] if args is None else args)
    if not args or args[0] not in (*COMMANDS, "-h", "--help"):
        args = ["ppo", *args]
    commands = COMMANDS
    if args[0] in PIXELS and "--pixels" in args:
        args, commands = [a for a in args if a != "--pixels"], COMMANDS | PIXELS
    auto_cli(commands, args=args, prog="python -m lightning_rl")


if __name__ == "__main__":
    main()
