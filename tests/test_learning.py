"""Proofs of learning: values that are known, and environments that are solved.

Every score is of greedy episodes in a separate environment with seeds of its own. The settings
below are complete, so they prove what they say whatever the defaults become.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium import Space, spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from lightning_rl import (
    AgentTrainer,
    EvaluationResult,
    PPOAgent,
    PPOConfig,
    ReinforceAgent,
    ReinforceConfig,
    evaluate,
)
from lightning_rl.testing.probe_envs import (
    ConstantRewardEnv,
    DelayedRewardEnv,
    IdentityEnv,
    TwoStateEnv,
)

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # Lightning's

Fit = Callable[..., EvaluationResult]
seeds = pytest.mark.parametrize("seed", [0, 1, 2])

PLAIN = PPOConfig(
    rollout_steps=256, batch_size=64, update_epochs=10, learning_rate=3e-3, gamma=0.9,
    gae_lambda=0.95, clip_range=0.2, value_clip_range=None, value_coef=0.5, entropy_coef=0.0,
    max_grad_norm=0.5, target_kl=None, anneal_learning_rate=True, anneal_clip_range=False,
    normalize_advantages=True, normalize_observations=False, normalize_rewards=False,
)  # fmt: skip
PLAIN_REINFORCE = ReinforceConfig(  # no action changes what comes next: no discounting is needed
    rollout_steps=256, learning_rate=1e-2, gamma=0.0, baseline=True, normalize_advantages=True
)

ACROBOT = PPOConfig(**(vars(PLAIN) | {
    "rollout_steps": 2048, "batch_size": 256, "learning_rate": 1e-3, "gamma": 0.99,
    "gae_lambda": 0.94, "entropy_coef": 0.01, "normalize_observations": True,
}))  # fmt: skip
ACROBOT_RUN = {"max_env_steps": 100_000, "num_envs": 16}

PENDULUM = PPOConfig(**(vars(PLAIN) | {
    "rollout_steps": 2048, "batch_size": 128, "learning_rate": 1e-3, "gamma": 0.9,
    "gae_lambda": 0.95, "normalize_rewards": True,
}))  # fmt: skip
PENDULUM_RUN = {"max_env_steps": 100_000, "num_envs": 8}

CARTPOLE_REINFORCE = ReinforceConfig(
    rollout_steps=2048, learning_rate=1e-3, gamma=0.99, baseline=True, normalize_advantages=True
)
CARTPOLE_REINFORCE_RUN = {"max_env_steps": 300_000, "num_envs": 4}

ACTION_SPACES: dict[str, Space] = {
    "discrete": spaces.Discrete(4, start=3),
    "multi_discrete": spaces.MultiDiscrete([3, 2]),
    "multi_binary": spaces.MultiBinary(3),
    "box": spaces.Box(-1, 1, (2,)),
}


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    """Train an agent, then let it play 100 greedy episodes."""

    def train(agent: Any, env: Any, seed: int, **options: Any) -> EvaluationResult:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        more = {"enable_checkpointing": False, "default_root_dir": tmp_path, "accelerator": "cpu"}
        AgentTrainer(**{**quiet, **more, **options, "seed": seed}).fit(agent, env)
        result = evaluate(agent, env, 100, seed=10_000 * (seed + 1))
        print(f"seed {seed}: {result}, at least {result.returns.min():.1f}")
        return result

    return train


def values(agent: PPOAgent, observations: Any) -> list[float]:
    with torch.no_grad():
        estimates: list[float] = agent.network(torch.as_tensor(observations))[1].tolist()
    print("values", estimates)
    return estimates


def ppo(config: PPOConfig = PLAIN, **changes: Any) -> PPOAgent:
    return PPOAgent(config=PPOConfig(**(vars(config) | changes)))


# ---- quick proofs, one an agent --------------------------------------------------------------


def test_ppo_learns_to_look_ahead(fit: Fit) -> None:
    result = fit(ppo(), TwoStateEnv, seed=0, max_env_steps=3000, num_envs=4)
    assert result.mean == 6.5


def test_reinforce_learns_to_copy_what_it_observes(fit: Fit) -> None:
    agent = ReinforceAgent(config=PLAIN_REINFORCE)
    result = fit(agent, lambda: IdentityEnv(ACTION_SPACES["discrete"]), seed=0, num_envs=4,
                 max_env_steps=6000)  # fmt: skip
    assert result.mean >= 7.5


# ---- values ----------------------------------------------------------------------------------


class TakesTruncationForTermination(PPOAgent):
    """What CleanRL's ppo.py and Lightning's Fabric example do."""

    def rollout(self, total_step: int) -> None:
        super().rollout(total_step)
        self.replay_buffer.terminated |= self.replay_buffer.truncated


@pytest.mark.slow
@seeds
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_the_value_of_a_reward_of_1_for_ever_is_1_over_1_minus_gamma(
    fit: Fit, seed: int, mode: AutoresetMode
) -> None:
    """And a control that forgets to bootstrap at time limits is far off."""
    found = []
    for agent_class in (PPOAgent, TakesTruncationForTermination):
        agent = agent_class(config=PPOConfig(**(vars(PLAIN) | {"learning_rate": 1e-2})))
        env = SyncVectorEnv([ConstantRewardEnv] * 4, autoreset_mode=mode)
        fit(agent, env, seed, max_env_steps=10_000)
        found += values(agent, [[0.0]])
    assert found[0] == pytest.approx(10, abs=1)
    assert abs(found[1] - 10) > 1


@pytest.mark.slow
@seeds
@pytest.mark.parametrize("length", [1, 4])
def test_the_value_of_a_delayed_reward_is_discounted(fit: Fit, seed: int, length: int) -> None:
    agent = ppo()
    fit(agent, lambda: DelayedRewardEnv(length), seed, max_env_steps=10_000, num_envs=4)
    expected = [0.9 ** (length - 1 - t) for t in range(length)]
    assert values(agent, list(range(length))) == pytest.approx(expected, abs=0.05)


@pytest.mark.slow
@seeds
def test_the_values_of_two_states_are_those_of_the_best_policy(fit: Fit, seed: int) -> None:
    agent = ppo(entropy_coef=0.01)  # else it may give state 1 up before it knows what that is worth
    result = fit(agent, TwoStateEnv, seed, max_env_steps=20_000, num_envs=4)
    assert result.mean == 6.5
    assert values(agent, [0, 1]) == pytest.approx([8.5, 10.0], abs=1)


# ---- environments that are solved ------------------------------------------------------------


@pytest.mark.slow
@seeds
@pytest.mark.parametrize("space", ACTION_SPACES.values(), ids=ACTION_SPACES)
@pytest.mark.parametrize("kind", ["ppo", "reinforce"])
def test_actions_of_every_kind_are_learned(fit: Fit, seed: int, space: Space, kind: str) -> None:
    agent = ppo() if kind == "ppo" else ReinforceAgent(config=PLAIN_REINFORCE)
    result = fit(agent, lambda: IdentityEnv(space), seed, max_env_steps=30_000, num_envs=4)
    assert result.mean >= 0.9 * 8  # where random actions get 2 or less, 5.3 in the box


@pytest.mark.slow
@seeds
def test_ppo_solves_cartpole_with_its_defaults(fit: Fit, seed: int) -> None:
    assert fit(PPOAgent(), "CartPole-v1", seed, max_env_steps=65_536).mean >= 475


@pytest.mark.slow
@seeds
def test_reinforce_solves_cartpole(fit: Fit, seed: int) -> None:
    agent = ReinforceAgent(config=CARTPOLE_REINFORCE)
    assert fit(agent, "CartPole-v1", seed, **CARTPOLE_REINFORCE_RUN).mean >= 475


@pytest.mark.slow
@seeds
def test_ppo_solves_acrobot(fit: Fit, seed: int) -> None:
    assert fit(ppo(ACROBOT), "Acrobot-v1", seed, **ACROBOT_RUN).mean > -100


@pytest.mark.slow
@seeds
def test_ppo_solves_pendulum(fit: Fit, seed: int) -> None:
    """Held up from the start it would return 0, random actions get about -1,200.

    Starts differ so much that a mean of 100 episodes has a standard error of 12.
    """
    assert fit(ppo(PENDULUM), "Pendulum-v1", seed, **PENDULUM_RUN).mean > -250


@pytest.mark.slow
@seeds
def test_ppo_learns_from_images(fit: Fit, seed: int) -> None:
    """The lit half of a picture says which action pays."""

    class LampEnv(IdentityEnv):
        def __init__(self) -> None:
            super().__init__(spaces.Discrete(2))
            self.observation_space = spaces.Box(0, 255, (8, 8, 1), "uint8")

        def _observe(self) -> Any:
            picture = self.np_random.integers(0, 60, (8, 8, 1), dtype="uint8")
            half = super()._observe() * 4
            picture[:, half : half + 4] += 150
            return picture

    agent = ppo(learning_rate=1e-3, update_epochs=4)
    assert fit(agent, LampEnv, seed, max_env_steps=6000, num_envs=4).mean >= 7.6
