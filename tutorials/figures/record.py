"""Record the course's moving pictures: random play, and beside it an agent of the package.

    python tutorials/figures/record.py           # writes the .gif files into this folder
    python tutorials/figures/record.py cartpole  # or one of them

Each agent is trained with the settings of its notebook, so this takes a minute or two. The diagrams
beside them are drawn by draw.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from lightning_rl import (
    AgentTrainer,
    EnvDataLoader,
    LightningAgentModule,
    PPOAgent,
    PPOConfig,
    SACAgent,
    record_episode,
)

FOLDER = Path(__file__).parent
HEIGHT = 180  # pixels of each picture
BANNER = 22  # pixels above it, for its name
GAP = 12  # pixels between the two
COLOURS = 32
PAUSE = 1_200  # milliseconds of the last frame


class Film(NamedTuple):
    """An environment, who learns it, and how much of it is shown."""

    env: str
    make_agent: Callable[[], LightningAgentModule]
    env_steps: int
    shown: int  # env steps
    every: int  # of them is a frame
    crop: tuple[float, float, float, float] = (0, 0, 1, 1)  # left, top, right, bottom


FILMS = {
    "cartpole": Film("CartPole-v1", PPOAgent, 65_536, 120, 3, (0.15, 0.3, 0.85, 0.85)),
    "acrobot": Film(
        "Acrobot-v1", lambda: PPOAgent(config=PPOConfig.for_env("Acrobot-v1")), 100_000, 90, 2
    ),
    "pendulum": Film("Pendulum-v1", SACAgent, 8_000, 110, 2),
}


def play(agent: LightningAgentModule, film: Film, deterministic: bool) -> list[Image.Image]:
    """Give the frames of an episode, one in `every`; one that has ended stands still."""
    record = record_episode(
        agent, film.env, seed=2, deterministic=deterministic, max_steps=film.shown, height=500
    )
    last = len(record.frames) - 1
    chosen = [min(step, last) for step in range(0, film.shown + 1, film.every)]
    return [shrink(Image.fromarray(record.frames[step]), film.crop) for step in chosen]


def shrink(frame: Image.Image, crop: tuple[float, float, float, float]) -> Image.Image:
    """Cut out what matters, and make it as high as all pictures are."""
    edges = np.array(crop) * (frame.width, frame.height, frame.width, frame.height)
    part = frame.crop(tuple(edges.round().astype(int)))
    size = (round(part.width * HEIGHT / part.height), HEIGHT)
    return part.resize(size, Image.Resampling.LANCZOS)


def join(left: Image.Image, right: Image.Image) -> Image.Image:
    """Put both side by side, each below its name."""
    both = Image.new("RGB", (left.width + GAP + right.width, BANNER + HEIGHT), "white")
    pen = ImageDraw.Draw(both)
    for x, name, picture in ((0, "random play", left), (left.width + GAP, "after training", right)):
        pen.text((x + 4, 2), name, fill="black", font=ImageFont.load_default(14))
        both.paste(picture, (x, BANNER))
    return both


def save(frames: list[Image.Image], path: Path) -> None:
    """Write a GIF in few colours that never ends."""
    palette = frames[len(frames) // 2].quantize(COLOURS, dither=Image.Dither.NONE)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [60] * (len(small) - 1) + [PAUSE]
    small[0].save(path, save_all=True, append_images=small[1:], duration=durations, loop=0)
    print(f"{path.name}: {len(small)} frames, {path.stat().st_size / 1000:.0f} kB")


def record(name: str) -> None:
    """Train an agent, and record it beside one that knows nothing and draws its actions."""
    film = FILMS[name]
    novice, agent = film.make_agent(), film.make_agent()
    EnvDataLoader(novice, film.env)  # binds it to the environment
    num_envs = 1 if film.make_agent is SACAgent else None
    trainer = AgentTrainer(max_env_steps=film.env_steps, num_envs=num_envs, seed=0, quiet=True)
    trainer.fit(agent, film.env)
    pairs = zip(play(novice, film, False), play(agent, film, True), strict=True)
    save([join(*pair) for pair in pairs], FOLDER / f"{name}.gif")


def main(names: list[str]) -> int:
    """Record those named; default: all."""
    for name in names or FILMS:
        record(name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
