"""Recorded episodes of an agent: each picture with what the agent made of it."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from lightning_rl.agent import LightningAgentModule
from lightning_rl.buffers.arrays import to_array
from lightning_rl.envs.runner import EndedEpisodes, EnvRunner, to_env_actions
from lightning_rl.envs.running_statistics import carry_statistics
from lightning_rl.envs.vectorize import EnvLike
from lightning_rl.errors import ConfigError, EnvError, needs_extra
from lightning_rl.evaluation import evaluation_mode
from lightning_rl.networks.distributions import (
    Bernoulli,
    Categorical,
    DiagonalGaussian,
    MultiCategorical,
    action_distribution,
)
from lightning_rl.notebook.action_names import action_names
from lightning_rl.notebook.figures import png
from lightning_rl.notebook.rendering_env import rendering_env
from lightning_rl.settings import count, given_count, seed_number
from lightning_rl.threads import check_idle

DEFAULT_FPS = 30  # where the environment's metadata does not say
MAX_FRAME_BYTES = 2**29  # of an episode whose length nobody limited
EDGE = (190, 190, 190)  # the grey around each picture of a contact sheet, to see where it ends
SHORTEST_FRAME_MS = 20  # browsers show a GIF's frame for 100 ms if it asks for less


@dataclass(frozen=True, eq=False)
class EpisodeRecord:
    """An episode of T env steps: what was seen, thought and done. Shown as a contact sheet.

    What the agent's `assess` did not give is None.

    Attributes:
        frames: (T + 1, H, W, 3) uint8; frame t is what action t answered.
        actions: (T, ...) as the agent chose them: not yet clipped to a Box, nor shifted by `start`.
        rewards: (T,) received after each action.
        terminated: whether a final state ended the episode.
        truncated: whether a limit of the environment ended it; neither: `max_steps` did.
        probabilities: (T + 1, P) of each discrete action (or of each choice, for several at once).
        means: (T + 1, A) of a continuous policy, in the environment's units.
        stds: (T + 1, A) its standard deviations.
        action_values: (T + 1, n) Q(s, a) of each discrete action.
        values: (T + 1,) V(s), or the value of the best action.
        fps: frames a second, as the environment says.
        action_names: what each discrete action does, where that is known.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[Any]
    rewards: NDArray[np.float64]
    terminated: bool
    truncated: bool
    probabilities: NDArray[np.float32] | None = None
    means: NDArray[np.float32] | None = None
    stds: NDArray[np.float32] | None = None
    action_values: NDArray[np.float32] | None = None
    values: NDArray[np.float32] | None = None
    fps: int = DEFAULT_FPS
    action_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Count the env steps."""
        return len(self.rewards)

    @property
    def returns_so_far(self) -> NDArray[np.float64]:
        """The rewards received before each frame, summed: (T + 1,), from 0 to the return."""
        return np.concatenate([[0.0], np.cumsum(self.rewards)])

    @property
    def episode_return(self) -> float:
        """The undiscounted sum of the rewards."""
        return float(self.rewards.sum())

    def __repr__(self) -> str:
        """Say how long the episode was and what it returned."""
        return f"EpisodeRecord({len(self)} env steps, return {self.episode_return:.1f})"

    def _repr_png_(self) -> bytes:
        """Draw the contact sheet; IPython looks for this name."""
        return png(self.contact_sheet())

    def contact_sheet(self) -> Image.Image:
        """Join 8 frames, evenly spread over the episode, in two rows."""
        height, width = self.frames.shape[1:3]
        chosen = np.linspace(0, len(self.frames) - 1, 8).round().astype(int)
        grid = self.frames[chosen].reshape(2, 4, height, width, 3).swapaxes(1, 2)
        sheet = Image.fromarray(grid.reshape(2 * height, 4 * width, 3))
        sheet.thumbnail((800, 800))
        pen = ImageDraw.Draw(sheet)
        wide, high = sheet.width / 4, sheet.height / 2
        for row, column in np.ndindex(2, 4):
            left, top = column * wide, row * high
            pen.rectangle((left, top, left + wide - 1, top + high - 1), outline=EDGE)
        return sheet

    def save(self, path: str | Path) -> None:
        """Write the episode as a moving picture.

        Args:
            path: ends in `.gif` (256 colours), `.png` (an animated PNG, all colours), or `.mp4`,
                which needs the library imageio-ffmpeg.

        Raises:
            ConfigError: for another ending, a folder that does not exist, or if imageio-ffmpeg is
                not installed.
        """
        path = Path(path)
        if not path.parent.is_dir():  # ffmpeg would only say so on stderr
            raise ConfigError(
                f"{path} can't be written: there is no folder {path.parent}; make it."
            )
        if path.suffix == ".mp4":
            self._save_mp4(path)
        elif path.suffix in (".gif", ".png"):
            first, *others = (Image.fromarray(frame) for frame in self.frames)
            duration = max(1000 / self.fps, SHORTEST_FRAME_MS)
            first.save(path, save_all=True, append_images=others, duration=duration, loop=0)
        else:
            raise ConfigError(f"{path.name} can't be written; expected .gif, .png or .mp4.")

    def _save_mp4(self, path: Path) -> None:
        with needs_extra("video", f"to write {path.name}, where .gif and .png need none"):
            ffmpeg = importlib.import_module("imageio_ffmpeg")
        height, width = (size // 2 * 2 for size in self.frames.shape[1:3])  # as the codec wants
        writer = ffmpeg.write_frames(str(path), (width, height), fps=self.fps, macro_block_size=2)
        writer.send(None)
        for frame in self.frames[:, :height, :width]:
            writer.send(np.ascontiguousarray(frame))
        writer.close()


def record_episode(
    agent: LightningAgentModule,
    env: EnvLike,
    seed: int = 0,
    deterministic: bool = True,
    max_steps: int | None = None,
    height: int = 200,
) -> EpisodeRecord:
    """Play one episode in a separate copy of an environment and keep its pictures.

    Training is not touched: not the environment, not the statistics, not the random numbers. No
    display is needed, as the environment draws into arrays (`render_mode="rgb_array"`).

    Args:
        agent: a trained agent, or one loaded from a checkpoint.
        env: a name, an `EnvSpec`, a `gymnasium.Env` (it is copied, never stepped), or a function
            that makes a new one; or a vector environment with one sub-environment that renders.
        seed: of the episode and, if they are drawn, of the actions.
        deterministic: take the best actions instead of drawing them.
        max_steps: stop after so many env steps. Default: when the episode ends, or its frames take
            512 MiB, which a warning says.
        height: pixel rows of a stored frame; larger ones are shrunk to it, to save memory.

    Raises:
        ConfigError: if `max_steps` or `height` is below 1.
        StateError: if the agent was never trained, loaded or bound to an environment.
        EnvError: if the environment can't be made, or can't draw itself into an array.
        SpaceError: if it has other spaces than the agent.

    Example:
        >>> from lightning_rl import EnvDataLoader, PPOAgent
        >>> agent = PPOAgent()
        >>> _ = EnvDataLoader(agent, "CartPole-v1")  # binds the (untrained) agent
        >>> record = record_episode(agent, "CartPole-v1", max_steps=5)
        >>> record.frames.shape, record.probabilities.shape
        ((6, 200, 300, 3), (6, 2))
    """
    max_steps, height = given_count("max_steps", max_steps), count("height", height)
    seed = seed_number(seed)
    agent.check_bound()
    check_idle(agent)
    with rendering_env(env, agent.observation_space) as vector_env:
        agent.bind_spaces(vector_env.single_observation_space, vector_env.single_action_space)
        carry_statistics(vector_env, agent.runner and agent.runner.env)
        with evaluation_mode(agent, seed):
            return _play(agent, vector_env, seed, deterministic, max_steps, height)


def _play(
    agent: LightningAgentModule,
    env: VectorEnv,
    seed: int,
    deterministic: bool,
    max_steps: int | None,
    height: int,
) -> EpisodeRecord:
    ended: list[EndedEpisodes] = []
    runner = EnvRunner(env, ended.append)
    runner.reset(seed=seed)
    frames, thoughts = [], []
    actions: list[Any] = []
    rewards: list[float] = []
    terminated = truncated = False
    while True:
        inputs = agent.as_input(agent.prepare(runner.observations))
        frames.append(_frame(env, height))
        thoughts.append(_assess(agent, inputs))
        if ended or len(rewards) == max_steps or _is_too_much(frames, max_steps):
            break
        chosen = to_array(agent.act(inputs, deterministic)[0])
        step = runner.step(to_env_actions(chosen, agent.action_space))
        actions.append(chosen[0])
        rewards.append(float(step.rewards[0]))
        terminated, truncated = bool(step.terminated[0]), bool(step.truncated[0])
    assessed = {name: np.stack([thought[name] for thought in thoughts]) for name in thoughts[0]}
    return EpisodeRecord(
        np.stack(frames), np.asarray(actions), np.asarray(rewards), terminated, truncated,
        fps=int(env.metadata.get("render_fps") or DEFAULT_FPS), action_names=action_names(env),
        **assessed,
    )  # fmt: skip


def _is_too_much(frames: list[NDArray[np.uint8]], max_steps: int | None) -> bool:
    """Tell whether frames that nobody limited fill the memory, and say it."""
    if max_steps is not None or len(frames) * frames[0].nbytes < MAX_FRAME_BYTES:
        return False
    warnings.warn(
        f"the episode did not end within {len(frames) - 1:,} env steps, whose frames take "
        f"{MAX_FRAME_BYTES // 2**20} MiB; it is cut there. Give max_steps, or a smaller height.",
        stacklevel=2,
    )
    return True


def _frame(env: VectorEnv, height: int) -> NDArray[np.uint8]:
    frames: Any = env.render()
    frame = frames[0]
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[-1] != 3:
        raise EnvError(
            f"render() returned {getattr(frame, 'shape', type(frame).__name__)}; expected an array "
            "(H, W, 3) of uint8, as render_mode='rgb_array' promises."
        )
    if len(frame) <= height:
        return frame.astype(np.uint8)
    size = (round(frame.shape[1] * height / len(frame)), height)
    return np.asarray(Image.fromarray(frame.astype(np.uint8)).resize(size, Image.Resampling.BOX))


def _assess(agent: LightningAgentModule, inputs: Any) -> dict[str, NDArray[np.float32]]:
    """Ask the agent what it makes of one observation; drop the row axis."""
    thoughts = dict(agent.assess(inputs))
    if "action_parameters" in thoughts:
        thoughts |= _policy_numbers(thoughts.pop("action_parameters"), agent.action_space)
    return {name: to_array(value.float())[0] for name, value in thoughts.items()}


def _policy_numbers(parameters: Tensor, space: gym.Space) -> dict[str, Tensor]:
    distribution = action_distribution(parameters.float(), space)
    if isinstance(distribution, DiagonalGaussian):
        return {"means": distribution.mean, "stds": distribution.log_std.exp()}
    if isinstance(distribution, Bernoulli):
        return {"probabilities": distribution.logits.sigmoid()}
    parts = distribution.parts if isinstance(distribution, MultiCategorical) else [distribution]
    choices = [part.log_probs.exp() for part in parts if isinstance(part, Categorical)]
    return {"probabilities": torch.cat(choices, dim=-1)}
