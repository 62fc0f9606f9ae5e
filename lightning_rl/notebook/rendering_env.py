"""A separate environment that draws itself into arrays."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import gymnasium as gym
from gymnasium import Space
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import SyncVectorEnv, VectorEnv

from lightning_rl.envs.separate import separate_env
from lightning_rl.envs.vectorize import EnvLike
from lightning_rl.errors import EnvError

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL")


@contextmanager
def rendering_env(env: EnvLike, observation_space: Space | None = None) -> Iterator[VectorEnv]:
    """Make a separate environment that draws itself into arrays, as one sub-environment.

    It needs no display, and is closed in the end.

    Args:
        env: a name, spec, environment, or function; or a vector environment of one that renders.
        observation_space: what the agent observes; a name that is vectorised with preprocessing
            is refused if its single environment observes something else.

    Raises:
        EnvError: if it can't be made or copied, is several in one, or draws no arrays.
    """
    source = partial(_make_rendering, env) if isinstance(env, str | EnvSpec) else env
    with _without_display(), separate_env(source, max_envs=1) as vector_env:
        if isinstance(env, str | EnvSpec) and observation_space is not None:
            _check_preprocessing(env, vector_env.single_observation_space, observation_space)
        _let_render(vector_env)
        yield vector_env


@contextmanager
def _without_display() -> Iterator[None]:
    """Keep pygame from looking for a display: where there is none, it complains on stderr."""
    before = os.environ.get("SDL_VIDEODRIVER")
    os.environ["SDL_VIDEODRIVER"] = "dummy"
    try:
        yield
    finally:
        if before is None:
            del os.environ["SDL_VIDEODRIVER"]
        else:
            os.environ["SDL_VIDEODRIVER"] = before


def _make_rendering(name: str | EnvSpec) -> gym.Env:
    try:
        return gym.make(name, render_mode="rgb_array")
    except (gym.error.Error, ImportError, TypeError) as error:
        raise EnvError(
            f"no environment that draws itself into arrays could be made from {name!r}: {error} "
            "Give the name of a registered environment with the render mode 'rgb_array'."
        ) from error


def _check_preprocessing(name: str | EnvSpec, single: Space, wanted: Space) -> None:
    """Refuse a name whose native vector environment, which `fit` takes, observes otherwise."""
    spec = name if isinstance(name, EnvSpec) else gym.spec(name)
    if spec.vector_entry_point is not None and single != wanted:
        raise EnvError(
            f"{spec.id} is vectorised with preprocessing: the agent observes {wanted}, a single "
            f"one gives {single}. Give a function that makes a single one with that preprocessing, "
            "which renders; for Atari: lambda: FrameStackObservation(AtariPreprocessing(gym.make("
            "name, frameskip=1, render_mode='rgb_array')), 4); the vectorised one also presses "
            "FIRE after a reset."
        )


def _let_render(vector_env: VectorEnv) -> None:
    """Set the render mode, where it can be set; check that it is right where not."""
    if vector_env.num_envs != 1:
        raise EnvError(
            f"got {vector_env}, a vector environment of {vector_env.num_envs}; expected a single "
            "one, as one episode is recorded. Give its name, a function that makes a "
            "gymnasium.Env, or a vector environment with num_envs=1 that renders."
        )
    base = vector_env.unwrapped  # of one whose Tuple observations are given names
    if not isinstance(base, SyncVectorEnv):
        if vector_env.render_mode != "rgb_array":
            raise EnvError(
                f"{vector_env} can't draw itself into an array: its render mode is "
                f"{vector_env.render_mode!r}; make it with render_mode='rgb_array'."
            )
        return
    single = base.envs[0]
    if "rgb_array" not in single.metadata.get("render_modes", ()):
        raise EnvError(
            f"{single} can't draw itself into an array: its render modes are "
            f"{single.metadata.get('render_modes', [])}; expected 'rgb_array' among them."
        )
    _check_display(single.unwrapped)
    if single.render_mode != "rgb_array":  # a copy draws as its original, or not at all
        single.unwrapped.render_mode = "rgb_array"


def _check_display(env: Any) -> None:
    """Refuse MuJoCo where it would look for a display in vain: it aborts the whole process."""
    is_mujoco = hasattr(env, "mujoco_renderer")
    if is_mujoco and sys.platform == "linux" and not any(map(os.environ.get, DISPLAYS)):
        raise EnvError(
            "MuJoCo finds no display to draw on, and would end the process; set the environment "
            "variable MUJOCO_GL to 'egl' (with a GPU) or 'osmesa' (without) before Python starts."
        )
