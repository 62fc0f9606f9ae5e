"""Curves of returns: every run is seen, in a picture that stays small."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from lightning_rl import EpisodeHistory, PPOAgent, plot_returns
from lightning_rl.errors import StateError
from lightning_rl.notebook.curves import (
    OF_EPISODES,
    OF_RUNS,
    draw_curves,
    draw_labels,
    outline,
    rolling,
    thinned,
)
from lightning_rl.stats.aggregates import bootstrap_interval


def history(returns: list[float]) -> EpisodeHistory:
    result = EpisodeHistory()
    for index, episode_return in enumerate(returns, start=1):
        result.append(env_step=10 * index, episode_return=episode_return, episode_length=10)
    return result


def test_rolling_mean_and_deviation_look_back_over_the_window() -> None:
    means, deviations = rolling(np.array([0.0, 2.0, 4.0, 6.0]), window=2)
    assert means.tolist() == [0.0, 1.0, 3.0, 5.0]
    assert deviations.tolist() == [0.0, 1.0, 1.0, 1.0]


def test_rolling_at_some_points_is_rolling_at_all_of_them() -> None:
    values, at = np.arange(10.0) ** 2, np.array([0, 4, 9])
    everywhere, there = rolling(values, 3), rolling(values, 3, at)
    assert [a[at].tolist() for a in everywhere] == [b.tolist() for b in there]


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


def test_ten_seeds_are_drawn_as_interquartile_mean_with_a_bootstrap_band() -> None:
    finals = [0.0, 0.0, *range(100, 112, 2), 900.0, 900.0]
    axes = plot_returns([history([final] * 3) for final in finals], smooth=1).axes[0]
    (curve,) = axes.get_lines()
    assert set(curve.get_ydata()) == {105.0}
    assert curve.get_label() == "interquartile mean (10 runs)"
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    low, high = bootstrap_interval([np.array(finals)])
    assert (band.min(), band.max()) == pytest.approx((low, high))
    assert low < 105.0 < high


def test_named_runs_are_told_apart_by_colour_and_legend() -> None:
    axes = plot_returns({"a": history([1.0]), "b": history([2.0])}).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", OF_EPISODES]
    assert len({line.get_color() for line in axes.get_lines()}) == 2


def test_a_picture_is_written_where_asked(tmp_path: Path) -> None:
    plot_returns(history([1.0]), path=str(tmp_path / "returns.png"))
    assert (tmp_path / "returns.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_without_an_episode_is_refused() -> None:
    with pytest.raises(StateError, match="no finished episode"):
        plot_returns(PPOAgent())


@settings(deadline=None)
@given(arrays(np.float64, st.integers(0, 300), elements=st.floats(-1e6, 1e6)), st.integers(1, 50))
def test_an_outline_is_short_and_keeps_every_columns_extremes(y: Any, columns: int) -> None:
    x = np.arange(float(len(y)))
    kept_x, kept_y = outline(x, y, columns)
    assert len(kept_x) == len(kept_y) <= 2 * columns
    assert (np.diff(kept_x) >= 0).all()
    assert set(kept_y) <= set(y)
    if len(y):
        assert kept_y.min() == y.min()
        assert kept_y.max() == y.max()


def test_an_outline_goes_through_gaps_and_equal_steps() -> None:
    x = np.array([0.0] * 50 + [900.0] * 50 + [1000.0])
    y = np.arange(101.0)
    kept_x, kept_y = outline(x, y, columns=10)
    assert kept_x.tolist() == [0.0, 0.0, 900.0, 900.0]
    assert kept_y.tolist() == [0.0, 49.0, 50.0, 100.0]


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(2, 700))
def test_a_thinned_curve_keeps_its_ends(length: int, points: int) -> None:
    kept = thinned(length, points)
    assert kept[0] == 0
    assert kept[-1] == length - 1
    assert len(kept) == min(length, points)
    assert (np.diff(kept) > 0).all()


def test_fifty_thousand_episodes_are_drawn_as_a_pictures_width_of_points() -> None:
    episodes = history([float(i % 500) for i in range(50_000)])
    points, curve = plot_returns(episodes).axes[0].get_lines()
    assert len(points.get_xdata()) <= 1200
    assert len(curve.get_xdata()) <= 600
    means, _ = rolling(episodes["episode_return"], 20)
    assert curve.get_ydata()[-1] == means[-1]


def test_labels_drawn_again_leave_nothing_of_the_last_ones() -> None:
    axes = Figure().add_subplot()
    draw_labels(axes, target=475.0)
    draw_labels(axes, target=500.0)
    (line,) = axes.get_lines()
    assert line.get_label() == "target 500"


def test_the_target_keeps_its_distance_from_the_edge() -> None:
    axes = plot_returns(history([1.0, 461.0]), target=475.0).axes[0]
    assert axes.get_ylim()[1] > 475.0 + 0.04 * 475.0


def test_bands_stay_within_what_has_been() -> None:
    runs = [history([500.0, 0.0, 500.0, 500.0]), history([500.0] * 4)]
    for episodes in (runs, runs[0]):
        (band,) = plot_returns(episodes, smooth=2).axes[0].collections
        (path,) = band.get_paths()
        assert path.vertices[:, 1].min() >= 0.0
        assert path.vertices[:, 1].max() <= 500.0


@pytest.mark.parametrize(
    "names",
    [["PPO"], ["ReinforceWithBaseline", "Reinforce"], list("ABCDEFG"), ["PPOAgent, gamma=0.9"] * 3],
)
def test_a_legend_stays_within_the_picture_and_leaves_the_axes_their_room(names: list[str]) -> None:
    runs = {f"{name}{' ' * i}": [history([1.0, 2.0])] * 3 for i, name in enumerate(names)}
    figure = plot_returns(runs, target=475)
    FigureCanvasAgg(figure).draw()
    axes = figure.axes[0]
    assert axes.get_legend().get_window_extent().x1 <= figure.bbox.x1
    assert axes.get_window_extent().width > 0.8 * figure.bbox.width


def test_a_legend_counts_the_runs() -> None:
    axes = plot_returns({"PPO": [history([1.0, 2.0])] * 3, "one pass": history([1.0])}).axes[0]
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts[:2] == ["PPO (3 runs)", "one pass"]
    assert sorted(texts[2:]) == sorted([OF_RUNS, OF_EPISODES])


def test_each_band_keeps_its_colour_in_the_saved_picture() -> None:
    runs = {name: [history([low] * 9), history([low + 90.0] * 9)]
            for name, low in (("a", 0.0), ("b", 100.0), ("c", 200.0))}  # fmt: skip
    figure = plot_returns(runs)
    picture = Image.open(io.BytesIO(figure._repr_png_())).convert("RGB")
    figure.canvas.draw()
    drawn = np.asarray(figure.canvas.buffer_rgba())[..., :3].reshape(-1, 3)
    kept = np.asarray(picture).reshape(-1, 3)
    colors, counts = np.unique(drawn, axis=0, return_counts=True)
    for color in colors[np.argsort(-counts)[:5]]:
        at = (drawn == color).all(1)
        assert np.abs(kept[at].astype(int) - color).max() <= 1


def test_evaluations_are_diamonds() -> None:
    axes = Figure().add_subplot()
    draw_curves(axes, {"": [history([1.0])]}, evaluations=[(10.0, 5.0), (20.0, 6.0)])
    (marks,) = [line for line in axes.get_lines() if line.get_label() == "evaluation"]
    assert marks.get_marker() == "D"
    assert marks.get_xydata().tolist() == [[10.0, 5.0], [20.0, 6.0]]


def test_a_name_with_dollars_is_no_formula() -> None:
    history = EpisodeHistory()
    history.append(env_step=10, episode_return=1.0, episode_length=10)
    assert plot_returns({"costs $_{ or $": history})._repr_png_()


def test_live_seeds_have_a_curve_each_and_a_band_from_three_on() -> None:
    histories = []
    for seed in range(3):
        history = EpisodeHistory()
        for step in (10, 20):
            history.append(env_step=step, episode_return=step + seed, episode_length=10)
        histories.append(history)
    for count, lines, bands in ((2, 2, 0), (3, 4, 1)):
        axes = Figure().add_subplot()
        draw_curves(axes, {"PPO": histories[:count]}, each=True)
        assert (len(axes.lines), len(axes.collections)) == (lines, bands)
        labels = axes.get_legend_handles_labels()[1]
        assert sorted(labels) == sorted([f"PPO ({count} runs)", OF_RUNS][: 1 + bands])
