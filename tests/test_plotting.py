"""The picture of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter

from lightning_rl import EpisodeHistory, PPOAgent, plot_returns
from lightning_rl.errors import StateError
from lightning_rl.plotting import rolling


def history(returns: list[float]) -> EpisodeHistory:
    result = EpisodeHistory()
    for index, episode_return in enumerate(returns, start=1):
        result.append(env_step=10 * index, episode_return=episode_return, episode_length=10)
    return result


def test_rolling_mean_and_deviation_look_back_over_the_window() -> None:
    means, deviations = rolling(np.array([0.0, 2.0, 4.0, 6.0]), window=2)
    assert means.tolist() == [0.0, 1.0, 3.0, 5.0]
    assert deviations.tolist() == [0.0, 1.0, 1.0, 1.0]


def test_one_run_shows_its_episodes_its_curve_and_the_target() -> None:
    figure = plot_returns(history([1.0, 2.0, 3.0]), smooth=1, target=2.5)
    points, curve, target = figure.axes[0].get_lines()
    assert points.get_ydata().tolist() == [1.0, 2.0, 3.0]
    assert curve.get_xdata().tolist() == [10.0, 20.0, 30.0]
    assert target.get_ydata() == [2.5, 2.5]


def test_the_band_stays_within_the_returns_that_were_seen() -> None:
    figure = plot_returns(history([0.0, 500.0, 500.0, 0.0]), smooth=4)
    band = figure.axes[0].collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() >= 0.0
    assert band.max() <= 500.0


def test_seeds_are_drawn_as_their_mean_up_to_the_shortest_run() -> None:
    seeds = [history([0.0, 0.0]), history([2.0, 2.0, 2.0])]
    (curve,) = plot_returns(seeds, smooth=1).axes[0].get_lines()
    assert set(curve.get_ydata()) == {1.0}
    assert curve.get_xdata()[-1] == 20.0


def test_named_runs_are_told_apart_by_colour_and_legend() -> None:
    axes = plot_returns({"a": history([1.0]), "b": history([2.0])}).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    assert len({line.get_color() for line in axes.get_lines()}) == 2


def test_a_picture_is_written_where_asked(tmp_path: Path) -> None:
    plot_returns(history([1.0]), path=str(tmp_path / "returns.png"))
    assert (tmp_path / "returns.png").read_bytes().startswith(b"\x89PNG")


def test_jupyter_shows_the_picture_without_pyplot() -> None:
    bundle, _ = DisplayFormatter().format(plot_returns(history([1.0, 2.0])))
    assert bundle["image/png"].startswith(b"\x89PNG")


def test_a_run_without_an_episode_is_refused() -> None:
    with pytest.raises(StateError, match="no finished episode"):
        plot_returns(PPOAgent())
