"""A separate environment that draws itself into arrays, and what can't be one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import SyncVectorEnv, VectorEnv
from painter import Painter

from lightning_rl.errors import EnvError
from lightning_rl.notebook.rendering_env import DISPLAYS, rendering_env


def test_it_is_closed_and_the_environments_variables_are_put_back() -> None:
    before = dict(os.environ)
    with rendering_env(Painter) as env:
        assert env.render_mode is None or env.render_mode == "rgb_array"
        env.reset(seed=0)
        frames: Any = env.render()
        assert frames[0].shape == (8, 12, 3)
    assert env.closed
    assert dict(os.environ) == before


def test_a_video_driver_of_the_users_own_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")
    with rendering_env(Painter):
        assert os.environ["SDL_VIDEODRIVER"] == "dummy"
    assert os.environ["SDL_VIDEODRIVER"] == "x11"


class Mujoco(Painter):
    """Has what Gymnasium's MuJoCo environments have."""

    def __init__(self) -> None:
        super().__init__()
        self.mujoco_renderer = None


@pytest.mark.parametrize("variable", [None, *DISPLAYS])
def test_mujoco_without_a_display_is_told_what_to_set(
    variable: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.platform", "linux")
    for name in DISPLAYS:
        monkeypatch.delenv(name, raising=False)
    if variable is not None:
        monkeypatch.setenv(variable, "egl")
        with rendering_env(Mujoco):
            return
    with pytest.raises(EnvError, match="MUJOCO_GL to 'egl'"), rendering_env(Mujoco):
        pass


def preprocessed(num_envs: int) -> VectorEnv:
    return SyncVectorEnv([lambda: Painter(spaces.Discrete(4))] * num_envs)


@pytest.fixture
def preprocessed_id() -> Iterator[str]:
    gym.register("Preprocessed-v0", entry_point=Painter, vector_entry_point=preprocessed)
    yield "Preprocessed-v0"
    del gym.registry["Preprocessed-v0"]


def test_a_name_that_is_vectorised_with_preprocessing_says_what_to_give(
    preprocessed_id: str,
) -> None:
    observed = spaces.Box(0, 255, (4, 84, 84), np.uint8)
    message = "vectorised with preprocessing.*FrameStackObservation"
    with pytest.raises(EnvError, match=message), rendering_env(preprocessed_id, observed):
        pass
    with rendering_env(preprocessed_id, Painter().observation_space) as env:
        assert env.num_envs == 1
