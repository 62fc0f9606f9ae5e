"""The check of agents: those that keep the contract pass, broken ones are told what they break."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from all_actions import each_action_space
from gymnasium import Space, spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor, nn

from lightning_rl import (
    DQNAgent,
    LightningAgentModule,
    PPOAgent,
    PPOConfig,
    ReinforceAgent,
    SACAgent,
)
from lightning_rl.buffers.arrays import select
from lightning_rl.errors import (
    CheckpointError,
    ConfigError,
    LightningRLError,
    NonFiniteError,
    ShapeError,
    SpaceError,
    StateError,
)
from lightning_rl.networks.distributions import Categorical
from lightning_rl.testing.check_agent import check_agent
from lightning_rl.testing.probe_envs import (
    CountingEnv,
)

OBSERVATION_SPACES: dict[str, Space] = {
    "image": spaces.Box(0, 255, (8, 8, 3), np.uint8),
    "dict": spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Discrete(3)}),
}

CONFIG = PPOConfig(rollout_steps=64, batch_size=32, update_epochs=2)


class SpacesEnv(gym.Env):
    """Observes random numbers of any space, in episodes of 5 env steps."""

    def __init__(self, observation_space: Space, action_space: Space | None = None) -> None:
        self.observation_space = observation_space
        self.action_space = action_space or spaces.Discrete(2)
        self.t = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.t = 0
        self.observation_space.seed(seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.t += 1
        return self.observation_space.sample(), 1.0, self.t == 5, False, {}


# ---- agents that keep the contract -----------------------------------------------------------


def reinforce(**config: Any) -> ReinforceAgent:
    return ReinforceAgent(config={"rollout_steps": 64, **config})


@each_action_space
def test_our_agents_pass_with_every_action_space(space: Space) -> None:
    for agent in (PPOAgent(config=CONFIG), reinforce()):
        check_agent(agent, SpacesEnv(spaces.Box(-1, 1, (4,)), space))


@pytest.mark.parametrize("space", OBSERVATION_SPACES.values(), ids=OBSERVATION_SPACES)
def test_our_agents_pass_with_images_and_dicts(space: Space) -> None:
    for agent in (PPOAgent(config=CONFIG), reinforce()):
        check_agent(agent, SpacesEnv(space))


@pytest.mark.parametrize(
    "settings",
    [{"normalize_observations": True, "normalize_rewards": True}, {"target_kl": 1e-9},
     {"anneal_clip_range": True}, {"batch_size": 64, "value_clip_range": 0.2}],
    ids=str,
)  # fmt: skip
def test_ppo_passes_with_every_setting(settings: dict) -> None:
    check_agent(PPOAgent(config=PPOConfig(**(vars(CONFIG) | settings))), "Pendulum-v1")


def test_agents_with_a_replay_buffer_pass() -> None:
    config = {"rollout_steps": 64, "gradient_steps": 4}
    check_agent(DQNAgent(config=config), "CartPole-v1")
    check_agent(SACAgent(config=config), "Pendulum-v1")


def test_reinforce_passes_without_its_baseline() -> None:
    """Its critic gets a gradient, of zeros: DDP waits for ever for a parameter that gets none."""
    check_agent(reinforce(baseline=False), "CartPole-v1")


@pytest.mark.parametrize(
    "env",
    ["Acrobot-v1", gym.make_vec("CartPole-v1", num_envs=2), lambda: gym.make("CartPole-v1"),
     SyncVectorEnv([CountingEnv] * 2, autoreset_mode=AutoresetMode.SAME_STEP)],
    ids=["name", "vector", "function", "same_step"],
)  # fmt: skip
def test_environments_may_be_given_as_to_fit(env: Any) -> None:
    check_agent(PPOAgent(config=CONFIG), env)


# ---- agents that break it --------------------------------------------------------------------


class Good(LightningAgentModule):
    """The smallest agent that keeps the contract; the broken ones below change one thing each."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 2), rollout_steps=30)

    def act(self, observations: Tensor, deterministic: bool = False) -> Any:
        policy = Categorical(self.network(observations))
        actions = policy.mode if deterministic else policy.sample(self.generator)
        return actions, {"log_probs": policy.log_prob(actions)}

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        log_probs = Categorical(self.network(batch["observations"])).log_prob(batch["actions"])
        return -(log_probs * batch["rewards"]).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters())


def act(change: Callable[[Any, Tensor, dict], Any], when: str = "both") -> type[Good]:
    """Make an agent class whose act returns something else."""

    class Broken(Good):
        def act(self, observations: Tensor, deterministic: bool = False) -> Any:
            actions, remembered = super().act(observations, deterministic)
            if when == "both" or deterministic == (when == "greedy"):
                return change(self, actions, remembered)
            return actions, remembered

    return Broken


def method(name: str, replacement: Callable[..., Any]) -> type[Good]:
    return type("Broken", (Good,), {name: replacement})


def ignores_its_generator(agent: Good, actions: Tensor, remembered: dict) -> Any:
    agent.calls = getattr(agent, "calls", 0) + 1
    return torch.full_like(actions, agent.calls % 2), remembered


def steps_with(loss: Callable[[Good, dict], Any]) -> type[Good]:
    return method("training_step", lambda self, batch, batch_idx: loss(self, batch))


def samples(change: Callable[[dict], Any]) -> type[Good]:
    """Make an agent class whose sample returns something else of the (valid) rows."""

    def sample(self: Good) -> Any:
        return [change(batch) for batch in super(Good, self).sample()]

    return method("sample", sample)


def all_rows(self: Good) -> Any:
    return [{k: v for k, v in self.replay_buffer.rows().items() if k != "valid"}]


def all_rows_without_numbers(self: Good) -> Any:
    rows = self.replay_buffer.rows()
    return [{name: rows[name] for name in ("observations", "actions")}]


def multiplies_a_mask(self: Good) -> Any:
    """0 times NaN is NaN: the rewards of reset rows mean nothing, so they may be anything."""
    rows = self.replay_buffer.rows()
    rows["rewards"] = (rows["rewards"] * rows["valid"]).flip(0).cumsum(0).flip(0)
    return [select(rows, rows.pop("valid"))]


class ForgetsParameters(Good):
    def configure_optimizers(self) -> Any:
        return torch.optim.Adam([self.network.weight])


class HasUnusedParameters(Good):
    def __init__(self) -> None:
        super().__init__()
        self.critic = nn.Linear(4, 1)


class HasForgetfulNetwork(Good):
    """Its greedy actions depend on a plain attribute that training changes and nobody saves."""

    flips = 0

    def on_train_batch_end(self, *args: Any) -> None:
        super().on_train_batch_end(*args)
        self.flips = 1

    def act(self, observations: Tensor, deterministic: bool = False) -> Any:
        actions, remembered = super().act(observations, deterministic)
        return (actions + self.flips) % 2, remembered


class HasColumnOfValues(Good):
    """Its critic returns (B, 1), which meets the returns, (B,), and silently makes a table."""

    def __init__(self) -> None:
        super().__init__()
        self.critic = nn.Linear(4, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        values = self.critic(batch["observations"])  # (B, 1)
        advantages = batch["rewards"] - values
        log_probs = Categorical(self.network(batch["observations"])).log_prob(batch["actions"])
        return -(log_probs * advantages.detach()).mean() + advantages.square().mean()


class SavesObjects(Good):
    def on_save_checkpoint(self, checkpoint: dict) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["space"] = self.action_space


class LoadsNothing(Good):
    def extra_state(self) -> dict:
        return {"temperature": 1.0}

    def load_extra_state(self, state: dict) -> None:
        super().load_extra_state(state)
        self.temperature = state["temprature"]


def log_prob_column(_: Any, actions: Tensor, remembered: dict) -> Any:
    return actions, {"log_probs": remembered["log_probs"][:1]}


BROKEN: dict[str, tuple[type[Good], type[LightningRLError], str]] = {
    "actions only": (act(lambda _, a, m: a), ShapeError, "act returned a Tensor; .* return act"),
    "(N, 1) actions": (act(lambda _, a, m: (a[:, None], m)), ShapeError, r"\(3, 1\); .*\(3,\)"),
    "one action": (act(lambda _, a, m: (a[0], m)), ShapeError, "'actions' with first axis"),
    "list": (act(lambda _, a, m: (a.tolist(), m)), ShapeError, "'actions' with first axis list"),
    "logits": (act(lambda _, a, m: (a.float(), m)), ShapeError, "float32.*expected integers"),
    "1-based": (act(lambda _, a, m: (a + 1, m)), SpaceError, "not in Discrete.2.*from 0"),
    "one row": (act(log_prob_column), ShapeError, r"'log_probs' with first axis \(1,\)"),
    "global torch": (act(lambda _, a, m: (torch.randint(2, (3,)), m)), StateError, "global random"),
    "global numpy": (
        act(lambda _, a, m: (a, {"x": torch.tensor(np.random.rand(3))})),  # noqa: NPY002
        StateError, "global random generator; expected agent.generator",
    ),
    "generator unused": (act(ignores_its_generator), StateError, "generator were the same"),
    "random when greedy": (
        act(lambda self, a, m: (Good.act(self, torch.zeros(3, 4))[0], m), "greedy"),
        StateError, "deterministic=True. drew random numbers",
    ),
    "tuple minibatch": (samples(lambda b: tuple(b.values())), ShapeError, "dict of tensors"),
    "unequal rows": (
        samples(lambda b: b | {"actions": b["actions"][1:]}), ShapeError, "minibatch 0.*first axes"
    ),
    "empty minibatch": (samples(lambda b: select(b, slice(0))), ShapeError, "1 or more rows"),
    "reset rows": (method("sample", all_rows), NonFiniteError, "NaN or inf in 'rewards'"),
    "hidden reset rows": (
        method("sample", all_rows_without_numbers), StateError, "holds reset rows"
    ),
    "mask multiplied": (method("sample", multiplies_a_mask), NonFiniteError, "'rewards'"),
    "NaN loss": (steps_with(lambda s, b: s.network.bias.sum() * torch.nan), NonFiniteError, "nan"),
    "vector loss": (steps_with(lambda s, b: s.network.bias), ShapeError, "expected a scalar"),
    "detached loss": (
        steps_with(lambda s, b: s.network.bias.sum().detach()), ConfigError, "without detach"
    ),
    "no gradient": (HasUnusedParameters, ConfigError, r"\['critic.weight', 'critic.bias'\] got no"),
    "half a network": (steps_with(lambda s, b: s.network.bias.sum()), ConfigError, "network.weigh"),
    "no optimizer": (ForgetsParameters, ConfigError, r"\['network.bias'\] are in no optimizer"),
    "objects saved": (SavesObjects, CheckpointError, r"\['space'\], a Discrete"),
    "column of values": (HasColumnOfValues, ShapeError, r"got shapes .*made .*squeeze"),
    "wrong key": (LoadsNothing, StateError, "can't be loaded .*'temprature'"),
    "unsaved": (HasForgetfulNetwork, StateError, "acts in another way"),
}  # fmt: skip


def test_the_agent_that_the_broken_ones_are_made_from_passes() -> None:
    check_agent(Good(), "CartPole-v1")


@pytest.mark.parametrize(("agent", "error", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_agents_are_told_what_they_break(
    agent: type[Good], error: type[LightningRLError], message: str
) -> None:
    with pytest.raises(error, match=message):
        check_agent(agent(), "CartPole-v1")


def test_frozen_parameters_need_no_gradient() -> None:
    agent = HasUnusedParameters()
    agent.critic.requires_grad_(False)
    check_agent(agent, "CartPole-v1")


def test_the_environment_itself_is_not_stepped() -> None:
    env = CountingEnv([3])
    check_agent(PPOAgent(config=CONFIG), env)
    assert env.episode == -1
