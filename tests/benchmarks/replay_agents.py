"""Replay agents and their buffer against Stable-Baselines3: same networks, steps and updates.

`dqn`, `sac` and `sampling` return seconds of both and their ratio, theirs / ours; `repeats` runs of
each are made in turn, and the medians compared. `learning` returns what is learned, how fast. Run
it by itself with

    OMP_NUM_THREADS=1 taskset -c 0 python tests/benchmarks/replay_agents.py
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

NUM_TRANSITIONS, BATCH_SIZE = 1_000_000, 256
DQN_BUDGET, SAC_BUDGET = 50_000, 8_000  # env steps in which the defaults solve their tasks
EPISODES, EVALUATION_SEED = 100, 10_000


def ours(agent: Any, env: str, env_steps: int, num_envs: int | None = None, seed: int = 0) -> Any:
    """Train with a default AgentTrainer: progress bar, logger and checkpoints on."""
    from lightning_rl import AgentTrainer

    with tempfile.TemporaryDirectory() as folder:
        trainer = AgentTrainer(
            max_env_steps=env_steps, num_envs=num_envs, seed=seed, accelerator="cpu",
            default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(agent, env)
    return agent


def our_dqn(env_steps: int, num_envs: int) -> int:
    """rl-zoo's setting for CartPole-v1 (hyperparams/dqn.yml), without double Q."""
    from lightning_rl import DQNAgent, DQNConfig
    from lightning_rl.networks.action_values import QNetwork

    config = DQNConfig(
        rollout_steps=256, gradient_steps=128, batch_size=64, learning_rate=2.3e-3, gamma=0.99,
        n_steps=1, buffer_capacity=100_000, learning_starts=1000, tau=1.0,
        target_update_interval=128, exploration_fraction=0.16, final_epsilon=0.04, double_q=False,
        anneal_learning_rate=False, max_grad_norm=10.0,
    )  # fmt: skip
    agent = DQNAgent(QNetwork((256, 256), layer_norm=False), config)
    return int(ours(agent, "CartPole-v1", env_steps, num_envs).num_updates)


def stable_dqn(env_steps: int, seed: int = 0) -> Any:
    """The same, by Stable-Baselines3, in one environment, as rl-zoo has it."""
    from stable_baselines3 import DQN

    model = DQN(
        "MlpPolicy", gym.make("CartPole-v1"), train_freq=256, gradient_steps=128, batch_size=64,
        learning_rate=2.3e-3, gamma=0.99, buffer_size=100_000, learning_starts=1000,
        target_update_interval=10, exploration_fraction=0.16, exploration_final_eps=0.04,
        policy_kwargs={"net_arch": [256, 256]}, seed=seed, device="cpu",
    )  # fmt: skip
    return model.learn(env_steps)


def our_sac(env_steps: int, num_envs: int) -> int:
    """SAC on Pendulum-v1: one update an env step, in blocks of 64."""
    from lightning_rl import SACAgent, SACConfig
    from lightning_rl.networks.action_values import SoftActorCriticNetwork

    config = SACConfig(
        rollout_steps=64, gradient_steps=64, batch_size=256, learning_rate=1e-3,
        critic_learning_rate=1e-3, learning_starts=256, tau=0.005,
    )  # fmt: skip
    agent = SACAgent(SoftActorCriticNetwork((256, 256)), config)
    return int(ours(agent, "Pendulum-v1", env_steps, num_envs).num_updates)


def stable_sac(env_steps: int, seed: int = 0, **settings: Any) -> Any:
    """rl-zoo's setting for Pendulum-v1: as above, but with one update after each env step."""
    from stable_baselines3 import SAC

    model = SAC(
        "MlpPolicy", gym.make("Pendulum-v1"), learning_rate=1e-3, seed=seed, device="cpu",
        **settings,
    )  # fmt: skip
    return model.learn(env_steps)


def per_update(
    our_run: Callable[[int], int],
    their_run: Callable[[int], int],
    env_steps: int,
    repeats: int,
    first: int,
) -> dict[str, float]:
    """Compare CPU seconds of whole runs, divided by their updates, where these differ a little.

    A short run of `first` env steps goes before, so that no imports are measured.
    """
    times: dict[str, list[float]] = {"ours": [], "theirs": []}
    updates = {}
    runs = {"ours": our_run, "theirs": their_run}
    for run in runs.values():
        run(first)
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.process_time()
            updates[name] = run(env_steps)
            times[name].append(time.process_time() - start)
    seconds = {name: statistics.median(values) for name, values in times.items()}
    cost = {name: seconds[name] / updates[name] for name in seconds}
    return {
        "ours_seconds": seconds["ours"],
        "theirs_seconds": seconds["theirs"],
        "ours_updates": updates["ours"],
        "theirs_updates": updates["theirs"],
        "ratio": cost["theirs"] / cost["ours"],
    }


def dqn(env_steps: int = 20_000, repeats: int = 5, num_envs: int = 8) -> dict[str, float]:
    """DQN on CartPole-v1 at rl-zoo's setting."""
    return per_update(
        lambda n: our_dqn(n, num_envs),
        lambda n: stable_dqn(n)._n_updates,
        env_steps,
        repeats,
        first=1300,
    )


def sac(env_steps: int = 3_000, repeats: int = 5, num_envs: int = 8) -> dict[str, float]:
    """SAC on Pendulum-v1 at the same networks, batch and updates an env step."""
    return per_update(
        lambda n: our_sac(n, num_envs),
        lambda n: stable_sac(n, learning_starts=256)._n_updates,
        env_steps,
        repeats,
        first=350,
    )


def buffers() -> tuple[Any, Any]:
    """A million transitions of CartPole-v1's shape in our buffer and in theirs."""
    from stable_baselines3.common.buffers import ReplayBuffer as StableBuffer

    from lightning_rl import ReplayBuffer

    box, two = spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(2)
    mine, stable = (
        ReplayBuffer(NUM_TRANSITIONS, 1, box, two),
        StableBuffer(NUM_TRANSITIONS, box, two),
    )
    state = mine.state_dict()
    arrays = dict(mine._arrays)
    arrays["flags"] = np.ones_like(mine.flags)
    mine.load_state_dict(state | {"is_full": True, "arrays": arrays})
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        getattr(stable, name)[:] = 0  # so that the pages are there
    mine.observations[:], mine.rewards[:], stable.full = 0, 0, True
    return mine, stable


def sampling(calls: int = 2000, repeats: int = 5) -> dict[str, float]:
    """Draw 256 of 1,000,000 transitions: microseconds a batch, and megabytes."""
    mine, stable = buffers()
    generator = torch.Generator()
    draws: dict[str, Callable[[], Any]] = {
        "ours": lambda: mine.sample(BATCH_SIZE, generator),
        "theirs": lambda: stable.sample(BATCH_SIZE),
    }
    times: dict[str, list[float]] = {"ours": [], "theirs": [], "ours_in_blocks": []}
    for _ in range(repeats):
        for name, draw in draws.items():
            start = time.process_time()
            for _ in range(calls):
                draw()
            times[name].append((time.process_time() - start) / calls * 1e6)
        start = time.process_time()
        for _ in mine.minibatches(calls, BATCH_SIZE, generator):
            pass
        times["ours_in_blocks"].append((time.process_time() - start) / calls * 1e6)
    names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
    megabytes = mine.nbytes / 1e6, sum(getattr(stable, name).nbytes for name in names) / 1e6
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        **{f"{name}_us": value for name, value in medians.items()},
        "ratio": medians["theirs"] / medians["ours"],
        "ours_mb": megabytes[0],
        "theirs_mb": megabytes[1],
        "memory_ratio": megabytes[1] / megabytes[0],
    }


def our_default(agent: Any, env: str, env_steps: int, seed: int) -> Callable[[], float]:
    """Train a default agent; give what evaluates it."""
    from lightning_rl import evaluate

    ours(agent, env, env_steps, seed=seed)
    return lambda: evaluate(agent, env, EPISODES, seed=EVALUATION_SEED).mean


def stable_score(model: Any, env: str) -> Callable[[], float]:
    """Give what evaluates a model of Stable-Baselines3: the same episodes, played greedily."""
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    def score() -> float:
        envs = make_vec_env(env, n_envs=EPISODES, seed=EVALUATION_SEED)
        mean, _ = evaluate_policy(model, envs, n_eval_episodes=EPISODES)
        return float(mean)  # type: ignore[arg-type]

    return score


def learning(seeds: int = 5) -> dict[str, dict[str, Any]]:
    """Train default agents, and Stable-Baselines3's at rl-zoo's settings, for the same env steps.

    Returns:
        For each: env_steps; mean_returns of 100 greedy episodes of the final policy, one number a
        seed; seconds of CPU time of a training, the median.
    """
    from lightning_rl import DQNAgent, SACAgent

    dqn_env, sac_env = "CartPole-v1", "Pendulum-v1"
    runs: dict[str, tuple[int, Callable[[int], Callable[[], float]]]] = {
        "dqn_ours": (DQN_BUDGET, lambda seed: our_default(DQNAgent(), dqn_env, DQN_BUDGET, seed)),
        "dqn_sb3": (DQN_BUDGET, lambda seed: stable_score(stable_dqn(DQN_BUDGET, seed), dqn_env)),
        "sac_ours": (SAC_BUDGET, lambda seed: our_default(SACAgent(), sac_env, SAC_BUDGET, seed)),
        "sac_sb3": (SAC_BUDGET, lambda seed: stable_score(stable_sac(SAC_BUDGET, seed), sac_env)),
    }
    return {
        name: {"env_steps": env_steps, **scores(run, seeds)}
        for name, (env_steps, run) in runs.items()
    }


def scores(run: Callable[[int], Callable[[], float]], seeds: int) -> dict[str, Any]:
    """Train and evaluate once for each seed; only the training is timed."""
    seconds, means = [], []
    for seed in range(seeds):
        start = time.process_time()
        score = run(seed)
        seconds.append(time.process_time() - start)
        means.append(round(score(), 1))
    return {"mean_returns": means, "seconds": statistics.median(seconds)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    for benchmark in (sampling, dqn, sac, learning):
        print(benchmark.__name__, json.dumps(benchmark(), indent=1))
