"""`agent.predict`: from what an environment shows to what it takes, as `evaluate` plays."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from lightning_rl import (
    AgentTrainer,
    DQNAgent,
    EnvDataLoader,
    PPOAgent,
    PPOConfig,
    ReinforceAgent,
    SACAgent,
    evaluate,
)
from lightning_rl.errors import ShapeError, StateError
from lightning_rl.testing.probe_envs import IdentityEnv
from tests.small_runs import SMALL


def bound(agent: Any, env: Any = "CartPole-v1") -> Any:
    EnvDataLoader(agent, env, num_envs=2, seed=0)
    return agent


def play(agent: Any, env: gym.Env, seed: int) -> float:
    """The loop on Gymnasium's front page."""
    observation, _ = env.reset(seed=seed)
    total, terminated, truncated = 0.0, False, False
    while not (terminated or truncated):
        action = agent.predict(observation)
        assert env.action_space.contains(action)
        observation, reward, terminated, truncated, _ = env.step(action)
        total += float(reward)
    return total


TASKS: dict[str, tuple[Any, Any]] = {
    "PPO": (lambda: PPOAgent(config=SMALL), "CartPole-v1"),
    "normalised": (
        lambda: PPOAgent(config=PPOConfig(**(vars(SMALL) | {"normalize_observations": True}))),
        "CartPole-v1",
    ),
    "REINFORCE": (lambda: ReinforceAgent(config={"rollout_steps": 128}), "CartPole-v1"),
    "DQN": (lambda: DQNAgent(config={"learning_starts": 128, "gradient_steps": 2}), "CartPole-v1"),
    "SAC": (
        lambda: SACAgent(config={"learning_starts": 256, "gradient_steps": 2}), "Pendulum-v1"
    ),
    "start": (
        lambda: PPOAgent(config=SMALL), lambda: IdentityEnv(spaces.Discrete(3, start=5))
    ),
    "bounds": (lambda: PPOAgent(config=SMALL), lambda: IdentityEnv(spaces.Box(0, 1, (1,)))),
    "Tuple": (lambda: PPOAgent(config=SMALL), "Blackjack-v1"),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_the_loop_of_deployment_plays_as_evaluate_does(task: str) -> None:
    make, env = TASKS[task]
    agent = make()
    AgentTrainer(max_env_steps=512, seed=0, quiet=True).fit(agent, env)
    make_env = (lambda: gym.make(env)) if isinstance(env, str) else env
    expected = evaluate(agent, make_env, episodes=3, seed=7)
    returns = [play(agent, make_env(), seed=7 + index) for index in range(3)]
    assert sorted(returns) == pytest.approx(sorted(expected.returns.tolist()))


def test_a_batch_is_answered_row_by_row() -> None:
    agent = bound(PPOAgent())
    batch = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    assert agent.predict(batch).tolist() == [agent.predict(row) for row in batch]


def test_training_is_not_touched() -> None:
    agent = bound(PPOAgent(config=PPOConfig(normalize_observations=True)))
    agent.train()
    agent.network.actor.eval()  # a part that is frozen
    modes = [module.training for module in agent.modules()]
    random_state, moments = agent.generator.get_state(), agent.state_dict()
    agent.predict(np.ones(4, np.float32))
    assert [module.training for module in agent.modules()] == modes
    assert torch.equal(agent.generator.get_state(), random_state)
    normalizer = "observation_normalizer._extra_state"
    assert agent.state_dict()[normalizer]["count"] == moments[normalizer]["count"]


def test_an_agent_that_is_evaluated_predicts_in_its_mode() -> None:
    agent = bound(PPOAgent()).eval()
    modes = [module.training for module in agent.modules()]
    agent.predict(np.ones(4, np.float32))
    assert [module.training for module in agent.modules()] == modes


def test_drawn_actions_come_from_the_agents_generator() -> None:
    agent = bound(PPOAgent())
    zeros = np.zeros((64, 4), np.float32)
    agent.generator.manual_seed(0)
    first, second = agent.predict(zeros, deterministic=False), agent.predict(zeros, False)
    assert (first != second).any()
    agent.generator.manual_seed(0)
    assert (agent.predict(zeros, deterministic=False) == first).all()


@pytest.mark.parametrize("shape", [(), (3,), (5,), (2, 3), (1, 2, 4), (0, 4)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"expected"):
        bound(PPOAgent()).predict(np.zeros(shape, np.float32))


def test_parts_of_a_dict_must_be_there_and_as_many() -> None:
    agent = bound(PPOAgent(), "Blackjack-v1")
    for observation in (np.zeros(3), {"0": 1}, {"0": [1, 2], "1": [1], "2": [0, 0]}):
        with pytest.raises(ShapeError, match="expected"):
            agent.predict(observation)


def test_an_agent_that_met_no_environment_says_so() -> None:
    with pytest.raises(StateError, match="not met an environment"):
        PPOAgent().predict(np.zeros(4))
