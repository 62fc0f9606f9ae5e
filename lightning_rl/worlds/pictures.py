"""Environments as pictures: what an agent gets to see in place of the state."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode, VectorEnv, VectorObservationWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from PIL import Image

from lightning_rl.envs.vectorize import EnvLike, autoreset_mode, make_vector_env
from lightning_rl.errors import ConfigError, EnvError, StateError
from lightning_rl.settings import count

Array = NDArray[Any]
Painter = Callable[[Array, int, int], Array]  # (N, D) states, H, W -> (N, H, W) greys, 0 to 1
UNITS = 16.0  # a picture is so many units high, whatever its pixels
LOOK_HEIGHT = 192  # pixel rows of a picture for people
TRACK, HINGE = 2.4, 12.0  # metres from the middle to the end of the track; units from the top
POLE, LEAN = 9.0, 2.0  # units; the pole's angle is drawn twice as large, as it falls at 12 degrees
ROD = 6.0  # units


class PictureEnv(VectorObservationWrapper):
    """A vector environment whose observations are small grey pictures of it.

    CartPole and Pendulum are drawn from their state by numpy, in microseconds, without a display;
    any other environment is asked for its `rgb_array`, which is made grey and shrunk. What is drawn
    has soft edges: at 16 rows, a step moves things by hundredths of a pixel, and the greys hold it.

    `render()` gives larger pictures of the same, so that an `EpisodePlayer` can show an
    environment with `num_envs=1`.

    Args:
        env: what `make_vector_env` takes. Autoreset must be NEXT_STEP, Gymnasium's default.
        num_envs: sub-environments to make, where the number is open.
        height: H, pixel rows.
        width: W, pixel columns.
        paint: draws (N, D) observations of `env` as (N, H, W) greys from 0 to 1, in place of what
            is said above.

    Raises:
        EnvError: if it can't be made, or nothing can draw it.
        ConfigError: for a number below 1, or another autoreset mode.

    Example:
        >>> env = PictureEnv("CartPole-v1", num_envs=8)
        >>> pictures, _ = env.reset(seed=0)
        >>> pictures.shape, pictures.dtype, env.render()[0].shape
        ((8, 16, 16, 1), dtype('uint8'), (192, 192, 3))
    """

    def __init__(
        self,
        env: EnvLike,
        num_envs: int = 16,
        height: int = 16,
        width: int = 16,
        paint: Painter | None = None,
    ) -> None:
        height, width = count("height", height), count("width", width)
        vector_env = make_vector_env(env, num_envs)
        self.paint = paint or find_painter(vector_env)
        if self.paint is None:
            vector_env = _make_rendering(env, vector_env, num_envs)
        check_autoreset(vector_env)
        super().__init__(vector_env)
        self.size = (height, width)
        self.metadata = {**vector_env.metadata, "render_modes": ["rgb_array"]}
        self.single_observation_space = spaces.Box(0, 255, (height, width, 1), np.uint8)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self._states: Array | None = None

    @property
    def render_mode(self) -> str:  # type: ignore[override]  # which Gymnasium's wrapper also is
        """Pictures as arrays."""
        return "rgb_array"

    def observations(self, states: Array) -> Array:
        """Draw the environments: (N, D) -> (N, H, W, 1) uint8."""
        if self.paint is not None:
            self._states = np.array(states)
            return to_bytes(self.paint(self._states, *self.size))[..., None]
        return np.stack([shrink(frame, *self.size) for frame in self._frames()])[..., None]

    def render(self) -> tuple[Array, ...]:
        """Draw what was last seen for people: N pictures (R, R', 3) uint8."""
        if self.paint is None:
            return self._frames()
        if self._states is None:
            raise StateError("there is nothing to draw yet; call reset() before render().")
        size = LOOK_HEIGHT, LOOK_HEIGHT * self.size[1] // self.size[0]
        greys = to_bytes(self.paint(self._states, *size))
        return tuple(np.repeat(greys[..., None], 3, axis=-1))

    def _frames(self) -> tuple[Array, ...]:
        frames: Any = self.env.render()
        for frame in frames or [None]:
            if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[-1] != 3:
                raise EnvError(
                    f"{self.env} rendered {getattr(frame, 'shape', type(frame).__name__)}; "
                    "expected an array (H, W, 3) of uint8, as 'rgb_array' promises."
                )
        return tuple(frames)


def check_autoreset(env: VectorEnv) -> None:
    """Refuse an environment that hides the picture after an episode's last step.

    Raises:
        ConfigError: if its autoreset mode is not NEXT_STEP.
    """
    if autoreset_mode(env) != AutoresetMode.NEXT_STEP:
        raise ConfigError(
            f"{env} has the autoreset mode {autoreset_mode(env)}; expected NEXT_STEP, Gymnasium's "
            "default: with others, the last picture of an episode is never shown."
        )


def _make_rendering(env: EnvLike, made: VectorEnv, num_envs: int) -> VectorEnv:
    """Give an environment that renders arrays: the one made, or if it has a name, another."""
    if made.render_mode == "rgb_array":
        return made
    modes = made.metadata.get("render_modes", [])
    if isinstance(env, str | EnvSpec) and "rgb_array" in modes:
        made.close()
        return make_vector_env(partial(gym.make, env, render_mode="rgb_array"), num_envs)
    raise EnvError(
        f"{made} can't be drawn: its render mode is {made.render_mode!r} of {modes}; expected "
        "render_mode='rgb_array' when it is made, CartPole, Pendulum, or a function `paint`."
    )


def shrink(frame: Array, height: int, width: int) -> Array:
    """Make a picture (R, R', 3) grey and small: (H, W) uint8, each pixel the mean of its area."""
    grey = Image.fromarray(frame.astype(np.uint8)).convert("L")
    return np.asarray(grey.resize((width, height), Image.Resampling.BOX))


def to_bytes(greys: Array) -> Array:
    """Turn greys from 0 to 1 into uint8."""
    rounded: Array = (greys * 255).round().astype(np.uint8)
    return rounded


# ---- drawing ---------------------------------------------------------------------------------


def find_painter(env: VectorEnv) -> Painter | None:
    """Find what draws an environment from its observations, if nothing has changed those."""
    parts: list[Any] = [env]
    for part in parts:  # it grows on the way
        parts += [part.env] if hasattr(part, "env") else list(getattr(part, "envs", []))[:1]
    changing = (VectorObservationWrapper, gym.ObservationWrapper)
    changed = any(isinstance(part, changing) for part in parts)
    return None if changed else PAINTERS.get(type(parts[-1]))


def draw_cartpole(states: Array, height: int, width: int) -> Array:
    """Draw (N, 4) positions, velocities, angles and angular velocities as (N, H, W) greys.

    Example:
        >>> draw_cartpole(np.zeros((1, 4)), 16, 16).max()
        np.float32(1.0)
    """
    across, down = _grid(height, width)  # (1, H, W) units
    middle = UNITS * width / height / 2
    x, _, angle, _ = (column[:, None, None].astype(np.float32) for column in states.T)
    x = middle + x / TRACK * (middle - 2)
    pixel = height / UNITS
    cart = _inside(3.0 - abs(across - x), pixel) * _inside(1.5 - abs(down - HINGE - 1.5), pixel)
    pole = _inside(1.25 - _apart(across - x, HINGE - down, LEAN * angle, POLE), pixel)
    return np.maximum(0.5 * cart, pole)


def draw_pendulum(states: Array, height: int, width: int) -> Array:
    """Draw (N, 3) cosines, sines and angular velocities as (N, H, W) greys; at 0, it stands.

    Example:
        >>> draw_pendulum(np.array([[1.0, 0.0, 0.0]]), 16, 16).shape
        (1, 16, 16)
    """
    across, down = _grid(height, width)
    cosine, sine, _ = (column[:, None, None].astype(np.float32) for column in states.T)
    right, up = across - UNITS * width / height / 2, UNITS / 2 - down
    angle = np.arctan2(-sine, cosine)  # it turns counterclockwise
    return _inside(1.25 - _apart(right, up, angle, ROD), height / UNITS)


def _grid(height: int, width: int) -> tuple[Array, Array]:
    """Give the middles of all pixels, in units from the left and from the top."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)[:, None]
    return (columns + 0.5) * (UNITS / height), (rows + 0.5) * (UNITS / height)


def _apart(right: Array, up: Array, angle: Array, length: float) -> Array:
    """Measure how far points are from a bar that leans by an angle from its foot at (0, 0)."""
    sine, cosine = np.sin(angle), np.cos(angle)
    along = np.clip(right * sine + up * cosine, 0, length)
    apart: Array = np.hypot(right - along * sine, up - along * cosine)
    return apart


def _inside(depth: Array, pixel: float) -> Array:
    """Turn how deep points lie in a shape, in units, into greys: 0 outside, soft at its edge."""
    greys: Array = np.clip(depth * pixel + 0.5, 0, 1)
    return greys


PAINTERS: dict[type, Painter] = {
    CartPoleEnv: draw_cartpole,
    CartPoleVectorEnv: draw_cartpole,
    PendulumEnv: draw_pendulum,
}
