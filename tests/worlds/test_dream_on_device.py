"""A dream on the agent's device: the same dream, of which nothing is looked at before its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from small_runs import fit_whole_and_resumed

from lightning_rl import AgentTrainer, EnvDataLoader, PPOAgent, PPOConfig, ReinforceAgent, evaluate
from lightning_rl.errors import ConfigError
from lightning_rl.worlds.chain import DreamConfig, learn_in_dream
from lightning_rl.worlds.dream_env import DreamEnv
from lightning_rl.worlds.dream_on_device import DreamOnDevice
from lightning_rl.worlds.world_model import WorldModel, WorldModelConfig

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # Lightning's

N, D, T = 6, 3, 8
OFF: dict[str, Any] = {"quiet": True, "accelerator": "cpu"}
ACTIONS: dict[str, spaces.Space] = {
    "Discrete": spaces.Discrete(2),
    "Discrete from 5": spaces.Discrete(2, start=5),
    "Box": spaces.Box(-0.1, 0.1, (2,)),
}
AGENTS = {
    "PPO": lambda: PPOAgent(config=PPOConfig(rollout_steps=N * T, batch_size=N * T)),
    "REINFORCE": lambda: ReinforceAgent(config={"rollout_steps": N * T}),
}


def make_model(actions: spaces.Space = ACTIONS["Discrete"], never_ends: bool = True) -> WorldModel:
    """A model of first weights, of three members."""
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig(3, (16,)), spaces.Box(-9, 9, (D,)), actions)
    network = model.network
    network.lowest.fill_(-1.0)
    network.highest.fill_(1.0)
    network.lowest_reward.fill_(-2.0)
    with torch.no_grad():
        network.layers[-1].bias[..., -1] = -9.0 if never_ends else 0.0
    return model


def bound(kind: type[DreamEnv], model: WorldModel, agent: Any = None, **options: Any) -> Any:
    """An agent that has begun a run in a dream."""
    agent = agent or AGENTS["PPO"]()
    dream = kind(model, torch.zeros(1, D), N, **{"horizon": 10**6} | options)
    EnvDataLoader(agent, dream, seed=0)
    agent.start_run(0)
    return agent


@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("options", [{}, {"disagreement_penalty": 0.5}], ids=["", "penalty"])
def test_a_first_rollout_in_which_no_dream_ends_is_that_of_a_dream_env(
    actions: str, options: Any
) -> None:
    """Later ones have other random numbers: where a new dream would be is drawn, too."""
    model = make_model(ACTIONS[actions])
    usual, here = (bound(kind, model, **options) for kind in (DreamEnv, DreamOnDevice))
    for agent in (usual, here):
        agent.rollout(N * T)
    for field in ("observations", "actions", "rewards", "terminated", "truncated", "valid"):
        expected, got = (getattr(a.replay_buffer, field) for a in (usual, here))
        np.testing.assert_array_equal(got, expected, err_msg=field)
    assert here.env_steps == usual.env_steps == N * T
    assert usual.replay_buffer.rewards.std() > 0


def test_dreams_end_as_in_a_dream_env_and_reset_rows_are_marked() -> None:
    """All three ends: the model's word, what is unknown, the horizon."""
    ends = {}
    for kind in (DreamEnv, DreamOnDevice):
        model = make_model(never_ends=False)
        agent = bound(kind, model, known_range=1.0, horizon=2)
        counts, rewards = np.zeros(3), []
        for _ in range(200):
            agent.rollout(N * T)
            buffer = agent.replay_buffer
            ended = buffer.terminated | buffer.truncated
            np.testing.assert_array_equal(buffer.valid[1:], ~ended[:-1])
            assert (buffer.observations[1:][~buffer.valid] == 0.0).all()  # the one start
            assert (buffer.rewards[~buffer.valid] == 0.0).all()
            counts += [buffer.terminated.sum(), buffer.truncated.sum(), buffer.valid.sum()]
            rewards.append(buffer.rewards[buffer.terminated])
        assert agent.env_steps == counts[2]
        assert (agent.episodes["episode_length"] <= 2).all()
        ends[kind] = [*counts[:2] / counts[2], float(np.concatenate(rewards).mean())]
    assert ends[DreamOnDevice] == pytest.approx(ends[DreamEnv], rel=0.15)
    assert min(ends[DreamOnDevice][:2]) > 0.01


@pytest.mark.parametrize("actions", ACTIONS)
@pytest.mark.parametrize("name", AGENTS)
def test_nothing_of_a_rollout_is_looked_at_before_its_end(name: str, actions: str) -> None:
    """Torch's meta device has no data to look at: any copy to the host is an error there."""
    options = {"known_range": 1.0, "disagreement_penalty": 0.5}
    agent = bound(DreamOnDevice, make_model(ACTIONS[actions]), AGENTS[name](), **options)
    dream = agent.runner.env
    agent.to("meta")
    dreams, chosen, _ = dream.dream(agent, T)
    assert {values.device.type for values in (*dreams, chosen)} == {"meta"}
    assert dreams.observations.shape == (T, N, D)
    assert {values.shape for values in dreams[1:]} == {(T, N)}
    assert dream.network.lowest.device.type == "cpu"  # the model is the user's
    with pytest.raises((NotImplementedError, RuntimeError), match="meta"):
        dreams.rewards.cpu()


def test_an_episode_happens_in_the_world_of_one_member() -> None:
    agent = bound(DreamOnDevice, make_model(), horizon=3)
    dreams, *_ = agent.runner.env.dream(agent, 40)
    began = dreams.elapsed == 0
    changed = dreams.members[1:] != dreams.members[:-1]
    assert not (changed & ~began[1:]).any()
    assert changed[began[1:]].any()


def test_it_is_evaluated_and_resumed_as_every_environment(tmp_path: Path) -> None:
    def make() -> DreamOnDevice:
        return DreamOnDevice(make_model(never_ends=False), torch.zeros(1, D), 100, horizon=70)

    agent = fit_whole_and_resumed(make, tmp_path)
    assert evaluate(agent, make(), episodes=3).returns.shape == (3,)


def test_normalised_observations_are_refused() -> None:
    agent = PPOAgent(config=PPOConfig(rollout_steps=64, batch_size=64, normalize_observations=True))
    dream = DreamOnDevice(make_model(), torch.zeros(1, D), N)
    with pytest.raises(ConfigError, match="normalize_observations=True in a DreamOnDevice"):
        AgentTrainer(max_env_steps=64, **OFF).fit(agent, dream)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_cartpole_is_solved_in_it(seed: int, tmp_path: Path) -> None:
    config = DreamConfig(on_device=True)
    result = learn_in_dream("CartPole-v1", tmp_path / "steps", None, None, config, seed, **OFF)
    assert isinstance(result.agent.runner.env, DreamOnDevice)
    assert evaluate(result.agent, "CartPole-v1", seed=seed).mean >= 400
