"""Figures are read in light and dark themes: chosen where the theme is known, else light."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from lightning_rl import EpisodeHistory, plot_returns
from lightning_rl.notebook import theme
from lightning_rl.notebook.figures import PALETTE, NotebookFigure
from lightning_rl.notebook.live_picture import LivePicture
from lightning_rl.notebook.theme import DARK, INK, LIGHT, LIGHT_INK, SETTINGS, is_dark


def contrast(color: str, other: str) -> float:
    """Contrast of WCAG 2, from 1 (the same) to 21 (black on white)."""
    luminances = []
    for rgb in (to_rgb(color), to_rgb(other)):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        luminances.append(float(np.dot(linear, [0.2126, 0.7152, 0.0722])))
    return (max(luminances) + 0.05) / (min(luminances) + 0.05)


@pytest.mark.parametrize(("background", "ink"), [(LIGHT, INK), (DARK, LIGHT_INK)])
def test_both_forms_are_read_with_ease(background: str, ink: str) -> None:
    assert contrast(ink, background) > 7  # what WCAG asks of texts at its strictest level
    assert min(contrast(color, background) for color in PALETTE[:4]) > 3  # and of graphics
    assert min(contrast(color, background) for color in PALETTE[:6]) > 2


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("JUPYTER_CONFIG_DIR", str(tmp_path))
    monkeypatch.setattr(theme, "in_notebook", lambda: True)
    path = tmp_path / SETTINGS
    path.parent.mkdir(parents=True)
    return path


@pytest.mark.parametrize(
    ("text", "dark"),
    [
        ('{\n    // Selected Theme\n    "theme": "JupyterLab Dark"\n}', True),
        ('{"theme": "JupyterLab Dark High Contrast"}', False),  # not as JupyterLab writes it
        ('{\n    "theme": "JupyterLab Light"\n}', False),
        ('{\n    // "theme": "JupyterLab Dark"\n}', False),
        ('{\n    "adaptive-theme": true,\n    "theme": "JupyterLab Dark"\n}', False),
        ("{}", False),
        (None, False),
    ],
)
def test_the_theme_is_what_the_users_settings_say(
    settings: Path, text: str | None, dark: bool
) -> None:
    if text is not None:
        settings.write_text(text)
    assert is_dark() is dark


def pixels(png: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)


def test_in_a_dark_theme_figures_are_dark_and_files_are_not(settings: Path, tmp_path: Path) -> None:
    history = EpisodeHistory()
    for step in (10, 20, 30):
        history.append(env_step=step, episode_return=step, episode_length=10)
    figure = plot_returns(history, target=25)
    light = figure._repr_png_()  # type: ignore[attr-defined]
    settings.write_text('{\n"theme": "JupyterLab Dark"\n}')
    dark = pixels(figure._repr_png_())  # type: ignore[attr-defined]
    assert np.median(dark) == 0x11
    assert (dark.max(axis=0) >= 0xD0).all()  # the texts
    assert (dark.min(axis=1) < 0xF0).all()  # nothing is left white
    picture = LivePicture(["loss"])
    picture.draw({"": [history]}, [(10.0, 20.0)], [{"loss": [(1.0, 2.0)]}], 40.0)
    live = pixels(picture.png())
    assert np.median(live) == 0x11
    assert (live.min(axis=1) < 0xF0).all()
    settings.unlink()
    assert figure._repr_png_() == light  # type: ignore[attr-defined]


def test_what_has_a_colour_a_point_keeps_its_colours_in_a_dark_theme(settings: Path) -> None:
    settings.write_text('{\n"theme": "JupyterLab Dark"\n}')
    figure = NotebookFigure(figsize=(2, 2))
    axes = figure.subplots()
    dots = axes.scatter([0, 1], [0, 1], c=["#ff0000", "#00ff00"], s=200)
    line = axes.plot([0, 1], [1, 0], marker="o", markeredgecolor="auto")[0]
    picture = pixels(figure._repr_png_())  # type: ignore[attr-defined]
    for color in ([255, 0, 0], [0, 255, 0]):
        assert (picture == color).all(axis=1).any()
    assert dots.get_facecolor().tolist() == [[1, 0, 0, 1], [0, 1, 0, 1]]
    assert line.get_markeredgecolor() == line.get_color()
