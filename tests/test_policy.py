"""What an agent is made of when it is copied, loaded, compiled, or given another's network."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lightning_rl import (
    ActorCriticNetwork,
    AgentTrainer,
    DQNAgent,
    EnvDataLoader,
    PPOAgent,
    PPOConfig,
    ReinforceAgent,
    SACAgent,
    evaluate,
)
from lightning_rl.errors import ConfigError, ShapeError, SpaceError, StateError
from lightning_rl.networks import QNetwork
from tests.small_runs import SMALL

# The first import of torch's compiler warns; which test is the first depends on the order.
TORCHS_OWN_WARNING = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated")
AGENTS: dict[str, tuple[Any, str]] = {
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
}  # fmt: skip


def fit(agent: Any, env: str = "CartPole-v1", **options: Any) -> Any:
    AgentTrainer(**{"max_env_steps": 512, "seed": 0, "num_envs": 2} | options, quiet=True).fit(
        agent, env
    )
    return agent


def weights(agent: Any) -> list[Any]:
    return [parameter.detach().clone() for parameter in agent.parameters()]


def same(first: list[Any], second: list[Any]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# ---- copies ----------------------------------------------------------------------------------


def through_pickle(agent: Any) -> Any:
    return pickle.loads(pickle.dumps(agent))  # noqa: S301 (our own)


def through_torch(agent: Any) -> Any:
    file = io.BytesIO()
    torch.save(agent, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle, through_torch])
@pytest.mark.parametrize("kind", AGENTS)
def test_a_copy_plays_and_trains_on_as_the_original(kind: str, copied: Any) -> None:
    make, env = AGENTS[kind]
    agent = fit(make(), env)
    other = copied(agent)
    assert evaluate(other, env, 3).returns.tolist() == evaluate(agent, env, 3).returns.tolist()
    fit(other, env)
    assert agent.env_steps < other.env_steps
    fit(agent, env)
    assert same(weights(agent), weights(other))


# ---- one network, two agents -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["PPO", "DQN"])
def test_a_second_agent_never_destroys_what_the_first_has_learned(kind: str) -> None:
    network: Any = ActorCriticNetwork() if kind == "PPO" else QNetwork()
    make = PPOAgent if kind == "PPO" else DQNAgent
    config = vars(SMALL) if kind == "PPO" else {"learning_starts": 128, "gradient_steps": 2}
    first = fit(make(network, config))
    learned = weights(first)
    second = make(network, config)
    EnvDataLoader(second, "CartPole-v1", seed=1)
    assert same(weights(first), learned)
    assert same(list(second.network.parameters()), list(first.network.parameters()))
    fit(second)
    assert same(weights(first), learned)


def test_a_network_of_other_spaces_is_refused() -> None:
    network = ActorCriticNetwork()
    EnvDataLoader(PPOAgent(network), "CartPole-v1")
    with pytest.raises(SpaceError, match="Give each agent a network of its own"):
        EnvDataLoader(PPOAgent(network), "Pendulum-v1")


# ---- weights ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", AGENTS)
def test_a_state_dict_makes_a_new_agent_play_as_the_old_one(kind: str) -> None:
    make, env = AGENTS[kind]
    agent, fresh, file = fit(make(), env), make(), io.BytesIO()
    torch.save(agent.state_dict(), file)
    file.seek(0)
    EnvDataLoader(fresh, env)
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert evaluate(fresh, env, 3).returns.tolist() == evaluate(agent, env, 3).returns.tolist()


def test_an_agent_without_sizes_says_how_to_give_it_some() -> None:
    with pytest.raises(StateError, match=r"EnvDataLoader\(agent, env\) before load_state_dict"):
        PPOAgent().load_state_dict(fit(PPOAgent(config=SMALL)).state_dict())


def test_a_network_that_needs_no_environment_takes_weights_at_once() -> None:
    agent = PPOAgent(nn.Linear(4, 2))
    agent.load_state_dict({"network.weight": torch.ones(2, 4), "network.bias": torch.ones(2)})
    assert agent.network.bias.tolist() == [1.0, 1.0]


# ---- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize("make", [PPOAgent, DQNAgent, SACAgent, ReinforceAgent])
def test_settings_given_to_the_agent_are_told_where_they_go(make: Any) -> None:
    with pytest.raises(ConfigError, match=r"config=\{'learning_rate': ...\}"):
        make(learning_rate=1.0)


def test_act_without_a_dict_is_told_what_is_missing() -> None:
    class Forgetful(PPOAgent):
        def act(self, observations: Any, deterministic: bool = False) -> Any:
            return super().act(observations, deterministic)[0]

    with pytest.raises(ShapeError, match=r"If that is nothing, return actions, \{\}"):
        fit(Forgetful(config=SMALL))


def test_manual_optimization_is_refused_before_training() -> None:
    agent = PPOAgent(config=SMALL)
    agent.automatic_optimization = False
    with pytest.raises(ConfigError, match="automatic_optimization=False; expected True"):
        fit(agent)
    assert agent.env_steps == 0


@TORCHS_OWN_WARNING
def test_what_torch_compile_wraps_is_told_how_to_compile_in_place() -> None:
    with pytest.raises(ConfigError, match=r"agent\.compile\(\)"):
        PPOAgent(torch.compile(ActorCriticNetwork()))
    with pytest.raises(ConfigError, match=r"agent\.compile\(\)"):
        fit(torch.compile(PPOAgent()))


@pytest.mark.slow
@TORCHS_OWN_WARNING
def test_an_agent_compiled_in_place_trains_and_its_checkpoint_needs_no_compiling(
    tmp_path: Any,
) -> None:
    agent = PPOAgent(config=SMALL)
    agent.compile()
    trainer = AgentTrainer(max_env_steps=256, seed=0, num_envs=2, quiet=True)
    trainer.fit(agent, "CartPole-v1")
    trainer.save_checkpoint(tmp_path / "agent.ckpt")
    loaded = PPOAgent.load_from_checkpoint(tmp_path / "agent.ckpt")
    assert evaluate(loaded, "CartPole-v1", 3).mean == evaluate(agent, "CartPole-v1", 3).mean


@TORCHS_OWN_WARNING
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's
@pytest.mark.parametrize("kind", AGENTS)
@pytest.mark.parametrize("is_bound", [False, True])
def test_what_is_compiled_learns_with_compiled_parts_and_learns_the_same(
    kind: str, is_bound: bool
) -> None:
    graphs: list[int] = []  # nodes of each, as compiled

    def backend(graph: Any, inputs: Any) -> Any:  # in place of a compiler, which takes long
        graphs.append(len(list(graph.graph.nodes)))
        return graph.forward

    make, env = AGENTS[kind]
    agent = make()
    if is_bound:
        EnvDataLoader(agent, env, num_envs=2, seed=0)
    agent.compile(backend=backend, dynamic=True)
    fit(agent, env)
    assert max(graphs) > 5
    assert same(weights(agent), weights(fit(make(), env)))
    assert not any(part._compiled_call_impl for part in copy.deepcopy(agent).compiled_parts())
    torch.compiler.reset()


@pytest.mark.parametrize("raw", [np.zeros(4), torch.zeros(4), np.zeros((2, 4)), torch.zeros(2, 3)])
def test_an_agent_called_with_what_an_environment_shows_points_to_predict(raw: Any) -> None:
    agent = PPOAgent()
    EnvDataLoader(agent, "CartPole-v1")
    with pytest.raises(ShapeError, match=r"call agent\.predict"):
        agent(raw)
    assert agent(torch.zeros(2, 4)).shape == (2,)


# ---- a further fit, a test -------------------------------------------------------------------


def test_a_trainer_at_its_end_says_that_it_has_trained_nothing() -> None:
    trainer = AgentTrainer(max_steps=1, seed=0, num_envs=1, quiet=True)
    trainer.fit(PPOAgent(config=SMALL), "CartPole-v1")
    with pytest.warns(UserWarning, match="Nothing was trained"):
        trainer.fit(PPOAgent(config=SMALL), "CartPole-v1")


@pytest.mark.parametrize("kind", ["PPO", "DQN"])
def test_a_test_of_a_checkpoint_does_not_rewind_the_agent(kind: str, tmp_path: Any) -> None:
    make, env = AGENTS[kind]
    trainer = AgentTrainer(max_env_steps=512, seed=0, num_envs=2, evaluation_episodes=1, quiet=True)
    agent = make()
    trainer.fit(agent, env)
    trainer.save_checkpoint(tmp_path / "early.ckpt")
    trainer.fit(agent, env)
    before = agent.env_steps, len(agent.episodes), agent.replay_buffer
    trainer.test(agent, env, ckpt_path=tmp_path / "early.ckpt")
    assert (agent.env_steps, len(agent.episodes), agent.replay_buffer) == before


@pytest.mark.parametrize(("explore_again", "epsilon"), [(True, 1.0), (False, 0.05)])
def test_a_further_fit_explores_again_unless_told_not_to(
    explore_again: bool, epsilon: float
) -> None:
    config = {"learning_starts": 128, "gradient_steps": 2, "explore_again": explore_again}
    agent = fit(DQNAgent(config=config))
    seen: list[float] = []

    class Watching(DQNAgent):
        def rollout(self, total_step: int) -> None:
            super().rollout(total_step)
            seen.append(self.epsilon)

    agent.__class__ = Watching
    fit(agent)
    assert seen[0] == pytest.approx(epsilon)


@pytest.mark.filterwarnings("error")
def test_another_number_of_environments_starts_a_new_buffer(tmp_path: Any) -> None:
    make, env = AGENTS["DQN"]
    trainer = AgentTrainer(max_env_steps=512, seed=0, num_envs=2, quiet=True)
    trainer.fit(make(), env)
    trainer.save_checkpoint(tmp_path / "agent.ckpt")
    loaded = DQNAgent.load_from_checkpoint(tmp_path / "agent.ckpt")
    with pytest.warns(UserWarning, match="goes on with an empty buffer"):
        fit(loaded, env, num_envs=3)
    assert loaded.replay_buffer.num_envs == 3
    assert loaded.env_steps >= 1024
