"""What draws from the process's own generators goes on exactly, too."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from lightning.pytorch import Callback

from lightning_rl import AgentTrainer, PPOAgent
from lightning_rl.checkpoints.process_random import (
    load_process_random_state,
    process_random_state,
)
from lightning_rl.errors import StateError
from tests.checkpoints.comparing import reloaded
from tests.small_runs import SMALL


class Dice(gym.Env):
    """Draws as many an older environment does."""

    observation_space: Any = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space: Any = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        return self.observe(), {}

    def observe(self) -> Any:
        return np.array([np.random.normal(), random.random()], np.float32)  # noqa: NPY002, S311

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        return self.observe(), float(action), random.random() < 0.1, False, {}  # noqa: S311


class Save(Callback):
    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == 2:
            trainer.save_checkpoint(self.path)


def train(seed: int, *callbacks: Callback, ckpt_path: Path | None = None) -> PPOAgent:
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    agent = PPOAgent(config=SMALL)
    trainer = AgentTrainer(max_env_steps=512, seed=0, quiet=True, callbacks=list(callbacks))
    trainer.fit(agent, Dice(), ckpt_path=ckpt_path)
    return agent


@pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # Lightning's
def test_a_resume_in_an_environment_that_draws_from_them_is_exact(tmp_path: Path) -> None:
    whole = train(0, Save(tmp_path / "a.ckpt"))
    resumed = train(1, ckpt_path=tmp_path / "a.ckpt")
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["torch", "numpy", "python"])
def test_nonsense_is_refused_in_words(name: str) -> None:
    state = reloaded(process_random_state())
    for nonsense in (("scalar", 1), ("tuple", [])):
        with pytest.raises(StateError, match="random numbers can't be restored"):
            load_process_random_state(state | {name: nonsense})
    load_process_random_state(state)
