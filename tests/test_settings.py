"""Numbers as people pass them: taken where they are exact, else refused by the setting's name."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import pytest
import torch

from lightning_rl import (
    AgentTrainer,
    DQNAgent,
    DQNConfig,
    EnvDataLoader,
    PPOAgent,
    PPOConfig,
    ReinforceConfig,
    SACConfig,
    evaluate,
)
from lightning_rl.errors import ConfigError
from lightning_rl.settings import as_annotated, count, real_number, seed_number, truth, whole_number
from lightning_rl.worlds import DreamConfig, WorldModelConfig

QUIET: Any = {
    "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
    "enable_model_summary": False, "accelerator": "cpu",
}  # fmt: skip
CONFIGS = (PPOConfig, ReinforceConfig, DQNConfig, SACConfig, WorldModelConfig, DreamConfig)


@pytest.mark.parametrize(
    "value", [1000, 1e3, "1000", "1e3", np.int32(1000), np.float64(1e3), np.array(1000),
              torch.tensor(1000)],
)  # fmt: skip
def test_whole_numbers_come_in_many_kinds(value: Any) -> None:
    number = whole_number("rollout_steps", value)
    assert (type(number), number) == (int, 1000)


@pytest.mark.parametrize("value", [0.5, "many", None, True, [1], float("inf"), float("nan"), b"1"])
def test_what_is_no_whole_number_is_refused_by_its_name(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"rollout_steps=.*; expected a whole number"):
        whole_number("rollout_steps", value)


@pytest.mark.parametrize("value", [0.25, "0.25", "25e-2", np.float32(0.25), torch.tensor(0.25)])
def test_numbers_come_in_many_kinds(value: Any) -> None:
    number = real_number("gamma", value)
    assert (type(number), number) == (float, 0.25)


@pytest.mark.parametrize("value", ["high", None, False, [0.1], 1j])
def test_what_is_no_number_is_refused_by_its_name(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"gamma=.*; expected a number"):
        real_number("gamma", value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(True, True), (np.bool_(False), False), ("False", False), ("true", True), (0, False)],
)
def test_text_that_says_false_is_false(value: Any, expected: bool) -> None:
    assert truth("normalize_rewards", value) is expected


@pytest.mark.parametrize("value", ["no idea", None, 2, 0.5])
def test_what_is_neither_true_nor_false_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"normalize_rewards=.*; expected True or False"):
        truth("normalize_rewards", value)


def test_a_seed_is_0_or_more_and_a_count_1() -> None:
    assert (seed_number(np.uint32(0)), count("num_envs", "1")) == (0, 1)
    with pytest.raises(ConfigError, match="seed=-1; expected 0 or more"):
        seed_number(-1)
    with pytest.raises(ConfigError, match="num_envs=0; expected at least 1"):
        count("num_envs", 0)


def test_a_path_becomes_text_and_none_stays_where_it_is_allowed() -> None:
    assert DQNConfig(buffer_directory=Path("buffer")).buffer_directory == "buffer"  # type: ignore[arg-type]
    assert as_annotated("target_kl", float | None, None) is None


def as_text(value: Any) -> Any:
    return value if value is None or isinstance(value, tuple) else str(value)


def as_numpy(value: Any) -> Any:
    if isinstance(value, tuple):
        return [np.int64(part) for part in value]
    return value if value is None else np.array(value)[()]


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("given", [as_text, as_numpy])
def test_every_setting_of_every_config_is_plain_however_it_was_given(kind: Any, given: Any) -> None:
    settings = {name: given(value) for name, value in dataclasses.asdict(kind()).items()}
    config = kind(**settings)
    assert config == kind()
    for name, value in dataclasses.asdict(config).items():
        assert type(value) in (int, float, bool, str, tuple, type(None)), name


NUMBERS = [
    (kind, name)
    for kind in CONFIGS
    for name, annotation in get_type_hints(kind).items()
    if annotation is not str and "str" not in str(annotation)
]


@pytest.mark.parametrize(
    ("kind", "name"), NUMBERS, ids=lambda value: getattr(value, "__name__", value)
)
def test_every_setting_that_is_no_number_is_refused_by_its_name(kind: Any, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}='soon'; expected"):
        kind(**{name: "soon"})


@pytest.mark.parametrize("agent_class", [PPOAgent, DQNAgent])
def test_what_a_sweep_has_trained_can_be_loaded_and_gone_on_with(
    agent_class: Any, tmp_path: Path
) -> None:
    numbers: Any = {"learning_rate": np.logspace(-4, -2, 3)[1], "gamma": np.float32(0.98),
               "rollout_steps": 64.0, "batch_size": np.int64(32)}  # fmt: skip
    if agent_class is DQNAgent:
        numbers["learning_starts"] = "64"
    path, seed = tmp_path / "agent.ckpt", np.int64(3)
    trainer = AgentTrainer(max_env_steps=1e3, num_envs=np.int32(4), seed=seed, **QUIET)  # type: ignore[arg-type]
    trainer.fit(agent_class(config=numbers), "CartPole-v1")
    trainer.save_checkpoint(path, weights_only=False)
    loaded = agent_class.load_from_checkpoint(path)
    assert loaded.config.learning_rate == 1e-3
    assert len(evaluate(loaded, "CartPole-v1", episodes="3", seed=seed).returns) == 3  # type: ignore[arg-type]
    agent = agent_class(config=numbers)
    trainer = AgentTrainer(max_env_steps="1200", num_envs=4, seed=seed, **QUIET)  # type: ignore[arg-type]
    trainer.fit(agent, "CartPole-v1", ckpt_path=str(path))
    assert agent.env_steps >= 1200


@pytest.mark.parametrize(
    "name",
    ["max_env_steps", "num_envs", "seed", "evaluate_every_env_steps", "evaluation_episodes",
     "torch_threads", "live"],
)  # fmt: skip
def test_trainer_names_the_argument_that_is_no_number(name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}='soon'; expected"):
        AgentTrainer(**{name: "soon"})


def test_loader_takes_numbers_as_the_trainer_does() -> None:
    numbers: Any = {"num_envs": "4", "seed": np.int64(1), "max_env_steps": 1e4}
    loader = EnvDataLoader(PPOAgent(), "CartPole-v1", **numbers, iterations_per_epoch=np.int8(3))  # type: ignore[arg-type]
    assert (loader.env.num_envs, loader.agent.seed, loader.agent.max_env_steps) == (4, 1, 10_000)
    assert len(loader) == 3
    for name in (*numbers, "iterations_per_epoch"):
        with pytest.raises(ConfigError, match=f"{name}='soon'; expected"):
            EnvDataLoader(PPOAgent(), "CartPole-v1", **{name: "soon"})  # type: ignore[arg-type]
