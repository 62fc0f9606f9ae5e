"""Whatever dtype or bounds a space has, the same task is learned alike."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import Space, spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch.testing import assert_close

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
    evaluate,
)
from lightning_rl.testing import IdentityEnv

PPO = PPOConfig(rollout_steps=128, batch_size=64, update_epochs=4)
REPLAY = {"learning_starts": 64, "batch_size": 64, "rollout_steps": 64, "gradient_steps": 16}


def fit(agent: Any, env: Any, steps: int = 256) -> Any:
    AgentTrainer(max_env_steps=steps, num_envs=4, seed=0, quiet=True).fit(agent, env)
    return agent


def assert_same_weights(agent: Any, other: Any) -> None:
    assert_close(agent.state_dict(), other.state_dict(), rtol=1e-4, atol=1e-5)


# ---- choices of every integer dtype --------------------------------------------------------------


def agents_of_choices(space: Space) -> list[Any]:
    agents = [PPOAgent(config=PPO), ReinforceAgent(config=ReinforceConfig(rollout_steps=128))]
    discrete = isinstance(space, spaces.Discrete)
    return [*agents, DQNAgent(config=DQNConfig(**REPLAY))] if discrete else agents  # type: ignore[arg-type]


class Chosen(gym.Env):
    """Pays for the last of the choices; observes random numbers, which no dtype changes."""

    observation_space = spaces.Box(0, 1, (2,))

    def __init__(self, space: Space) -> None:
        self.action_space = space

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self.np_random.random(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action)
        self.t += 1
        reward = float(np.sum(action))
        return self.np_random.random(2, np.float32), reward, self.t == 8, False, {}


@pytest.mark.parametrize("dtype", [np.int32, np.uint8])
@pytest.mark.parametrize(
    "make",
    [
        lambda dtype: spaces.Discrete(3, dtype=dtype),
        lambda dtype: spaces.Discrete(3, start=2, dtype=dtype),
        lambda dtype: spaces.MultiDiscrete([3, 2], dtype=dtype),
    ],
    ids=["discrete", "discrete_start", "multi_discrete"],
)
def test_choices_of_every_dtype_are_learned_as_those_of_int64(make: Any, dtype: Any) -> None:
    usual = agents_of_choices(make(np.int64))
    for agent, other in zip(agents_of_choices(make(dtype)), usual, strict=True):
        fit(agent, lambda: Chosen(make(dtype)))
        assert_same_weights(agent, fit(other, lambda: Chosen(make(np.int64))))


# ---- boxes of actions ----------------------------------------------------------------------------


class Dial(gym.Env):
    """Turn a dial to the middle of the range's upper half."""

    observation_space = spaces.Box(-1, 1, (1,))

    def __init__(self, low: float, high: float, dtype: Any = np.float32) -> None:
        self.action_space = spaces.Box(low, high, (1,), dtype)
        self.low, self.width = low, high - low

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action)
        self.t += 1
        fraction = (float(action[0]) - self.low) / self.width
        return np.zeros(1, np.float32), 1 - abs(fraction - 0.75), False, self.t == 10, {}


BOUNDS = [(-1, 1), (0, 100), (-1000, 1000), (0, 1e-3), (5, 7)]


@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
@pytest.mark.parametrize("agent_class", [PPOAgent, ReinforceAgent])
def test_the_units_of_the_actions_do_not_matter(agent_class: Any, bounds: Any) -> None:
    """The returns are those of actions within ±1, but for rounding."""
    config: Any = PPO if agent_class is PPOAgent else ReinforceConfig(rollout_steps=128)
    found = []
    for low, high in (bounds, (-1, 1)):
        agent = fit(agent_class(config=config), lambda low=low, high=high: Dial(low, high))
        found.append(agent.episodes["episode_return"])
    np.testing.assert_allclose(*found, atol=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("bounds", BOUNDS, ids=str)
def test_ppo_solves_the_dial_in_any_units(bounds: Any, seed: int) -> None:
    """Where it was blind to the bounds, 0 to 100 got 4 of 10. Within ±1 it gets 9.7 to 9.9."""
    agent = PPOAgent()
    AgentTrainer(max_env_steps=16_384, seed=seed, quiet=True).fit(agent, lambda: Dial(*bounds))
    assert evaluate(agent, lambda: Dial(*bounds), episodes=5).mean > 9.6


@pytest.mark.parametrize(("low", "dtype"), [(-3, np.int64), (0, np.uint8)])
def test_integer_actions_are_learned_as_they_were_drawn(low: int, dtype: Any) -> None:
    """The environment gets them rounded, the loss does not: it knows their probability."""
    for agent in (PPOAgent(config=PPO), SACAgent(config=SACConfig(**REPLAY))):  # type: ignore[arg-type]
        stored = fit(agent, lambda: Dial(low, 3, dtype)).replay_buffer.actions
        assert stored.dtype == np.float32
        assert (stored % 1 != 0).any()
    agent = fit(PPOAgent(config=PPO), lambda: Dial(low, 3, dtype), 4096)
    assert evaluate(agent, lambda: Dial(low, 3, dtype), episodes=5).mean > 9


# ---- normalised integers -------------------------------------------------------------------------


class Threshold(gym.Env):
    """Pays 1 if the action says whether the observed number, 0 to 1000, is above 500."""

    action_space = spaces.Discrete(2)

    def __init__(self, dtype: Any) -> None:
        self.observation_space = spaces.Box(0, 1000, (1,), dtype)

    def draw(self) -> Any:
        self.x = int(self.np_random.integers(0, 1001))
        return np.array([self.x], self.observation_space.dtype)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        return self.draw(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.t += 1
        reward = float(action == (self.x > 500))
        return self.draw(), reward, False, self.t == 20, {}


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("dtype", [np.int32, np.uint16, np.int64])
def test_normalised_integers_are_learned_as_real_numbers(dtype: Any, mode: AutoresetMode) -> None:
    config = PPOConfig(**(vars(PPO) | {"normalize_observations": True}))
    agents, results = [], []
    for kind in (dtype, np.float32):
        envs = SyncVectorEnv([lambda k=kind: Threshold(k)] * 4, autoreset_mode=mode)
        agents.append(fit(PPOAgent(config=config), envs, 512))
        results.append(evaluate(agents[-1], lambda k=kind: Threshold(k), episodes=8).mean)
    assert agents[0].replay_buffer.observations.dtype == np.float32
    assert (agents[0].replay_buffer.observations % 1 != 0).any()
    assert_same_weights(*agents)
    assert results[0] == results[1]


# ---- tuples --------------------------------------------------------------------------------------


class Pair(IdentityEnv):
    """Observes the state within a Tuple, beside a number that means nothing."""

    def __init__(self, kind: str) -> None:
        super().__init__(spaces.Discrete(3))
        parts = (spaces.Box(0, 1, (1,)), spaces.Discrete(3))
        self.kind = kind
        named = {"0": parts[0], "1": parts[1]}
        self.observation_space = spaces.Tuple(parts) if kind == "tuple" else spaces.Dict(named)

    def _observe(self) -> Any:
        pair = (self.np_random.random(1, np.float32), super()._observe())
        return pair if self.kind == "tuple" else {"0": pair[0], "1": pair[1]}


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("agent_class", [PPOAgent, ReinforceAgent, DQNAgent])
def test_a_tuple_is_learned_from_as_a_dict(agent_class: Any, mode: AutoresetMode) -> None:
    agents, results = [], []
    for kind in ("tuple", "dict"):
        envs = SyncVectorEnv([lambda k=kind: Pair(k)] * 4, autoreset_mode=mode)
        agent = agents_of_choices(spaces.Discrete(3))[
            [PPOAgent, ReinforceAgent, DQNAgent].index(agent_class)
        ]
        agents.append(fit(agent, envs, 512))
        results.append(evaluate(agent, lambda k=kind: Pair(k), episodes=8).mean)
    assert_same_weights(*agents)
    assert results[0] == results[1]
    assert not any(torch.isnan(p).any() for p in agents[0].parameters())
