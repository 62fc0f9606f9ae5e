"""Promises of `ReinforceAgent`: known returns only, and an unbiased gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor, nn

from lightning_rl import EnvDataLoader, ReinforceAgent, ReinforceConfig
from lightning_rl.errors import ConfigError
from lightning_rl.testing.probe_envs import CountingEnv

SETTINGS: dict[str, Any] = {
    "rollout_steps": 30, "learning_rate": 1e-2, "gamma": 0.5, "baseline": True,
    "normalize_advantages": False,
}  # fmt: skip


def make_agent(network: nn.Module | None = None, **changes: Any) -> ReinforceAgent:
    return ReinforceAgent(network, ReinforceConfig(**(SETTINGS | changes)))


# ---- which returns ---------------------------------------------------------------------------


def return_of(step: int, length: int) -> float:
    """G of a CountingEnv's step in an episode of `length`, which pays 1, 2, 3, ..."""
    return sum((k + 1) * 0.5 ** (k - step) for k in range(step, length))


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("truncation", [0.0, 0.5, 1.0])
def test_only_episodes_that_ended_are_learned_from_and_their_returns_are_exact(
    mode: AutoresetMode, truncation: float
) -> None:
    """An episode that began in an earlier rollout counts from where this one begins."""
    lengths = [[4, 1, 2], [3, 7]]
    env = SyncVectorEnv(
        [lambda i=i: CountingEnv(lengths[i], truncation, 1000 * i) for i in range(2)],
        autoreset_mode=mode,
    )
    agent = make_agent()
    EnvDataLoader(agent, env)
    agent.start_run(seed=0)
    for _ in range(5):
        agent.rollout(30)
        [batch] = agent.sample()
        rows = [(int(e), int(t)) for e, t in batch["observations"].tolist()]
        returns = dict(zip(rows, batch["returns"].tolist(), strict=True))
        assert len(returns) == len(rows) > 10
        for (episode, step), value in returns.items():
            own = lengths[episode // 1000]
            length = own[episode % 1000 % len(own)]
            assert value == pytest.approx(return_of(step, length))
            assert {(episode, t) for t in range(step, length)} <= returns.keys()
        for own, (episode, step) in zip(lengths, agent.replay_buffer.observations[-1], strict=True):
            is_running = 0 < step < own[int(episode) % 1000 % len(own)]
            assert not (is_running and (int(episode), int(step) - 1) in returns)


def test_rollouts_are_made_until_an_episode_has_ended() -> None:
    agent = make_agent()
    EnvDataLoader(agent, SyncVectorEnv([lambda: CountingEnv([100])] * 2))
    agent.start_run(seed=0)
    agent.rollout(agent.rollout_steps)
    assert len(agent.episodes) == 2
    assert agent.env_steps >= 200
    (batch,) = agent.sample()
    assert 0 < len(batch["returns"]) <= agent.rollout_steps


def test_where_no_episode_ends_it_says_what_to_do() -> None:
    agent = make_agent()
    EnvDataLoader(agent, SyncVectorEnv([lambda: CountingEnv([10**9])] * 2))
    agent.start_run(seed=0)
    with pytest.raises(ConfigError, match=r"no episode has ended in 100 rollouts.*TimeLimit"):
        agent.rollout(agent.rollout_steps)


# ---- the gradient ----------------------------------------------------------------------------

POLICY = torch.tensor([[0.75, 0.25], [0.25, 0.75]])  # π(a|s) of 2 states and 2 actions
RETURNS = torch.tensor([[8.0, 4.0], [1.0, 5.0]])  # G after (s, a)
STATE_VALUES = (POLICY * RETURNS).sum(1)  # 7 and 4


class Table(nn.Module):
    """Logits and values of 2 states, each a parameter of its own."""

    def __init__(self, values: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(POLICY.log())
        self.values = nn.Parameter(values.clone())

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits[states], self.values[states]


def exact_batch() -> dict[str, Tensor]:
    """Eight rows with every (s, a) as often as the policy says: their mean is the expectation."""
    states = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
    actions = torch.tensor([0, 0, 0, 1, 0, 1, 1, 1])
    return {"observations": states, "actions": actions, "returns": RETURNS[states, actions]}


def gradients(batch: dict[str, Tensor], values: Tensor, **changes: Any) -> tuple[Tensor, Tensor]:
    agent = make_agent(Table(values), **changes)
    agent.action_space = spaces.Discrete(2)
    agent.training_step(batch, 0)["loss"].backward()
    return agent.network.logits.grad, agent.network.values.grad


BASELINES = {
    "none": (torch.zeros(2), {"baseline": False}),
    "values": (STATE_VALUES, {}),
    "any other": (torch.tensor([100.0, -3.0]), {}),
}


@pytest.mark.parametrize(("values", "changes"), BASELINES.values(), ids=BASELINES.keys())
def test_the_gradient_is_that_of_the_policy_gradient_theorem(values: Tensor, changes: Any) -> None:
    """∂J/∂logit(s,a) = p(s) π(a|s) (Q(s,a) - V(s)), whatever the baseline is."""
    expected = -0.5 * POLICY * (RETURNS - STATE_VALUES[:, None])  # a loss is minimised
    assert torch.allclose(gradients(exact_batch(), values, **changes)[0], expected, atol=1e-5)


def test_a_baseline_reduces_the_variance_of_the_gradient() -> None:
    batch = exact_batch()
    variances = {}
    for name, (values, changes) in BASELINES.items():
        single = [{key: part[i : i + 1] for key, part in batch.items()} for i in range(8)]
        samples = torch.stack([gradients(row, values, **changes)[0] for row in single])
        variances[name] = samples.var(0, correction=0).sum().item()
    assert variances["values"] < 0.5 * variances["none"] < 0.5 * variances["any other"]


def test_normalising_the_advantages_only_scales_the_gradient() -> None:
    batch = exact_batch()
    advantages = batch["returns"] - STATE_VALUES[batch["observations"]]
    plain, _ = gradients(batch, STATE_VALUES)
    scaled, _ = gradients(batch, STATE_VALUES, normalize_advantages=True)
    assert torch.allclose(scaled * advantages.std(), plain, atol=1e-5)


@pytest.mark.parametrize("baseline", [False, True])
def test_the_baseline_is_regressed_to_the_returns_if_there_is_one(baseline: bool) -> None:
    """Without one, its gradient is 0 but there: DDP waits for every parameter's."""
    _, found = gradients(exact_batch(), torch.tensor([1.0, 2.0]), baseline=baseline)
    towards = 0.5 * (torch.tensor([1.0, 2.0]) - STATE_VALUES)
    assert torch.allclose(found, towards * baseline)


@pytest.mark.parametrize("setting", [{"learning_rate": 0.0}, {"gamma": 2.0}, {"gamma": -0.1}])
def test_settings_out_of_range_are_refused_by_name(setting: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(setting))):
        ReinforceConfig(**setting)


def test_a_player_is_told_its_policy_and_its_baseline() -> None:
    agent = make_agent()
    env = SyncVectorEnv([lambda: CountingEnv([4])])
    agent.bind_spaces(env.single_observation_space, env.single_action_space)
    observations = torch.tensor([[0.0, 1.0], [0.0, 2.0]])
    told = agent.assess(observations)
    parameters, values = agent.network(observations)
    assert torch.equal(told["action_parameters"], parameters)
    assert torch.equal(told["values"], values)
    assert values.shape == (2,)
