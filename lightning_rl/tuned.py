"""Named settings: what has learned an environment, with how many env steps, to which returns.

The defaults are made for CartPole-v1 (SAC's for Pendulum-v1). These are for other environments;
each was run with three seeds, and `returns` are the mean returns of 100 greedy episodes of each.
They start from RL Baselines3 Zoo's tables (https://github.com/DLR-RM/rl-baselines3-zoo), with
larger rollouts and learning rates annealed from higher: they need fewer env steps and less time.

Environments that need a million env steps or more, such as HalfCheetah-v5, Hopper-v5, Walker2d-v5
and Ant-v5, are left out until three seeds are run, and so is BipedalWalker-v3, which one seed of
PPO has learned. The settings of LunarLander-v3 are a place to begin with them.

What its tables say, and how to say it here. N is its `n_envs`:

| RL Baselines3 Zoo | here |
| --- | --- |
| `n_envs`, `n_timesteps` | `AgentTrainer(num_envs=..., max_env_steps=...)` |
| `n_steps` (PPO) | `rollout_steps` = N · `n_steps` |
| `n_epochs`, `ent_coef`, `vf_coef` (PPO) | `update_epochs`, `entropy_coef`, `value_coef` |
| `clip_range_vf`, `normalize_advantage` | `value_clip_range`, `normalize_advantages` |
| `lin_...` of a rate or range | `anneal_learning_rate`, `anneal_clip_range` |
| `normalize: true` | `normalize_observations` and `normalize_rewards` (PPO) |
| `train_freq`, `gradient_steps` (DQN, SAC) | `rollout_steps` = N · `train_freq`, `gradient_steps` |
| `buffer_size`, `exploration_final_eps` | `buffer_capacity`, `final_epsilon` |
| `target_update_interval` (DQN), in env steps | in updates: · `gradient_steps` / `rollout_steps` |
| DQN as it is | `double_q=False, n_steps=1`, `QNetwork(layer_norm=False)` |
| `ent_coef` (SAC): `auto`, `auto_0.1`, 0.1 | `initial_temperature`, `learn_temperature=False` |
| `learning_rate` (SAC) | `learning_rate` and `critic_learning_rate` |
| `net_arch`, `activation_fn` | `hidden_sizes` and `activation` of a network |
| `log_std_init` (PPO) | `ActorCriticNetwork(log_std=...)` |
| `frame_stack`, `env_wrapper` | Gymnasium's wrappers, in a function that makes the environment |

All others have the same names. It can't be said here: `use_sde` and `sde_sample_freq`, as such
noise is kept over several env steps and an agent here keeps nothing between two actions; networks
of different sizes for policy and value, `ortho_init: false`, and `exploration_initial_eps` other
than 1, for which a network or an agent of your own is the way; `learning_starts` below
`batch_size`, from which no minibatch could be drawn; `normalize` of DQN and SAC, which keep
observations as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lightning_rl.errors import ConfigError


@dataclass(frozen=True)
class TunedRun:
    """A run that was proven: its settings, its size and what came of it."""

    settings: dict[str, Any]  # of the config; the others have their defaults
    max_env_steps: int
    num_envs: int
    returns: tuple[float, ...]  # mean return of 100 greedy episodes, one a training seed


def tuned_run(config: str, env: str) -> TunedRun:
    """Give the run that was proven for an environment, for instance to train with its budget.

    Args:
        config: name of the config, such as "PPOConfig".
        env: name of the environment.

    Raises:
        ConfigError: if there is none, naming those there are.

    Example:
        >>> run = tuned_run("PPOConfig", "LunarLander-v3")
        >>> run.max_env_steps, run.num_envs
        (200000, 16)
        >>> from lightning_rl import AgentTrainer, PPOAgent, PPOConfig
        >>> trainer = AgentTrainer(max_env_steps=run.max_env_steps, num_envs=run.num_envs)
        >>> agent = PPOAgent(config=PPOConfig.for_env("LunarLander-v3"))
        >>> trainer.fit(agent, "LunarLander-v3")  # doctest: +SKIP
    """
    runs = TUNED.get(config, {})
    if env not in runs:
        others = [name for name, known in TUNED.items() if env in known]
        raise ConfigError(
            f"{config} has no named settings for {env!r}; it has some for {sorted(runs)}"
            + (f", and for {env!r} there are some of {others}" if others else "")
            + ". Take the defaults, or those of a similar environment, and try."
        )
    return runs[env]


NORMALIZED = {"normalize_observations": True, "normalize_rewards": True}
EVEN_CLIP = {"update_epochs": 10, "learning_rate": 1e-3, "anneal_clip_range": False}
LANDER = EVEN_CLIP | NORMALIZED | {
    "rollout_steps": 4096, "batch_size": 256, "gamma": 0.999, "gae_lambda": 0.98,
    "entropy_coef": 0.01,
}  # fmt: skip
PENDULUMS = EVEN_CLIP | NORMALIZED | {"rollout_steps": 2048, "batch_size": 256, "gamma": 0.99}

TUNED: dict[str, dict[str, TunedRun]] = {
    "PPOConfig": {
        "CartPole-v1": TunedRun({}, 65_536, 32, (500.0, 500.0, 500.0)),
        "Acrobot-v1": TunedRun(
            EVEN_CLIP | {
                "rollout_steps": 2048, "batch_size": 256, "gamma": 0.99, "gae_lambda": 0.94,
                "entropy_coef": 0.01, "normalize_observations": True,
            },
            100_000, 16, (-84.0, -85.0, -86.0),
        ),
        "MountainCar-v0": TunedRun(
            EVEN_CLIP | NORMALIZED | {
                "rollout_steps": 4096, "batch_size": 256, "update_epochs": 4, "gamma": 0.99,
                "gae_lambda": 0.98,
            },
            300_000, 16, (-109.7, -105.6, -114.1),
        ),
        "MountainCarContinuous-v0": TunedRun(
            EVEN_CLIP | NORMALIZED | {
                "rollout_steps": 8192, "batch_size": 512, "gamma": 0.9999, "gae_lambda": 0.9,
                "entropy_coef": 0.01,
            },
            100_000, 16, (94.4, 96.4, 94.6),
        ),
        "Pendulum-v1": TunedRun(
            EVEN_CLIP | {
                "rollout_steps": 2048, "batch_size": 128, "gamma": 0.9, "normalize_rewards": True,
            },
            100_000, 8, (-143.9, -186.8, -153.4),
        ),
        "LunarLander-v3": TunedRun(LANDER, 200_000, 16, (244.7, 233.6, 155.9)),
        "LunarLanderContinuous-v3": TunedRun(LANDER, 200_000, 16, (263.8, 260.9, 245.3)),
        "InvertedDoublePendulum-v5": TunedRun(PENDULUMS, 150_000, 8, (9331.3, 9327.4, 9331.7)),
        "InvertedPendulum-v5": TunedRun(PENDULUMS, 65_536, 8, (1000.0, 1000.0, 1000.0)),
    },
    "DQNConfig": {
        "CartPole-v1": TunedRun({}, 50_000, 8, (500.0, 500.0, 496.0)),
        "MountainCar-v0": TunedRun(
            {
                "rollout_steps": 128, "gradient_steps": 64, "batch_size": 128,
                "learning_rate": 2e-3, "target_update_interval": 100,
                "exploration_fraction": 0.2, "final_epsilon": 0.07,
            },
            100_000, 8, (-100.9, -101.0, -100.3),
        ),
    },
    "SACConfig": {"Pendulum-v1": TunedRun({}, 8_000, 8, (-126.0, -127.0, -128.0))},
}  # fmt: skip
