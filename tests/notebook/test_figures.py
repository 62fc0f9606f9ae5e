"""Figures: shown without pyplot, read in any theme by anybody."""

from __future__ import annotations

import io

import numpy as np
from IPython.core.formatters import DisplayFormatter
from matplotlib.colors import to_rgb
from PIL import Image

from lightning_rl import EpisodeHistory, plot_returns
from lightning_rl.notebook.figures import PALETTE


def history(returns: list[float]) -> EpisodeHistory:
    result = EpisodeHistory()
    for index, episode_return in enumerate(returns, start=1):
        result.append(env_step=10 * index, episode_return=episode_return, episode_length=10)
    return result


def test_jupyter_shows_the_picture_without_pyplot() -> None:
    bundle, _ = DisplayFormatter().format(plot_returns(history([1.0, 2.0])))
    assert bundle["image/png"].startswith(b"\x89PNG")


def luminance(color: str) -> float:
    """Relative luminance of WCAG 2, from 0 (black) to 1 (white)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


def test_the_first_colours_are_read_on_the_pictures_own_white() -> None:
    contrasts = [1.05 / (luminance(color) + 0.05) for color in PALETTE]
    assert min(contrasts) > 2
    assert min(contrasts[:4]) > 3  # what WCAG 2.1 asks of graphics (1.4.11)


def test_the_picture_brings_its_own_background_for_dark_themes() -> None:
    bundle, _ = DisplayFormatter().format(plot_returns(history([1.0, 2.0])))
    picture = Image.open(io.BytesIO(bundle["image/png"])).convert("RGBA")
    red, green, blue, alpha = picture.getpixel((0, 0))
    assert min(red, green, blue) >= 250
    assert alpha == 255
