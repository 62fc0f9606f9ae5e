"""The main job: `python -m lightning_rl` trains PPO on CartPole-v1 and shows what it learned."""

from __future__ import annotations

import csv
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
from lightning_rl.live import plot_returns
from lightning_rl.loader import evaluate


def run(
    agent: LightningAgentModule,
    env: str,
    max_env_steps: int,
    num_envs: int | None,
    seed: int,
    episodes: int,
    output_dir: str,
) -> None:
    """Train, evaluate, and write the curve, the episodes and a checkpoint."""
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    trainer = AgentTrainer(
        max_env_steps=max_env_steps, num_envs=num_envs, seed=seed, default_root_dir=folder
    )
    trainer.fit(agent, env)
    result = evaluate(agent, env, episodes=episodes, seed=seed)
    curve, table, checkpoint = (folder / n for n in ("returns.png", "episodes.csv", "agent.ckpt"))
    plot_returns(agent, path=str(curve))
    write_csv(agent.episodes, table)
    trainer.save_checkpoint(checkpoint, weights_only=False)  # with the optimizer
    print(f"\n{type(agent).__name__} on {env}, {agent.env_steps} env steps, seed {seed}")
    print(f"greedy evaluation: {result}")
    for name, path in (("curve", curve), ("episodes", table), ("checkpoint", checkpoint)):
        print(f"{name:>10}: {path.resolve()}")


def write_csv(history: EpisodeHistory, path: Path) -> None:
    """Write one line an episode."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(zip(*(history[name].tolist() for name in COLUMNS), strict=True))


def ppo(
    env: str = "CartPole-v1",
    max_env_steps: int = 65_536,
    num_envs: int | None = None,
    seed: int = 0,
    episodes: int = 100,
    output_dir: str = "runs/ppo",
    settings: PPOConfig = PPOConfig(),
) -> None:
    """Train PPO and evaluate it.

    Args:
        env: name of a Gymnasium environment.
        max_env_steps: the budget, in env steps.
        num_envs: sub-environments; by default the agent's.
        seed: of weights, environments and random numbers.
        episodes: greedy episodes of the evaluation.
        output_dir: folder for the curve, the episodes, the logs and the checkpoint.
        settings: PPO's settings.
    """
    run(PPOAgent(config=settings), env, max_env_steps, num_envs, seed, episodes, output_dir)


def reinforce(
    env: str = "CartPole-v1",
    max_env_steps: int = 200_000,
    num_envs: int | None = None,
    seed: int = 0,
    episodes: int = 100,
    output_dir: str = "runs/reinforce",
    settings: ReinforceConfig = ReinforceConfig(),
) -> None:
    """Train REINFORCE and evaluate it.

    Args:
        env: name of a Gymnasium environment.
        max_env_steps: the budget, in env steps.
        num_envs: sub-environments; by default the agent's.
        seed: of weights, environments and random numbers.
        episodes: greedy episodes of the evaluation.
        output_dir: folder for the curve, the episodes, the logs and the checkpoint.
        settings: REINFORCE's settings.
    """
    run(ReinforceAgent(config=settings), env, max_env_steps, num_envs, seed, episodes, output_dir)


def dqn(
    env: str = "CartPole-v1",
    max_env_steps: int = 50_000,
    num_envs: int | None = None,
    seed: int = 0,
    episodes: int = 100,
    output_dir: str = "runs/dqn",
    settings: DQNConfig = DQNConfig(),
) -> None:
    """Train DQN and evaluate it.

    Args:
        env: name of a Gymnasium environment.
        max_env_steps: the budget, in env steps.
        num_envs: sub-environments; by default the agent's.
        seed: of weights, environments and random numbers.
        episodes: greedy episodes of the evaluation.
        output_dir: folder for the curve, the episodes, the logs and the checkpoint.
        settings: DQN's settings.
    """
    run(DQNAgent(config=settings), env, max_env_steps, num_envs, seed, episodes, output_dir)


def sac(
    env: str = "Pendulum-v1",
    max_env_steps: int = 20_000,
    num_envs: int | None = None,
    seed: int = 0,
    episodes: int = 100,
    output_dir: str = "runs/sac",
    settings: SACConfig = SACConfig(),
) -> None:
    """Train SAC and evaluate it.

    Args:
        env: name of a Gymnasium environment.
        max_env_steps: the budget, in env steps.
        num_envs: sub-environments; by default the agent's.
        seed: of weights, environments and random numbers.
        episodes: greedy episodes of the evaluation.
        output_dir: folder for the curve, the episodes, the logs and the checkpoint.
        settings: SAC's settings.
    """
    run(SACAgent(config=settings), env, max_env_steps, num_envs, seed, episodes, output_dir)


def main(args: list[str] | None = None) -> None:
    """Read the command line; without a subcommand, train PPO."""
    import sys

    args = sys.argv[1:] if args is None else args
    commands: dict[str, Any] = {"ppo": ppo, "reinforce": reinforce, "dqn": dqn, "sac": sac}
    if not args or args[0] not in (*commands, "-h", "--help"):
        args = ["ppo", *args]
    auto_cli(commands, args=args, prog="python -m lightning_rl")


if __name__ == "__main__":
    main()
