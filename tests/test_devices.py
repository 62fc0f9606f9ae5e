"""Agents follow their weights to any device: shown by torch's meta device, and on a GPU, if any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_rl import (
    AgentTrainer,
    DQNAgent,
    DQNConfig,
    DreamEnv,
    EnvDataLoader,
    PPOAgent,
    PPOConfig,
    ReinforceAgent,
    SACAgent,
    SACConfig,
    evaluate,
    make_random_trajectory,
)
from lightning_rl.worlds import DreamOnDevice
from lightning_rl.worlds.chain import DreamConfig, train_world_model

QUIET: dict[str, Any] = {
    "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
}  # fmt: skip
REPLAY: dict[str, Any] = {
    "rollout_steps": 64, "learning_starts": 64, "batch_size": 32, "gradient_steps": 2,
}  # fmt: skip
MADE: dict[str, tuple[Callable[[], Any], str]] = {
    "PPO": (lambda: PPOAgent(config=PPOConfig(rollout_steps=64, batch_size=32)), "CartPole-v1"),
    "PPO, Box": (
        lambda: PPOAgent(
            config=PPOConfig(rollout_steps=64, batch_size=32, normalize_observations=True)
        ),
        "Pendulum-v1",
    ),
    "REINFORCE": (ReinforceAgent, "CartPole-v1"),
    "DQN": (lambda: DQNAgent(config=DQNConfig(**REPLAY)), "CartPole-v1"),
    "DQN, priorities": (
        lambda: DQNAgent(config=DQNConfig(**REPLAY, priority_exponent=0.6)),
        "CartPole-v1",
    ),
    "SAC": (lambda: SACAgent(config=SACConfig(**REPLAY)), "Pendulum-v1"),
}
on_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU that this torch can use"
)


def tensors_in(values: Any) -> list[torch.Tensor]:
    if isinstance(values, dict):
        return [tensor for part in values.values() for tensor in tensors_in(part)]
    return [values] if isinstance(values, torch.Tensor) else []


@pytest.mark.parametrize("name", MADE)
def test_acting_makes_no_tensor_on_another_device(name: str) -> None:
    make_agent, env = MADE[name]
    agent = make_agent()
    EnvDataLoader(agent, env, num_envs=4)  # binds it
    agent.start_run(0)
    observations = agent.prepare(agent.runner.observations)
    agent.to("meta")  # which refuses to meet tensors with data
    for deterministic in (False, True):
        actions, remembered = agent.act(agent.as_input(observations), deterministic)
        assert {t.device.type for t in [actions, *tensors_in(remembered)]} == {"meta"}


@pytest.mark.parametrize("name", ["PPO", "PPO, Box", "DQN", "SAC"])
def test_a_minibatch_is_learned_from_where_the_weights_are(name: str) -> None:
    make_agent, env = MADE[name]
    agent = make_agent()
    EnvDataLoader(agent, env, num_envs=4)
    agent.start_run(0)
    agent.initial_rollout()
    agent.rollout(64)
    batch = next(iter(agent.sample()))
    agent.to("meta")
    agent.log = lambda *_, **__: None  # there is no trainer
    on_meta = {key: to_meta(part) for key, part in batch.items()}
    outputs = agent.training_step(on_meta, 0)
    loss = outputs["loss"] if isinstance(outputs, dict) else outputs
    assert loss.device.type == "meta"


def to_meta(value: Any) -> Any:
    return value.to("meta") if isinstance(value, torch.Tensor) else value


# ---- on a GPU --------------------------------------------------------------------------------


@on_gpu
@pytest.mark.parametrize("name", MADE)
def test_training_on_a_gpu_leaves_a_checkpoint_for_the_cpu(name: str, tmp_path: Path) -> None:
    make_agent, env = MADE[name]
    agent, devices = make_agent(), []
    update = agent.optimizer_step

    def noted(*args: Any, **options: Any) -> None:
        devices.append({p.device.type for p in agent.parameters()})
        update(*args, **options)

    agent.optimizer_step = noted
    trainer = AgentTrainer(
        max_env_steps=512, num_envs=4, accelerator="gpu", devices=1, default_root_dir=tmp_path,
        **QUIET,
    )  # fmt: skip
    trainer.fit(agent, env)
    assert agent.env_steps >= 512
    assert devices
    assert all(found == {"cuda"} for found in devices)
    trainer.save_checkpoint(tmp_path / "agent.ckpt")
    loaded = type(agent).load_from_checkpoint(tmp_path / "agent.ckpt")
    assert evaluate(loaded, env, episodes=2).returns.shape == (2,)


@on_gpu
def test_a_model_on_a_gpu_dreams_what_it_dreams_on_the_cpu(tmp_path: Path) -> None:
    steps = make_random_trajectory("CartPole-v1", tmp_path / "steps", 1000, progress=False)
    options = {**QUIET, "accelerator": "gpu", "devices": 1}
    model = train_world_model(steps, config=DreamConfig(model_epochs=2), **options)
    dreamt = []
    for device in ("cpu", "cuda"):
        dream = DreamEnv(model.to(device), steps, num_envs=64)
        dream.reset(seed=0)
        actions = np.zeros(64, dtype=np.int64)
        dreamt.append([dream.step(actions)[0] for _ in range(3)][-1])
    np.testing.assert_allclose(dreamt[0], dreamt[1], rtol=1e-3, atol=1e-3)


@on_gpu
def test_of_4096_dreams_nothing_is_copied_to_the_host_before_a_rollouts_end(tmp_path: Path) -> None:
    steps = make_random_trajectory("CartPole-v1", tmp_path / "steps", 1000, progress=False)
    model = train_world_model(steps, config=DreamConfig(model_epochs=2), **QUIET)
    copies = []
    for num_steps in (4, 16):
        agent = PPOAgent(config=PPOConfig(rollout_steps=4096 * num_steps))
        EnvDataLoader(agent, DreamOnDevice(model, steps, num_envs=4096), seed=0)
        agent.start_run(0)
        agent.to("cuda")
        with torch.profiler.profile() as profiler:
            agent.rollout(agent.rollout_steps)
        events = profiler.key_averages()
        copies.append(sum(event.count for event in events if "Memcpy DtoH" in event.key))
    assert copies[0] == copies[1] > 0
