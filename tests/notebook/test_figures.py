"""Figures: shown without pyplot, read in any theme by anybody."""

from __future__ import annotations

import io

from IPython.core.formatters import DisplayFormatter
from PIL import Image

from lightning_rl import EpisodeHistory, plot_returns


def history(returns: list[float]) -> EpisodeHistory:
    result = EpisodeHistory()
    for index, episode_return in enumerate(returns, start=1):
        result.append(env_step=10 * index, episode_return=episode_return, episode_length=10)
    return result


def test_jupyter_shows_the_picture_without_pyplot() -> None:
    bundle, _ = DisplayFormatter().format(plot_returns(history([1.0, 2.0])))
    assert bundle["image/png"].startswith(b"\x89PNG")


def test_the_picture_brings_its_own_background_for_dark_themes() -> None:
    bundle, _ = DisplayFormatter().format(plot_returns(history([1.0, 2.0])))
    picture = Image.open(io.BytesIO(bundle["image/png"])).convert("RGBA")
    red, green, blue, alpha = picture.getpixel((0, 0))
    assert min(red, green, blue) >= 250
    assert alpha == 255
