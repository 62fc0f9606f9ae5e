"""The loader: a sized stream of iterations."""

from __future__ import annotations

import pytest
from countdown import CONFIG, Countdown, bound
from gymnasium.vector import SyncVectorEnv

from lightning_rl.agents.ppo import PPOAgent, PPOConfig
from lightning_rl.errors import ConfigError, SpaceError, StateError
from lightning_rl.loader import EnvDataLoader

# ---- EnvDataLoader -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rollout_steps", "iterations_per_epoch", "length"),
    [(2048, None, 5), (10_000, None, 1), (9_999, None, 2), (50_000, None, 1), (64, 3, 3)],
)
def test_epoch_is_the_fewest_iterations_with_10000_rows(
    rollout_steps: int, iterations_per_epoch: int | None, length: int
) -> None:
    agent = PPOAgent(config=PPOConfig(rollout_steps=rollout_steps, batch_size=32))
    loader = EnvDataLoader(agent, "CartPole-v1", iterations_per_epoch=iterations_per_epoch)
    assert len(loader) == length


@pytest.mark.parametrize("name", ["num_envs", "max_env_steps", "iterations_per_epoch"])
@pytest.mark.parametrize("number", [0, -1])
def test_numbers_below_one_are_refused(name: str, number: int) -> None:
    with pytest.raises(ConfigError, match=f"{name}={number}; expected at least 1"):
        EnvDataLoader(PPOAgent(), "CartPole-v1", **{name: number})


@pytest.mark.parametrize(("num_envs", "expected"), [(None, PPOAgent.default_num_envs), (2, 2)])
def test_agent_says_how_many_environments_suit_it(num_envs: int | None, expected: int) -> None:
    assert EnvDataLoader(PPOAgent(), "CartPole-v1", num_envs).env.num_envs == expected


def test_every_iteration_makes_one_rollout_and_gives_a_minibatch() -> None:
    agent = PPOAgent(config=CONFIG)
    loader = EnvDataLoader(agent, "CartPole-v1", num_envs=4, iterations_per_epoch=3)
    agent.start_run(seed=0)
    for iteration, batch in enumerate(loader, start=1):
        assert 0 < len(batch["actions"]) <= 32
        assert iteration * 48 < agent.env_steps <= iteration * 64  # the rest are reset rows
    assert iteration == len(loader) == 3


def test_next_epoch_goes_on_with_the_running_episodes() -> None:
    agent, _ = bound(env := SyncVectorEnv([lambda: Countdown(1000)]))
    loader = EnvDataLoader(agent, env, iterations_per_epoch=1)
    agent.start_run(seed=0)
    for _ in range(2):
        list(loader)
    assert (env.envs[0].episode, env.envs[0].t) == (1, 128)  # reset once here, once in `bound`


def test_budget_shortens_the_last_rollout() -> None:
    agent = PPOAgent(config=CONFIG)
    loader = EnvDataLoader(agent, SyncVectorEnv([lambda: Countdown(1000)] * 4), max_env_steps=100)
    agent.start_run(seed=0)
    batches = iter(loader)
    steps = [next(batches) is not None and agent.env_steps for _ in range(2)]
    assert steps == [64, 100]


def test_loader_can_not_run_before_training_begins() -> None:
    loader = EnvDataLoader(PPOAgent(), "CartPole-v1")
    with pytest.raises(StateError, match=r"expected trainer\.fit\(agent, loader\)"):
        next(iter(loader))


def test_loader_has_no_state_because_the_agent_saves_it() -> None:
    _, loader = bound()
    loader.load_state_dict(loader.state_dict())
    assert loader.state_dict() == {}


def test_agent_built_for_other_spaces_is_refused() -> None:
    agent, _ = bound("CartPole-v1")
    with pytest.raises(SpaceError, match="the agent was built for"):
        EnvDataLoader(agent, "Pendulum-v1")


def test_a_loader_may_be_closed_twice_and_before_a_run_has_begun() -> None:
    loader = EnvDataLoader(PPOAgent(config=CONFIG), lambda: Countdown(3), num_envs=2)
    for _ in range(2):
        loader.close()
        assert loader.env.closed
