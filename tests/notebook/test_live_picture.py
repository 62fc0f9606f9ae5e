"""The picture that is drawn several times a second: what it keeps, what it draws anew."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from PIL import Image

from lightning_rl import EpisodeHistory
from lightning_rl.notebook.curves import draw_curves, draw_labels
from lightning_rl.notebook.live_picture import WAITING, LivePicture, make_figure, roomy


def history(*returns: float) -> EpisodeHistory:
    episodes = EpisodeHistory()
    for number, value in enumerate(returns, start=1):
        episodes.append(env_step=100 * number, episode_return=value, episode_length=100)
    return episodes


def pixels(picture: LivePicture) -> Any:
    return np.asarray(Image.open(io.BytesIO(picture.png())).convert("RGB")).astype(int)


@pytest.fixture
def drawn_plots(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The plots whose axes, ticks and texts were drawn."""
    plots: list[Any] = []
    draw = LivePicture._part
    monkeypatch.setattr(
        LivePicture, "_part", lambda self, index: plots.append(index) or draw(self, index)
    )
    return plots


def test_points_alone_draw_no_axes_anew(drawn_plots: list[Any]) -> None:
    picture = LivePicture(target=475.0)
    for count in range(5):
        picture.draw({"": [history(*range(9, 9 + count))]}, env_steps=1000)
    assert drawn_plots == [0]


def test_a_value_beyond_the_limits_draws_its_own_plot_anew(drawn_plots: list[Any]) -> None:
    picture = LivePicture(["loss", "entropy"])
    scalars = {"loss": [(100.0, 1.0)], "entropy": [(100.0, 1.0)]}
    picture.draw({"": [history(9.0)]}, (), [scalars], 1000)
    scalars["entropy"].append((200.0, 7.0))
    picture.draw({"": [history(9.0)]}, (), [scalars], 1000)
    assert drawn_plots == [0, 1, 2, 2]


def test_a_frame_on_kept_axes_is_the_frame_drawn_at_once() -> None:
    kept, fresh = LivePicture(["loss"]), LivePicture(["loss"])
    scalars = {"loss": [(100.0, 3.0), (200.0, 1.0)]}
    kept.draw({"": [history(40.0)]}, (), [{"loss": scalars["loss"][:1]}], 1000)
    for picture in (kept, fresh):
        picture.draw({"": [history(40.0, 20.0, 30.0)]}, [(200.0, 35.0)], [scalars], 1000)
    assert np.abs(pixels(kept) - pixels(fresh)).max() <= 2


def test_the_picture_says_that_no_episode_has_ended_and_takes_it_back() -> None:
    picture = LivePicture()
    texts = picture.figure.axes[0].texts
    picture.draw({"": [history()]}, env_steps=1000)
    assert [t.get_text() for t in texts if t.get_visible()] == [WAITING]
    picture.draw({"": [history(5.0)]}, env_steps=1000)
    assert [t for t in texts if t.get_visible()] == []


def test_the_env_steps_span_the_budget_from_the_start_to_the_end() -> None:
    picture = LivePicture()
    ends = []
    for returns in ((), (1.0,), (1.0,) * 10):  # the last episode ends at 1,000
        picture.draw({"": [history(*returns)]}, env_steps=995)
        ends.append(picture.figure.axes[0].get_xlim())
    assert ends[0] == ends[1] == ends[2]
    assert ends[0][0] == 0.0
    assert 1000 <= ends[0][1] <= 1010


def test_a_long_last_iteration_widens_the_env_steps_by_no_more_than_it_needs() -> None:
    picture = LivePicture()
    picture.draw({"": [history(*[1.0] * 10)]}, env_steps=900)  # the last episode ends at 1,000
    assert 1000 <= picture.figure.axes[0].get_xlim()[1] <= 1020


def test_without_a_budget_the_env_steps_grow_by_doubling(drawn_plots: list[Any]) -> None:
    picture = LivePicture()
    for count in range(1, 65):
        picture.draw({"": [history(*[1.0] * count)]})
    assert picture.figure.axes[0].get_xlim()[1] >= 6400
    assert len(drawn_plots) <= 8


def test_the_last_picture_has_axes_that_fit_what_is_left_on_it() -> None:
    picture = LivePicture()
    lucky = history(*[1.0] * 40, 900.0)  # seen as a point, while the run goes on
    picture.draw({"": [lucky]}, env_steps=5000)
    assert picture.figure.axes[0].get_ylim() == (0.0, 1000.0)
    seeds = {"": [lucky, history(*[1.0] * 40)]}  # their curves are means of 20 episodes
    picture.draw(seeds, env_steps=5000)
    assert picture.figure.axes[0].get_ylim() == (0.0, 1000.0)
    picture.draw(seeds, env_steps=5000, is_last=True)
    assert picture.figure.axes[0].get_ylim() == (0.0, 60.0)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1), st.lists(st.floats(-1e9, 1e9), min_size=1))
def test_limits_hold_all_there_was_and_zero(first: list[float], then: list[float]) -> None:
    before = roomy(first, None)
    low, high = roomy(then, before) or (0.0, 0.0)
    assert low < high
    slack = 1e-9 * (high - low)  # of what rounding to ticks takes for equal
    assert low - slack <= min(0.0, *first, *then)
    assert max(0.0, *first, *then) <= high + slack


@pytest.mark.parametrize("nothing", [[], [float("nan")], [float("inf")]])
def test_limits_of_nothing_finite_stay(nothing: list[float]) -> None:
    assert roomy(nothing, None) is None
    assert roomy(nothing, (0.0, 2.0)) == (0.0, 2.0)


@pytest.mark.parametrize("largest", [500.0, -1600.0, 99_999.0, 5e7])
def test_every_number_and_label_is_inside_the_picture(largest: float) -> None:
    figure = make_figure(())
    draw_curves(figure.axes[0], {"": [history(0.0, largest)]})
    draw_labels(figure.axes[0], target=largest)
    FigureCanvasAgg(figure).draw()
    box = figure.get_tightbbox().padded(-0.02)  # inches; matplotlib's own slack
    assert figure.bbox_inches.x0 <= box.x0
    assert figure.bbox_inches.y0 <= box.y0
    assert box.x1 <= figure.bbox_inches.x1
    assert box.y1 <= figure.bbox_inches.y1


def test_a_dark_style_is_followed_throughout() -> None:
    with style.context("dark_background"):
        picture = LivePicture(["loss"])
        picture.draw({}, [(10.0, 5.0)], env_steps=100)
    axes = picture.figure.axes[0]
    texts = {axes.xaxis.label.get_color(), axes.get_lines()[0].get_color()}
    assert {to_hex(color) for color in texts} == {"#ffffff"}
    assert pixels(picture)[0, 0].tolist() == [0, 0, 0]
