"""The main job: `python -m lightning_rl` trains PPO on CartPole-v1 and shows what it learned."""

import csv
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from lightning_rl.history import COLUMNS, EpisodeHistory
from lightning_rl.plotting import plot_returns
from lightning_rl.loader import evaluate


def command(
    agent_class: Any, config_class: Any, default_env: str, default_budget: int
) -> Callable[..., None]:
    """Make the subcommand of one agent; the command line is built from its signature."""

    def train(
        env: str = default_env,
        max_env_steps: int = default_budget,
        num_envs: int | None = None,
        seed: int = 0,
        episodes: int = 100,
        output_dir: str = f"runs/{agent_class.__name__}",
        settings: config_class = config_class(),
    ) -> None:
        """Train an agent, evaluate it, and write its curve, its episodes and a checkpoint.

        Args:
            env: name of a Gymnasium environment.
            max_env_steps: the budget, in env steps.
            num_envs: sub-environments; by default the agent's.
            seed: of weights, environments and random numbers.
            episodes: greedy episodes of the evaluation.
            output_dir: folder for the curve, the episodes, the logs and the checkpoint.
            settings: the agent's settings.
        """
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        trainer = AgentTrainer(
            max_env_steps=max_env_steps, num_envs=num_envs, seed=seed, default_root_dir=folder
        )
        agent = agent_class(config=settings)
        trainer.fit(agent, env)
        print(f"\n{agent_class.__name__} on {env}, {agent.env_steps} env steps, seed {seed}")
        print(f"greedy evaluation: {evaluate(agent, env, episodes=episodes, seed=seed)}")
        write_results(agent, trainer, folder)

    return train


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


COMMANDS: dict[str, Any] = {
    "ppo": command(PPOAgent, PPOConfig, "CartPole-v1", 65_536),
    "reinforce": command(ReinforceAgent, ReinforceConfig, "CartPole-v1", 200_000),
    "dqn": command(DQNAgent, DQNConfig, "CartPole-v1", 50_000),
    "sac": command(SACAgent, SACConfig, "Pendulum-v1", 20_000),
}


def main(args: list[str] | None = None) -> None:
    """Read the command line; without a subcommand, train PPO."""
    args = sys.argv[1:] if args is None else args
    if not args or args[0] not in (*COMMANDS, "-h", "--help"):
        args = ["ppo", *args]
    auto_cli(COMMANDS, args=args, prog="python -m lightning_rl")


if __name__ == "__main__":
    main()
