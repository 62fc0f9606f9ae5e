"""What makes sense in a notebook: its kernel, figures, recorded episodes, a fit beside the cells.

What Lightning calls while it trains is in `callbacks/`.
"""

from lightning_rl.notebook.background import BackgroundFit, fit_in_background
from lightning_rl.notebook.curves import plot_returns
from lightning_rl.notebook.figures import PALETTE, NotebookFigure
from lightning_rl.notebook.kernel import in_notebook
from lightning_rl.notebook.player import EpisodePlayer
from lightning_rl.notebook.recording import EpisodeRecord, record_episode

__all__ = [
    "PALETTE",
    "BackgroundFit",
    "EpisodePlayer",
    "EpisodeRecord",
    "NotebookFigure",
    "fit_in_background",
    "in_notebook",
    "plot_returns",
    "record_episode",
]
