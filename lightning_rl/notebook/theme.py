"""What figures look like in a dark theme."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from matplotlib.artist import Artist
from matplotlib.colors import to_hex, to_rgba

from lightning_rl.notebook.kernel import in_notebook

LIGHT, INK = "#ffffff", "#000000"  # matplotlib's background, and its texts and axes
DARK, LIGHT_INK = "#111111", "#e0e0e0"  # those of JupyterLab's dark theme
DARK_FORM = {LIGHT: DARK, INK: LIGHT_INK}
SETTINGS = "lab/user-settings/@jupyterlab/apputils-extension/themes.jupyterlab-settings"
THEME = re.compile(r'^\s*"theme": "(.*)"', re.MULTILINE)  # a JSON with comments
FOLLOWS_SYSTEM = re.compile(r'^\s*"adaptive-theme": true', re.MULTILINE)
COLORS = ("color", "facecolor", "edgecolor", "markerfacecolor", "markeredgecolor")


def is_dark() -> bool:
    """Tell whether JupyterLab or Notebook shows a dark theme, as the user's settings say.

    Other frontends do not say, nor do those whose theme follows the system's.

    Example:
        >>> is_dark()  # not in a notebook
        False
    """
    if not in_notebook():
        return False
    from jupyter_core.paths import jupyter_config_dir  # which every kernel has

    settings = ""
    with suppress(OSError, UnicodeDecodeError):
        settings = (Path(jupyter_config_dir()) / SETTINGS).read_text(encoding="utf-8")
    theme = THEME.search(settings)
    if theme is None or FOLLOWS_SYSTEM.search(settings):
        return False
    return "dark" in theme[1].lower()


def darken(artists: Iterable[Artist]) -> list[tuple[Any, Any]]:
    """Paint what is black in the dark form's ink, and what is white in its background.

    Returns:
        Functions that set a colour, and what to call them with to undo it.
    """
    undo = []
    for artist in artists:
        for name in COLORS:
            get, change = (getattr(artist, f"{verb}_{name}", None) for verb in ("get", "set"))
            if get is None or change is None:
                continue
            before = get()
            color = _in_the_dark(before)
            if color is not None:
                change(color)
                undo.append((change, before))
    return undo


def _in_the_dark(color: Any) -> Any:
    """Give the dark form's colour for black and for white, and nothing for any other."""
    try:
        red, green, blue, alpha = to_rgba(color)
    except (ValueError, TypeError):  # "auto", or one for each of many points
        return None
    dark = DARK_FORM.get(to_hex((red, green, blue)))
    return None if dark is None or alpha == 0.0 else to_rgba(dark, alpha)
