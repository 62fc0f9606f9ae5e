"""What the package opens it closes, at every entry point; what the user opened stays open."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from countdown import Countdown
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv
from lightning.pytorch.callbacks import Callback
from small_runs import SMALL, make_trainer

from lightning_rl import (
    EnvDataLoader,
    EpisodePlayer,
    PPOAgent,
    evaluate,
    learn_in_dream,
    make_random_trajectory,
    make_trajectory,
    record_episode,
)
from lightning_rl.errors import SpaceError
from lightning_rl.testing import check_agent
from lightning_rl.worlds import DreamConfig


class Door(Countdown):
    """Counts the doors that were opened and closed."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012
    opened = 0
    closed = 0

    def __init__(self) -> None:
        super().__init__(5)
        self.render_mode = "rgb_array"
        self.is_open = True
        Door.opened += 1

    def __deepcopy__(self, memo: Any) -> Door:
        return type(self)()

    def render(self) -> Any:
        return np.zeros((8, 8, 3), np.uint8)

    def close(self) -> None:
        Door.closed += self.is_open
        self.is_open = False


@pytest.fixture(autouse=True)
def all_doors_are_closed() -> Iterator[None]:
    Door.opened = Door.closed = 0
    yield
    assert Door.opened == Door.closed > 0
    assert multiprocessing.active_children() == []


def trained(env: Any = Door, **options: Any) -> PPOAgent:
    agent = PPOAgent(config=SMALL)
    make_trainer(iterations=1, **options).fit(agent, env)
    return agent


def test_fit_closes() -> None:
    trained(evaluate_every_env_steps=128, evaluation_episodes=3)


def test_processes_that_a_trainer_was_asked_for_end_with_it() -> None:
    options: Any = {"vectorization": "async", "evaluation_episodes": 3}
    agent = trained(**options, evaluate_every_env_steps=128)
    trainer = make_trainer(**options)
    (found,) = trainer.test(agent, Door, verbose=False)
    assert found["test_episode_length"] == 5.0  # as long as a Door stays open


def test_fit_closes_the_environment_of_a_datamodule() -> None:
    class Doors(lightning.LightningDataModule):
        def train_dataloader(self) -> Any:
            return Door

    trained(Doors())


def test_validate_test_and_predict_close() -> None:
    agent, trainer = trained(), make_trainer(evaluation_episodes=3)
    for run in (trainer.validate, trainer.test, trainer.predict):
        run(agent, Door)


def test_evaluating_recording_and_collecting_close(tmp_path: Path) -> None:
    agent = trained()
    evaluate(agent, Door, episodes=3)
    evaluate(agent, lambda: AsyncVectorEnv([Door] * 2), episodes=3)
    record_episode(agent, Door)
    EpisodePlayer(agent, Door)
    make_trajectory(agent, Door, tmp_path / "own", 20, progress=False)
    make_random_trajectory(Door, tmp_path / "random", 20, progress=False)


@pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # Lightning's
def test_the_chain_of_a_dream_closes(tmp_path: Path) -> None:
    config = DreamConfig(
        random_steps=40, model_epochs=1, dream_steps=64, num_envs=4, rounds=1, steps_per_round=20
    )
    options: Any = {"enable_progress_bar": False, "accelerator": "cpu"}
    learn_in_dream(Door, tmp_path, PPOAgent(config=SMALL), config=config, **options)


def test_check_agent_closes() -> None:
    check_agent(PPOAgent(config=SMALL), Door)


class Interrupts(Callback):
    def on_train_batch_end(self, *_: Any) -> None:
        raise KeyError("in mid-run")


class Stops(Callback):
    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        trainer.should_stop = True


@pytest.mark.parametrize("env", [Door, lambda: AsyncVectorEnv([Door] * 2)])
def test_a_fit_that_ends_in_an_error_closes(env: Any) -> None:
    with pytest.raises(KeyError, match="in mid-run"):
        make_trainer(Interrupts(), iterations=3).fit(PPOAgent(config=SMALL), env)


def test_a_fit_that_is_stopped_closes() -> None:
    make_trainer(Stops(), iterations=3).fit(PPOAgent(config=SMALL), Door)


@pytest.mark.parametrize(
    "run",
    [
        lambda agent, env: evaluate(agent, env, episodes=3),
        lambda agent, env: record_episode(agent, env),
        lambda agent, env: make_trainer(evaluation_episodes=3).test(agent, env),
        lambda agent, env: make_trainer().fit(agent, env),
    ],
)
def test_an_environment_with_other_spaces_is_closed(run: Callable[..., Any]) -> None:
    agent = trained("CartPole-v1")
    with pytest.raises(SpaceError):
        run(agent, Door)


def test_what_the_user_made_stays_open(tmp_path: Path) -> None:
    doors = [Door() for _ in range(4)]
    agent = trained(doors[0])
    trained(SyncVectorEnv([lambda: doors[1]]))
    trained([doors[2], Door])
    evaluate(agent, doors[0], episodes=3)
    record_episode(agent, doors[0])
    make_random_trajectory(doors[0], tmp_path, 20, progress=False)
    loader = EnvDataLoader(PPOAgent(config=SMALL), doors[3])
    loader.close()
    assert all(door.is_open for door in doors)
    for door in doors:
        door.close()


def test_a_loader_that_the_user_made_is_closed_by_the_user() -> None:
    agent = PPOAgent(config=SMALL)
    loader = EnvDataLoader(agent, Door, num_envs=2)
    make_trainer(iterations=1).fit(agent, loader)
    make_trainer(iterations=1).fit(agent, loader)
    assert Door.closed == 0
    loader.close()


class Forgetful(Door):
    def close(self) -> None:
        super().close()
        self.t = self.episode = -1


class SavesAtTheEnd(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_end(self, trainer: Any, *_: Any) -> None:
        trainer.save_checkpoint(self.path)


def test_a_checkpoint_saved_after_closing_holds_the_open_environment(tmp_path: Path) -> None:
    trainer = make_trainer(SavesAtTheEnd(tmp_path / "open.ckpt"), iterations=1)
    trainer.fit(PPOAgent(config=SMALL), Forgetful)
    trainer.save_checkpoint(tmp_path / "closed.ckpt")
    saved = [torch.load(tmp_path / f"{name}.ckpt")["lightning_rl"] for name in ("open", "closed")]
    assert repr(saved[0]["env"]) == repr(saved[1]["env"])
    assert "is_open" in repr(saved[0]["env"])
