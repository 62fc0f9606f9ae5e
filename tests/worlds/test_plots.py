"""Pictures of a world model: every number, every step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from springs import built, spring

from lightning_rl.worlds.plots import plot_horizon_errors, plot_predictions

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),  # Lightning's
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:You defined a .validation_step."),
    pytest.mark.filterwarnings("ignore:Checkpoint directory"),
]


# ---- pictures --------------------------------------------------------------------------------


def test_pictures_show_every_number_and_every_step(tmp_path: Path) -> None:
    model, windows = built(), spring(6, window=9).steps
    figure = plot_predictions(model, windows, index=5, path=str(tmp_path / "p.png"))
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_ylabel() for axes in panels] == ["observation 0", "observation 1"]
    drawn = {line.get_label(): line.get_ydata() for line in panels[0].lines}
    np.testing.assert_allclose(drawn["true"], windows["next_observations"][5, :, 0])
    figure = plot_horizon_errors(model, windows, path=str(tmp_path / "h.png"))
    assert [len(line.get_xdata()) for line in figure.axes[0].lines] == [9, 9, 9]
    assert {file.name for file in tmp_path.iterdir()} == {"p.png", "h.png"}
