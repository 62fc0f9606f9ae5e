"""One thread of torch in all that trains and plays, however many there are; then as many again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from small_runs import SMALL
from torch.nn.modules.module import register_module_forward_pre_hook

from lightning_rl import (
    AgentTrainer,
    EnvDataLoader,
    PPOAgent,
    TrajectoryDataset,
    WorldModel,
    evaluate,
    make_random_trajectory,
    make_trajectory,
    record_episode,
)
from lightning_rl.threads import torch_threads
from lightning_rl.trajectories.writer import TrajectoryWriter
from lightning_rl.worlds import Eye, EyeConfig
from lightning_rl.worlds.percepts import perceive
from lightning_rl.worlds.rssm import RecurrentConfig, RecurrentWorldModel

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),  # Lightning's
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a .validation_step."),
]

PICTURES, TWO = spaces.Box(0, 255, (16, 16, 1), np.uint8), spaces.Discrete(2)
MANY = 2  # threads that are set before: more than one


@pytest.fixture
def seen() -> Iterator[set[int]]:
    """The numbers of threads that networks and environments are computed with."""
    numbers = set[int]()
    note = register_module_forward_pre_hook(lambda *_: numbers.add(torch.get_num_threads()))
    torch.set_num_threads(MANY)
    yield numbers
    note.remove()
    torch.set_num_threads(1)


def env_that_notes(seen: set[int]) -> Callable[[], gym.Env]:
    class Noting(gym.Wrapper):
        def step(self, action: Any) -> Any:
            seen.add(torch.get_num_threads())
            return super().step(action)

    return lambda: Noting(gym.make("CartPole-v1", render_mode="rgb_array"))


def bound_agent() -> PPOAgent:
    agent = PPOAgent(config=SMALL)
    EnvDataLoader(agent, "CartPole-v1")
    return agent


def trainer(**options: Any) -> AgentTrainer:
    return AgentTrainer(max_epochs=1, num_envs=1, quiet=True, **options)


def one_iteration(agent: PPOAgent, env: Any, **options: Any) -> None:
    AgentTrainer(max_env_steps=128, num_envs=1, quiet=True, **options).fit(agent, env)


PLAYS: dict[str, Callable[[PPOAgent, Any, Path], Any]] = {
    "fit": lambda agent, env, _: one_iteration(agent, env),
    "validate": lambda agent, env, _: trainer(evaluation_episodes=1).validate(agent, env),
    "test": lambda agent, env, _: trainer(evaluation_episodes=1).test(agent, env),
    "predict": lambda agent, env, _: trainer(evaluation_episodes=1).predict(agent, env),
    "evaluate": lambda agent, env, _: evaluate(agent, env, episodes=1),
    "record_episode": lambda agent, env, _: record_episode(agent, env, max_steps=2),
    "make_trajectory": lambda agent, env, at: make_trajectory(
        agent, env, at, 20, num_envs=1, progress=False
    ),
    "make_random_trajectory": lambda _, env, at: make_random_trajectory(
        env, at, 20, num_envs=1, progress=False
    ),
    "agent.predict": lambda agent, *_: agent.predict(np.zeros(4, np.float32)),
}


@pytest.mark.parametrize("play", PLAYS.values(), ids=PLAYS.keys())
def test_an_agent_learns_and_plays_with_one_thread(
    play: Any, seen: set[int], tmp_path: Path
) -> None:
    agent = bound_agent()
    seen.clear()
    play(agent, env_that_notes(seen), tmp_path / "data")
    assert seen == {1}
    assert torch.get_num_threads() == MANY


def pictures(folder: Path) -> TrajectoryDataset:
    """Store four episodes of 16 env steps of noise."""
    draw = np.random.default_rng(0)
    writer = TrajectoryWriter(folder, PICTURES, TWO)
    for _ in range(4):
        shown = draw.integers(0, 255, (17, 16, 16, 1), np.uint8)
        writer.add(shown, draw.integers(0, 2, 16), np.ones(16), terminated=True, truncated=False)
    writer.flush()
    writer.close()
    return TrajectoryDataset(folder)


def small_eye() -> Eye:
    return Eye(EyeConfig(hidden_sizes=(8,)))


def small_memory() -> RecurrentWorldModel:
    sizes = RecurrentConfig(memory_size=8, num_latents=2, num_classes=3, hidden_size=8)
    return RecurrentWorldModel(sizes)


def states(folder: Path) -> TrajectoryDataset:
    return make_random_trajectory("CartPole-v1", folder, 64, progress=False)


def recalled(folder: Path) -> Any:
    return pictures(folder).with_window(4)


MODELS: dict[str, tuple[Callable[[], Any], Callable[[Path], Any]]] = {
    "WorldModel": (WorldModel, states),
    "Eye": (small_eye, pictures),
    "RecurrentWorldModel": (small_memory, recalled),
}


@pytest.mark.parametrize(("make", "collect"), MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("count", [1, 3])
def test_a_world_model_is_trained_with_as_many_threads_as_the_trainer_says(
    make: Any, collect: Any, count: int, seen: set[int], tmp_path: Path
) -> None:
    loader = torch.utils.data.DataLoader(collect(tmp_path / "data"), 16)
    trainer(torch_threads=count, limit_val_batches=0).fit(make(), loader)
    assert seen == {count}
    assert torch.get_num_threads() == MANY


def test_an_eye_looks_at_stored_pictures_with_one_thread(seen: set[int], tmp_path: Path) -> None:
    dataset, eye = pictures(tmp_path / "pictures"), small_eye()
    trainer(limit_val_batches=0).fit(eye, torch.utils.data.DataLoader(dataset, 16))
    seen.clear()
    perceive(dataset, eye, tmp_path / "percepts")
    assert seen == {1}
    assert torch.get_num_threads() == MANY


def test_all_playing_uses_as_many_threads_as_the_training_did(seen: set[int]) -> None:
    agent = bound_agent()
    seen.clear()
    one_iteration(agent, env_that_notes(seen), torch_threads=3)
    evaluate(agent, env_that_notes(seen), episodes=1)
    agent.predict(np.zeros(4, np.float32))
    assert seen == {3}
    assert torch.get_num_threads() == MANY


def test_none_leaves_the_number_alone(seen: set[int]) -> None:
    one_iteration(bound_agent(), env_that_notes(seen), torch_threads=None)
    assert seen == {MANY}


def test_the_number_is_put_back_after_an_error(seen: set[int]) -> None:
    with pytest.raises(RuntimeError, match="broken"), torch_threads(1):
        raise RuntimeError("broken")
    assert torch.get_num_threads() == MANY
