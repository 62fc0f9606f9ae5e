"""Promises about bad input: a typed error that says what to do, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.envs.classic_control import CartPoleEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from lightning.pytorch import Callback
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from lightning_rl import (
    ActorCriticNetwork,
    AgentTrainer,
    EnvDataLoader,
    LightningAgentModule,
    PPOAgent,
    PPOConfig,
    evaluate,
)
from lightning_rl.errors import (
    ConfigError,
    EnvError,
    LightningRLError,
    NonFiniteError,
    ShapeError,
    SpaceError,
    StateError,
)

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # Lightning's

ROWS = 32  # of a rollout; also the env steps of it, as the episodes here never end
MakeTrainer = Callable[..., AgentTrainer]


@pytest.fixture
def make_trainer(tmp_path: Path) -> MakeTrainer:
    """Make a quiet trainer whose files go to `tmp_path`."""

    def make(**options: Any) -> AgentTrainer:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
        defaults = {"max_env_steps": 4 * ROWS, "seed": 0, "accelerator": "cpu"}
        more = {"enable_checkpointing": False, "default_root_dir": tmp_path, "num_envs": 2}
        return AgentTrainer(**{**quiet, **defaults, **more, **options})

    return make


def ppo(**settings: Any) -> PPOAgent:
    return PPOAgent(config=PPOConfig(ROWS, ROWS // 2, 2, **settings))


def weights(module: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in module.parameters()]


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    """Tell whether two lists of tensors have the same bits."""
    return len(left) == len(right) > 0 and all(map(torch.equal, left, right))


class Recorder(Callback):
    """Remembers the weights after every optimizer step, and how many steps there were."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []
        self.steps = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        def after_step(*_: Any) -> None:
            self.weights = weights(pl_module)
            self.steps += 1

        self.weights = weights(pl_module)
        trainer.optimizers[0].register_step_post_hook(after_step)


class EndlessEnv(gym.Env):
    """Observes zeros for ever; in call `at` of `step` (0: of `reset`) the fault happens."""

    observation_space = spaces.Box(-1, 1, (3,))
    action_space = spaces.Discrete(2)

    def __init__(self, fault: str = "", at: int = -1) -> None:
        self.fault, self.at, self.calls = fault, at, 0

    def observe(self) -> Any:
        faults = {"nan observation": np.nan, "infinite observation": np.inf}
        value = faults.get(self.fault, 0.0) if self.calls == self.at else 0.0
        return np.full(4 if self.is_due("wrong shape") else 3, value, self.dtype())

    def dtype(self) -> Any:
        return np.float64 if self.is_due("wrong dtype") else np.float32

    def is_due(self, fault: str) -> bool:
        return self.fault == fault and self.calls == self.at

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.calls = 0
        return self.observe(), {}

    def step(self, action: Any) -> Any:
        self.calls += 1
        if self.is_due("raises"):
            raise ValueError("the wheel came off")
        reward = float("nan") if self.is_due("nan reward") else 1.0
        return self.observe(), reward, False, False, {}


# ---- in the wrong order, or nothing at all ---------------------------------------------------


def test_fit_without_an_environment_says_how_to_give_one(make_trainer: MakeTrainer) -> None:
    with pytest.raises(StateError, match=r"no environment; expected fit\(agent, env\)"):
        make_trainer().fit(ppo())


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_playing_before_training_says_what_to_do_first(
    make_trainer: MakeTrainer, stage: str
) -> None:
    with pytest.raises(StateError, match=r"neither trained nor loaded.*fit\(agent, env\)"):
        getattr(make_trainer(), stage)(ppo(), "CartPole-v1")


def test_evaluating_an_agent_that_met_no_environment_says_what_to_do_first() -> None:
    with pytest.raises(StateError, match="has not met an environment yet"):
        evaluate(ppo(), "CartPole-v1")


@pytest.mark.parametrize("name", ["NoSuchGame-v0", "CartPole-v99", "", "no_such_module:Game-v0"])
def test_a_name_that_names_no_environment_is_an_env_error(
    make_trainer: MakeTrainer, name: str
) -> None:
    with pytest.raises(EnvError, match=f"no environment could be made from '{name}'"):
        make_trainer().fit(ppo(), name)


def test_a_function_that_makes_no_environment_is_an_env_error(make_trainer: MakeTrainer) -> None:
    with pytest.raises(EnvError, match="the function returned int; expected"):
        make_trainer().fit(ppo(), lambda: 1)


# ---- settings --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize(
    "name", ["max_env_steps", "num_envs", "evaluate_every_env_steps", "evaluation_episodes"]
)
def test_the_trainer_refuses_numbers_below_one(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=f"{name}={value}; expected at least 1"):
        AgentTrainer(**{name: value})


def test_the_trainer_refuses_a_negative_seed() -> None:
    with pytest.raises(ConfigError, match="seed=-1; expected 0 or more"):
        AgentTrainer(seed=-1)


@pytest.mark.parametrize("name", ["max_env_steps", "num_envs", "iterations_per_epoch"])
def test_the_loader_refuses_numbers_below_one(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}=0; expected at least 1"):
        EnvDataLoader(ppo(), "CartPole-v1", **{name: 0})


@pytest.mark.parametrize("value", [0, -3])
def test_evaluate_refuses_to_play_no_episodes(value: int) -> None:
    agent = ppo()
    EnvDataLoader(agent, "CartPole-v1")
    with pytest.raises(ConfigError, match=f"episodes={value}; expected at least 1"):
        evaluate(agent, "CartPole-v1", episodes=value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("rollout_steps", 0, "at least 1"),
        ("batch_size", 0, "at least 1"),
        ("update_epochs", 0, "at least 1"),
        ("batch_size", 2049, "does not fit a rollout"),
        ("learning_rate", 0.0, "above 0"),
        ("learning_rate", -1e-3, "above 0"),
        ("learning_rate", float("nan"), "above 0"),
        ("clip_range", 0.0, "above 0"),
        ("value_clip_range", 0.0, "above 0"),
        ("value_clip_range", -0.2, "above 0"),
        ("max_grad_norm", 0.0, "above 0"),
        ("target_kl", 0.0, "above 0"),
        ("target_kl", -0.01, "above 0"),
        ("gamma", -0.1, r"in \[0, 1\]"),
        ("gamma", 1.1, r"in \[0, 1\]"),
        ("gamma", float("nan"), r"in \[0, 1\]"),
        ("gae_lambda", -0.1, r"in \[0, 1\]"),
        ("gae_lambda", 1.1, r"in \[0, 1\]"),
        ("value_coef", -0.5, "0 or more"),
        ("entropy_coef", -0.01, "0 or more"),
        ("entropy_coef", float("nan"), "0 or more"),
    ],
)
def test_ppo_config_names_the_setting_that_is_out_of_range(
    name: str, value: float, expected: str
) -> None:
    with pytest.raises(ConfigError, match=f"{name}={value}.*{expected}"):
        PPOConfig(**{name: value})


@pytest.mark.parametrize(
    "settings",
    [
        {"gamma": 0.0, "gae_lambda": 0.0},
        {"gamma": 1.0, "gae_lambda": 1.0},
        {"value_coef": 0.0, "entropy_coef": 0.0},
        {"rollout_steps": 1, "batch_size": 1, "update_epochs": 1},
        {"target_kl": None, "value_clip_range": None, "max_grad_norm": float("inf")},
    ],
)
def test_ppo_config_takes_the_ends_of_its_ranges(settings: dict[str, Any]) -> None:
    PPOConfig(**settings)


# ---- environments that can't be trained on ---------------------------------------------------


def test_an_environment_that_nobody_resets_is_refused(make_trainer: MakeTrainer) -> None:
    env = SyncVectorEnv([EndlessEnv], autoreset_mode=AutoresetMode.DISABLED)
    with pytest.raises(ConfigError, match=r"DISABLED.*expected NEXT_STEP"):
        make_trainer().fit(ppo(), env)


@pytest.mark.parametrize("other", ["MountainCar-v0", "Acrobot-v1"])
def test_an_agent_refuses_an_environment_with_other_spaces(
    make_trainer: MakeTrainer, other: str
) -> None:
    agent, trainer = ppo(), make_trainer()
    trainer.fit(agent, "CartPole-v1")
    trained, steps = weights(agent), agent.env_steps
    with pytest.raises(SpaceError, match=r"was built for Box.*Make a new agent"):
        trainer.fit(agent, other)
    with pytest.raises(SpaceError, match=r"was built for Box.*Make a new agent"):
        trainer.test(agent, other)
    assert equal(weights(agent), trained)
    trainer.fit(agent, "CartPole-v1")
    assert agent.env_steps >= steps + 4 * ROWS


class ConstantNetwork(nn.Module):
    """Gives what it is told to, whatever it sees."""

    def __init__(self, outputs: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.outputs = outputs

    def forward(self, observations: Tensor) -> Any:
        return self.outputs(observations.flatten(1) * self.weight)


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (lambda x: (x[:, :2], x[:, :1]), r"values have shape \(2, 1\); expected \(2,\)"),
        (
            lambda x: (x[:, :3], x[:, 0]),
            r"action parameters have shape \(2, 3\); expected \(2, 2\)",
        ),
        (lambda x: (x[:, 0], x[:, 0]), r"action parameters have shape \(2,\); expected \(2, 2\)"),
        (lambda x: x[:, :2], "expected a tuple of two tensors"),
        (lambda x: (x[:, :2],), "expected a tuple of two tensors"),
        (lambda x: (x[:, :2], x[:, 0].mean()), r"values have shape \(\); expected \(2,\)"),
    ],
)
def test_a_network_with_wrong_outputs_is_refused_before_training(
    make_trainer: MakeTrainer, outputs: Callable[[Tensor], Any], message: str
) -> None:
    agent = PPOAgent(ConstantNetwork(outputs), PPOConfig(ROWS, ROWS, 1))
    with pytest.raises(ShapeError, match=message):
        make_trainer().fit(agent, "CartPole-v1")
    assert agent.env_steps == 0


# ---- faults in the middle of a run -----------------------------------------------------------

MIDDLE = 2 * ROWS + 5  # a step in the third of four iterations


@pytest.mark.parametrize("normalize_observations", [False, True])
@pytest.mark.parametrize(
    ("fault", "at", "error", "message"),
    [
        (
            "nan observation",
            MIDDLE,
            NonFiniteError,
            "environment 0 returned nan in its obs.*step 5",
        ),
        ("infinite observation", MIDDLE, NonFiniteError, "environment 0 returned"),
        ("nan reward", MIDDLE, NonFiniteError, "returned nan in its rewards at step 5"),
        (
            "raises",
            MIDDLE,
            EnvError,
            f"environment 0 raised ValueError in step {MIDDLE}: the wheel",
        ),
        ("wrong shape", MIDDLE, (EnvError, ValueError), "shape"),
        ("nan observation", 0, NonFiniteError, "returned nan in its observations at step 0"),
    ],
)
def test_a_faulty_environment_costs_nothing_but_its_rollout(
    make_trainer: MakeTrainer,
    fault: str,
    at: int,
    error: Any,
    message: str,
    normalize_observations: bool,
) -> None:
    agent = ppo(normalize_observations=normalize_observations)
    recorder = Recorder()
    with pytest.raises(LightningRLError, match=message) as raised:
        make_trainer(callbacks=[recorder]).fit(agent, EndlessEnv(fault, at))
    assert isinstance(raised.value, error)
    iterations = at // ROWS
    assert recorder.steps == iterations * 4  # two minibatches, twice
    assert equal(weights(agent), recorder.weights)
    assert agent.env_steps == iterations * ROWS

    make_trainer().fit(agent, EndlessEnv())  # what was learned is still good
    assert agent.env_steps == (iterations + 4) * ROWS
    assert all(torch.isfinite(p).all() for p in agent.parameters())


def test_the_error_names_the_sub_environment(make_trainer: MakeTrainer) -> None:
    envs = [EndlessEnv, EndlessEnv, lambda: EndlessEnv("raises", 7), EndlessEnv]
    with pytest.raises(EnvError, match="sub-environment 2 raised ValueError in step 7"):
        make_trainer().fit(ppo(), SyncVectorEnv(envs))


class OneUpdateAgent(LightningAgentModule):
    """An agent of two updates an iteration whose loss is good until the test says otherwise."""

    def __init__(self, bad: Any = None, at: int = -1) -> None:
        super().__init__(ActorCriticNetwork(), rollout_steps=ROWS)
        self.bad, self.at, self.updates = bad, at, 0

    def act(
        self, observations: Tensor, deterministic: bool = False
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return self.network(observations)[0].argmax(-1), {}

    def sample(self) -> list[Any]:
        return super().sample() * 2

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.updates += 1
        values = self.network(batch["observations"])[1]
        return self.bad(values) if self.updates == self.at else values.mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.1)


@pytest.mark.parametrize("at", [1, 2, 5, 6])  # the first update of an iteration, and a later one
@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize(
    ("bad", "error", "message"),
    [
        (lambda v: v.mean() * float("nan"), NonFiniteError, "loss of nan.*was not stepped"),
        (lambda v: v.mean() + float("inf"), NonFiniteError, "loss of inf.*was not stepped"),
        (lambda v: v, ShapeError, r"loss of shape \(32,\); expected a scalar"),
        (lambda v: v[:1], ShapeError, r"loss of shape \(1,\); expected a scalar"),
    ],
)
def test_a_bad_loss_does_not_step_the_optimizer(
    make_trainer: MakeTrainer, bad: Any, error: Any, message: str, at: int, as_dict: bool
) -> None:
    recorder = Recorder()
    agent = OneUpdateAgent((lambda v: {"loss": bad(v)}) if as_dict else bad, at)
    with pytest.raises(error, match=message):
        make_trainer(callbacks=[recorder]).fit(agent, EndlessEnv())
    assert recorder.steps == at - 1
    assert equal(weights(agent), recorder.weights)


@pytest.mark.parametrize("shape", [(), (1,), (2, 1), (3,)])
def test_act_must_give_one_action_for_each_sub_environment(
    make_trainer: MakeTrainer, shape: tuple[int, ...]
) -> None:
    class WrongActions(OneUpdateAgent):
        def act(self, observations: Tensor, deterministic: bool = False) -> Any:
            return torch.zeros(shape, dtype=torch.int64), {}

    with pytest.raises(ShapeError, match=r"act returned actions of shape .*; expected \(2,\)"):
        make_trainer().fit(WrongActions(), SyncVectorEnv([EndlessEnv] * 2))


def test_an_agent_without_act_says_what_to_write(make_trainer: MakeTrainer) -> None:
    class Unfinished(OneUpdateAgent):
        act = LightningAgentModule.act

    with pytest.raises(NotImplementedError, match="must define act"):
        make_trainer().fit(Unfinished(), EndlessEnv())


def uncopyable_env() -> gym.Env:
    """Make an environment without a spec that holds a lock, as one with a connection does."""
    env = CartPoleEnv()
    env.lock = Lock()  # type: ignore[attr-defined]
    return env


def test_an_environment_that_cannot_be_copied_trains_where_no_evaluation_is_asked_for(
    make_trainer: MakeTrainer,
) -> None:
    agent = ppo()
    make_trainer(max_env_steps=200).fit(agent, uncopyable_env())
    assert agent.env_steps >= 200


def test_an_environment_that_cannot_be_copied_is_refused_before_training_if_it_is_to_be_evaluated(
    make_trainer: MakeTrainer,
) -> None:
    agent = ppo()
    with pytest.raises(EnvError, match="can't be copied for evaluation"):
        make_trainer(max_env_steps=200, evaluate_every_env_steps=100).fit(agent, uncopyable_env())
    assert agent.env_steps == 0


@pytest.mark.parametrize(
    "devices", [{"accelerator": "cuda", "devices": [99]}, {"accelerator": "cpu", "devices": 0}]
)
def test_devices_that_do_not_exist_are_refused_as_lightning_does(devices: dict[str, Any]) -> None:
    with pytest.raises(MisconfigurationException, match=r"available|only has|devices"):
        AgentTrainer(**devices)


def test_an_unknown_way_of_stepping_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match="vectorization='threads'; expected one of"):
        AgentTrainer(vectorization="threads")


def test_data_without_an_environment_can_not_be_evaluated_in_one(
    make_trainer: MakeTrainer,
) -> None:
    agent = PPOAgent()
    EnvDataLoader(agent, "CartPole-v1")
    rows = torch.utils.data.DataLoader([0, 1])
    with pytest.raises(StateError, match=r"no environment to evaluate in; expected\s+fit\(agent"):
        make_trainer(evaluate_every_env_steps=64).fit(agent, rows)


@pytest.mark.parametrize("name", ["validate", "test", "predict"])
def test_without_an_agent_it_is_lightnings_own_sentence(name: str) -> None:
    with pytest.raises(TypeError, match=rf"`Trainer\.{name}\(\)` requires a `LightningModule`"):
        getattr(AgentTrainer(quiet=True), name)()
