"""Evaluation: the right episodes, in an environment of their own, with nothing disturbed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from countdown import CONFIG, Countdown, bound
from gymnasium.envs.classic_control import PendulumEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers import NormalizeObservation, NormalizeReward, TimeLimit
from gymnasium.wrappers.vector import NormalizeObservation as VectorNormalizeObservation
from torch import Tensor, nn

from lightning_rl.agents.ppo import PPOAgent, PPOConfig
from lightning_rl.envs.separate import parts_of
from lightning_rl.errors import ConfigError, EnvError, NonFiniteError, SpaceError, StateError
from lightning_rl.evaluation import (
    EvaluationDataLoader,
    EvaluationResult,
    agent_env,
    evaluate,
    play_episodes,
)
from lightning_rl.loader import EnvDataLoader

# ---- evaluate: the right episodes ----------------------------------------------------------------


def vector(*envs: Countdown, mode: AutoresetMode = AutoresetMode.NEXT_STEP) -> VectorEnv:
    return SyncVectorEnv([lambda env=env: env for env in envs], autoreset_mode=mode)


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize(
    ("episodes", "lengths"),
    [(1, [9]), (2, [1, 9]), (4, [1, 1, 9, 9]), (5, [1, 1, 9, 9, 9])],
)
def test_short_episodes_are_not_favoured(
    episodes: int, lengths: list[int], mode: AutoresetMode
) -> None:
    """Of the first four episodes to end, all would be those of length 1."""
    agent, _ = bound(vector(Countdown(9), Countdown(1)))
    result = evaluate(agent, vector(Countdown(9), Countdown(1), mode=mode), episodes)
    assert sorted(result.lengths.tolist()) == lengths
    assert sorted(result.returns.tolist()) == lengths


@pytest.mark.parametrize("episodes", [1, 3, 16, 17, 40])
def test_number_of_episodes_is_exact(episodes: int) -> None:
    """Whether or not it is a multiple of the copies, whose first episodes last 3 steps each."""
    agent, _ = bound(Countdown(3, 5))
    result = evaluate(agent, Countdown(3, 5), episodes)
    assert len(result.returns) == len(result.lengths) == episodes
    assert (result.lengths == 3).sum() == min(episodes, 16)


def test_episodes_are_greedy() -> None:
    """All the same, from the same start, whatever the agent's random numbers are."""
    agent, _ = bound()
    results = []
    for seed in (0, 1):
        agent.generator.manual_seed(seed)
        results.append(evaluate(agent, "CartPole-v1", 10, seed=5).returns.tolist())
    assert results[0] == results[1]


def test_same_seed_same_result_other_seed_other_result() -> None:
    agent, _ = bound()
    first, second, third = (evaluate(agent, "CartPole-v1", 20, seed).returns for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)


def test_result_is_summed_up_in_one_line() -> None:
    result = EvaluationResult(np.array([1.0, 3.0]), np.array([1, 3]))
    assert (result.mean, result.std) == (2, 1)
    assert str(result) == "return 2.00 ± 1.00 over 2 episodes"


def test_evaluation_loader_gives_the_episodes_as_one_batch() -> None:
    agent, _ = bound(Countdown(3))
    loader = EvaluationDataLoader(agent, Countdown(3), episodes=5, seed=0)
    [batch] = list(loader)
    assert len(loader) == 1
    assert batch["episode_return"].tolist() == batch["episode_length"].tolist() == [3] * 5
    assert {values.dtype for values in batch.values()} == {torch.float32}


# ---- evaluate: nothing is disturbed --------------------------------------------------------------


class WithDropout(nn.Module):
    """A user's network with parts whose training mode matters, one of them frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5))
        self.trunk[1].eval()
        self.heads = nn.Linear(8, 3)

    def forward(self, observations: Any) -> tuple[Any, Any]:
        outputs = self.heads(self.trunk(observations))
        return outputs[:, :2], outputs[:, 2]


def snapshot(agent: PPOAgent) -> dict[str, Any]:
    """All that training goes on from, but for the environment."""
    normalizer: Any = agent.observation_normalizer
    return {
        "weights": [v.tolist() for v in agent.state_dict().values() if isinstance(v, Tensor)],
        "modes": [module.training for module in agent.modules()],
        "gradients": torch.is_grad_enabled(),
        "generator": agent.generator.get_state().tolist(),
        "torch": torch.get_rng_state().tolist(),
        "numpy": np.random.get_state()[1].tolist(),  # noqa: NPY002 (the global one is watched)
        "moments": normalizer.moments.state_dict(),
        "pending": len(normalizer._pending),
        "buffer": [field.tolist() for field in agent.replay_buffer.tensors().values()],
        "runner": [np.array(part).tolist() for part in agent.runner.state_dict().values()],
        "counters": (agent.env_steps, len(agent.episodes), agent.metrics.pop_means()),
    }


@pytest.mark.parametrize("training", [True, False])
def test_evaluation_leaves_the_agent_and_random_numbers_alone(training: bool) -> None:
    agent = PPOAgent(WithDropout(), PPOConfig(**(vars(CONFIG) | {"normalize_observations": True})))
    EnvDataLoader(agent, env := gym.make("CartPole-v1"))
    agent.start_run(seed=3)
    agent.train(training)
    agent.network.trunk[1].eval()
    agent.rollout(64)
    before = snapshot(agent)
    evaluate(agent, env, episodes=5)
    assert str(snapshot(agent)) == str(before)


def test_mode_is_put_back_after_an_error_too() -> None:
    agent, _ = bound(Countdown(3))
    with pytest.raises(NonFiniteError):
        evaluate(agent, Countdown(3, pay=math.nan), episodes=2)
    assert agent.training


ENVS: dict[str, Callable[[], Any]] = {
    "single": lambda: gym.make("CartPole-v1"),
    "native_vector": lambda: gym.make_vec("CartPole-v1", num_envs=3),
    "sync_vector": lambda: gym.make_vec("CartPole-v1", num_envs=3, vectorization_mode="sync"),
}


@pytest.mark.parametrize("make", ENVS.values(), ids=ENVS.keys())
def test_training_goes_on_as_if_nobody_had_evaluated(make: Callable) -> None:
    """In the very environment that was evaluated, in the middle of its episodes."""
    rewards, actions = [], []
    for evaluates in (False, True):
        agent, _ = bound(env := make())
        agent.rollout(40)
        if evaluates:
            evaluate(agent, env, episodes=5)
        agent.rollout(40)
        actions.append(agent.replay_buffer.actions.copy())
        rewards.append(agent.replay_buffer.observations.copy())
    assert np.array_equal(*actions)
    assert np.array_equal(*rewards)


def test_statistics_that_were_learned_are_used() -> None:
    agent, _ = bound("CartPole-v1", normalize_observations=True)
    seen: list[Any] = []
    agent.observation_normalizer.moments.mean += 7.0  # type: ignore[union-attr]
    agent.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    agent.network.policy = None  # let `act` call the network itself
    evaluate(agent, "CartPole-v1", episodes=1)
    assert torch.allclose(seen[0], torch.full((1, 4), -7.0), atol=0.1)


# ---- evaluate: loud errors -----------------------------------------------------------------------


def pendulum_agent() -> PPOAgent:
    agent = PPOAgent()
    EnvDataLoader(agent, "Pendulum-v1")
    return agent


def test_an_episode_without_an_end_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_rl.evaluation.MAX_EPISODE_STEPS", 100)
    agent = pendulum_agent()
    with pytest.raises(EnvError, match=r"did not end within 100 env steps.*max_episode_steps"):
        evaluate(agent, PendulumEnv, episodes=2)
    assert len(evaluate(agent, lambda: TimeLimit(PendulumEnv(), 100), episodes=2).returns) == 2


def test_an_episode_without_an_end_is_told_of_within_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lightning_rl.evaluation.PATIENCE_SECONDS", 0.0)
    agent, _ = bound(Countdown(9))
    message = "no episode has ended within 1 env steps, and the environment has no time limit"
    with pytest.warns(UserWarning, match=message):
        evaluate(agent, Countdown(9), episodes=2, progress=False)


@pytest.mark.parametrize("env", ["Pendulum-v1", lambda: TimeLimit(PendulumEnv(), 100)])
def test_an_episode_that_has_a_limit_is_waited_for(
    env: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_rl.evaluation.PATIENCE_SECONDS", 0.0)
    assert len(evaluate(pendulum_agent(), env, episodes=2, progress=False).returns) == 2


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_long_episodes_are_cut_where_it_is_asked_for(mode: AutoresetMode) -> None:
    """Also those that go on together with short ones; each sub-environment plays its share."""
    env = vector(Countdown(9), Countdown(2), Countdown(1, 9, 1, 9), mode=mode)
    agent, _ = bound(env)
    result = evaluate(agent, env, episodes=12, max_episode_steps=5)
    assert sorted(result.lengths.tolist()) == [1] + [2] * 4 + [5] * 7
    assert result.returns.sum() == result.lengths.sum()


def test_endless_episodes_are_cut_again_and_again() -> None:
    result = evaluate(pendulum_agent(), PendulumEnv, episodes=50, max_episode_steps=7)
    assert result.lengths.tolist() == [7] * 50


def test_a_bar_is_shown_where_it_takes_longer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    agent, _ = bound(env := TimeLimit(Countdown(3), 9))
    evaluate(agent, env, episodes=4)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("lightning_rl.evaluation.BAR_SECONDS", 0.0)
    evaluate(agent, env, episodes=4)
    assert "episode" in capsys.readouterr().err


def test_agent_without_a_network_can_not_be_evaluated() -> None:
    with pytest.raises(StateError, match=r"call trainer\.fit\(agent, env\) or load a checkpoint"):
        evaluate(PPOAgent(), "CartPole-v1", episodes=1)


@pytest.mark.parametrize("env", ["CartPole-v1", Countdown(3), vector(Countdown(3))])
@pytest.mark.parametrize("episodes", [0, -5])
def test_no_episodes_are_refused(env: Any, episodes: int) -> None:
    agent, _ = bound()
    with pytest.raises(ConfigError, match=f"episodes={episodes}; expected at least 1"):
        evaluate(agent, env, episodes)


def test_other_environment_than_trained_on_is_refused() -> None:
    agent, _ = bound("CartPole-v1")
    with pytest.raises(SpaceError, match="the agent was built for"):
        evaluate(agent, "Pendulum-v1", episodes=1)


@pytest.mark.parametrize("pay", [math.nan, math.inf])
def test_returns_that_are_not_finite_are_refused(pay: float) -> None:
    agent, _ = bound(Countdown(3))
    with pytest.raises(NonFiniteError, match="Check the environment's rewards"):
        evaluate(agent, Countdown(3, pay=pay), episodes=2)


# ---- normalising wrappers ------------------------------------------------------------------------


def normalised() -> gym.Env:
    return NormalizeReward(NormalizeObservation(gym.make("CartPole-v1")))


def trained_on(env: Any) -> PPOAgent:
    agent, _ = bound(env)
    agent.rollout(64)
    return agent


def wrappers_of(env: Any, kind: Any) -> list[Any]:
    return [part for part in parts_of(env) if isinstance(part, kind)]


@pytest.mark.parametrize("source", [normalised, lambda: normalised()])
@pytest.mark.parametrize("kind", [NormalizeObservation, NormalizeReward])
def test_wrappers_made_anew_take_the_statistics_of_training(source: Any, kind: Any) -> None:
    agent = trained_on(normalised)
    name = "obs_rms" if kind is NormalizeObservation else "return_rms"
    with agent_env(agent, source, 4) as env:
        for _ in range(2):
            own, theirs = (wrappers_of(e, kind) for e in (env, agent.runner.env))
            means = [
                [getattr(part, name).mean.tolist() for part in parts] for parts in (own, theirs)
            ]
            assert means[0] == means[1]
            play_episodes(agent, env, episodes=4, seed=0)


def test_so_do_those_around_a_vector_environment() -> None:
    make = lambda: VectorNormalizeObservation(gym.make_vec("CartPole-v1", num_envs=2))  # noqa: E731
    agent = trained_on(make())
    with agent_env(agent, make, 2) as env:
        means = [e.obs_rms.mean.tolist() for e in (env, agent.runner.env)]  # type: ignore[attr-defined]
        assert means[0] == means[1]
        assert env.update_running_mean is False  # type: ignore[attr-defined]


def test_where_there_are_no_statistics_a_warning_names_the_way_out() -> None:
    agent = PPOAgent()
    EnvDataLoader(agent, normalised)  # binds it, but it was not trained
    with pytest.warns(UserWarning, match=r"PPOConfig\(normalize_observations=True\)"):
        evaluate(agent, normalised, episodes=1)


def test_an_evaluation_in_training_uses_the_statistics_of_its_time() -> None:
    agent = trained_on(env := normalised())
    loader = EvaluationDataLoader(agent, env, episodes=2, seed=0)
    loader.make_env()
    agent.rollout(64)
    list(loader)
    own, theirs = (wrappers_of(e, NormalizeObservation)[0] for e in (loader.env, env))
    assert own.obs_rms.count == theirs.obs_rms.count
    loader.close()


def test_a_result_shows_its_mean_and_not_all_of_its_numbers() -> None:
    result = EvaluationResult(np.arange(1000.0), np.ones(1000, np.int64))
    assert repr(result) == f"<EvaluationResult: {result}>"
    assert len(repr(result)) < 100


def test_an_evaluation_loader_is_closed_as_often_as_one_likes_and_opens_anew() -> None:
    agent = PPOAgent()
    EnvDataLoader(agent, "CartPole-v1", num_envs=1).close()
    loader = EvaluationDataLoader(agent, "CartPole-v1", 2, seed=0)
    loader.close()  # not opened as yet
    [first] = list(loader)
    for _ in range(2):
        loader.close()
    [again] = list(loader)
    loader.close()
    assert torch.equal(first["episode_return"], again["episode_return"])
