"""Draw the moving picture of the first screen: the returns of a run, and its agent beside them.

    python tutorials/book/first_screen.py  # writes learning.gif into this folder's _static

Everything in it happened in one run of PPO on CartPole-v1: the curve is the run's, and at each of
the moments shown a copy of the agent plays an episode of its own in a separate environment.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from lightning_rl import AgentTrainer, PPOAgent, plot_returns, record_episode

BUDGET = 65_536  # env steps
MOMENTS = 16  # of the run
FRAMES = 9  # shown at each of them
MILLISECONDS = 70  # a frame
HEIGHT = 240  # pixels
PATH = Path(__file__).parent / "_static" / "learning.gif"


class Moments(Callback):
    """Keep copies of the agent as it learns."""

    def __init__(self) -> None:
        self.agents: list[PPOAgent] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Keep one when a further share of the budget is used."""
        if pl_module.env_steps >= BUDGET * (len(self.agents) + 1) / MOMENTS:
            self.agents.append(copy.deepcopy(pl_module))


def train() -> list[PPOAgent]:
    """Give the untrained agent, and copies of it while it learns."""
    agent, moments = PPOAgent(), Moments()
    trainer = AgentTrainer(
        max_env_steps=BUDGET, seed=0, live=False, logger=False, enable_checkpointing=False,
        callbacks=[moments],
    )  # fmt: skip
    trainer.fit(agent, "CartPole-v1")
    return moments.agents


def draw_curve(agent: PPOAgent) -> Image.Image:
    """Draw the returns until now on axes that never change."""
    figure = plot_returns(agent, target=475)
    figure.set_size_inches(4.6, 2.4)
    axes = figure.axes[0]
    axes.set_xlim(0, BUDGET)
    axes.set_ylim(0, 520)
    axes.set_title(f"{agent.env_steps:,} env steps", fontsize=10, loc="left")
    if axes.get_legend():
        axes.get_legend().remove()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
    return picture.resize((round(picture.width * HEIGHT / picture.height), HEIGHT))


def play(agent: PPOAgent) -> list[Image.Image]:
    """Give frames of an episode, every sixth until the end; a short one begins anew."""
    record = record_episode(agent, "CartPole-v1", seed=1, max_steps=6 * FRAMES)
    shown = [Image.fromarray(record.frames[6 * i % len(record.frames)]) for i in range(FRAMES)]
    return [frame.resize((HEIGHT * frame.width // frame.height, HEIGHT)) for frame in shown]


def join(left: Image.Image, right: Image.Image) -> Image.Image:
    """Put two pictures of one height side by side."""
    both = Image.new("RGB", (left.width + right.width, HEIGHT), "white")
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    return both


def main() -> int:
    """Write the picture and say how large it is."""
    frames = [join(draw_curve(agent), frame) for agent in train() for frame in play(agent)]
    palette = frames[-1].quantize(64, dither=Image.Dither.NONE)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [MILLISECONDS] * (len(small) - 1) + [2_000]
    small[0].save(PATH, save_all=True, append_images=small[1:], duration=durations, loop=0)
    print(f"{PATH.name}: {len(small)} frames, {PATH.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
