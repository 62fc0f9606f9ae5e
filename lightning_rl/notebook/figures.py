"""Figures that a notebook shows, of one palette."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

# Okabe and Ito's palette, which colour-blind readers can tell apart. Pictures have a background of
# their own, so that they can be read in a dark theme too: white, or that of matplotlib's style.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


class NotebookFigure(Figure):
    """A matplotlib figure that Jupyter shows as a picture although pyplot was never imported."""

    def _repr_png_(self) -> bytes:
        """Draw the figure; IPython looks for this name."""
        canvas: Any = self.canvas  # untyped in matplotlib
        if not isinstance(canvas, FigureCanvasAgg):
            canvas = FigureCanvasAgg(self)  # becomes the figure's, and keeps its pixels
        canvas.draw()
        picture = Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")
        reduced = picture.quantize(method=Image.Quantize.FASTOCTREE)  # a third of the bytes
        return png(reduced, compress_level=3)


def png(picture: Image.Image, compress_level: int = 6) -> bytes:
    """Encode a picture as PNG, from level 0 (large, at once) to 9 (small, slow)."""
    encoded = io.BytesIO()
    picture.save(encoded, format="png", compress_level=compress_level)
    return encoded.getvalue()
