"""Pictures of a world model: every number, every step."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from seen import some_eye, some_pictures
from springs import built, spring

from lightning_rl import WorldModel, make_random_trajectory
from lightning_rl.worlds import HorizonErrors, Probe, horizon_errors, join_windows, perceive
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


def test_a_panel_that_nothing_is_left_for_is_not_shown(tmp_path: Path) -> None:
    data = make_random_trajectory("Pendulum-v1", tmp_path, 60, num_envs=1, progress=False)
    model = WorldModel()
    model.build(data.observation_space, data.action_space)
    figure = plot_predictions(model, data.with_window(5)[[0, 1, 2]], index=2)
    assert [axes.get_visible() for axes in figure.axes] == [True, True, True, False]


def test_percepts_are_shown_as_the_state_that_a_probe_reads_off_them(tmp_path: Path) -> None:
    states = make_random_trajectory("CartPole-v1", tmp_path / "s", 300, progress=False)
    percepts = perceive(some_pictures(), some_eye(), tmp_path / "p")
    model = WorldModel()
    model.build(percepts.observation_space, percepts.action_space)
    probe = Probe(percepts, states)
    windows = join_windows(percepts.with_window(5), states.with_window(5))
    figure = plot_predictions(model, windows, index=3, probe=probe)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_ylabel() for axes in panels] == [f"state {number}" for number in range(4)]
    drawn = {line.get_label(): line.get_ydata() for line in panels[2].lines}
    np.testing.assert_allclose(drawn["true"], windows["next_states"][3, :, 2])
    errors = horizon_errors(model, windows, probe)
    figure = plot_horizon_errors(model, windows, probe=probe)
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), errors.error)
    moved = (windows["next_states"] - windows["states"][:, :1]) / probe.state_std
    np.testing.assert_allclose(errors.no_change, moved.square().mean((0, 2)).sqrt(), rtol=1e-4)


def test_valid_steps_end_where_the_error_first_is_too_large() -> None:
    errors = torch.tensor([0.1, 0.3, 0.8, 0.2])
    found = HorizonErrors(errors, errors, errors)
    assert [found.valid_steps(limit) for limit in (0.05, 0.2, 0.5, 1.0)] == [0, 1, 2, 4]
