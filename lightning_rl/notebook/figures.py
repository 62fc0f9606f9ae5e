"""Figures that a notebook shows, of one palette."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from lightning_rl.notebook.theme import darken, is_dark

# Okabe and Ito's palette, which colour-blind readers can tell apart. Pictures have a background of
# their own, so that they can be read in any theme: white, that of matplotlib's style, or a dark one
# where the notebook's theme is known to be dark.
DRAWING_BYTES = 8000  # a drawing has fewer, in a film's size
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


class NotebookFigure(Figure):
    """A matplotlib figure that Jupyter shows as a picture although pyplot was never imported.

    In JupyterLab's dark theme it is shown in its dark form; a file has the colours that were given.
    """

    def _repr_png_(self) -> bytes:
        """Draw the figure; IPython looks for this name."""
        canvas: Any = self.canvas  # untyped in matplotlib
        if not isinstance(canvas, FigureCanvasAgg):
            canvas = FigureCanvasAgg(self)  # becomes the figure's, and keeps its pixels
        changed = darken(self.findobj()) if is_dark() else []
        canvas.draw()
        for change, before in reversed(changed):
            change(before)
        return still(pixels(canvas))


def still(picture: Image.Image, quick: bool = False) -> bytes:
    """Encode a plot as PNG in 256 colours, a third of the bytes; the quick way merges similar."""
    method = Image.Quantize.FASTOCTREE if quick else Image.Quantize.MEDIANCUT
    return png(picture.quantize(method=method))


def pixels(canvas: Any) -> Image.Image:
    """Give what was drawn, in RGB."""
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def png(picture: Image.Image) -> bytes:
    """Encode a picture as PNG, for keeping."""
    return _encode(picture, format="png")


def jpeg(picture: Image.Image) -> bytes:
    """Encode a picture as JPEG, in a millisecond: for one that is soon replaced."""
    return _encode(picture, format="jpeg", quality=85)


def webp(picture: Image.Image) -> bytes:
    """Encode a picture as WebP: a drawing without loss, in half a PNG's bytes; others with it."""
    drawing = _encode(picture, format="webp", lossless=True, method=2)
    return drawing if len(drawing) < DRAWING_BYTES else _encode(picture, format="webp", quality=75)


def _encode(picture: Image.Image, **options: Any) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, **options)
    return encoded.getvalue()
