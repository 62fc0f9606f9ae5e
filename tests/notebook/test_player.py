"""The episode player: what it shows of each frame, and that a page can play it without a kernel."""

from __future__ import annotations

import ast
import base64
import io
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.wrappers import TransformAction
from painter import Painter, bound
from PIL import Image

from lightning_rl import PPOAgent, SACAgent
from lightning_rl.notebook.action_names import ACTION_NAMES, action_names
from lightning_rl.notebook.player import EpisodePlayer, affordable, played
from lightning_rl.notebook.recording import EpisodeRecord, record_episode

CHROMIUM = Path("/usr/bin/chromium")
EVERY = np.arange(6)  # of the frames of `painted`


def grey(picture: str) -> int:
    with Image.open(io.BytesIO(base64.b64decode(picture))) as opened:
        return int(np.asarray(opened.convert("RGB"))[4, 4, 0])


def test_every_frame_is_there_with_its_numbers(painted: EpisodeRecord) -> None:
    shown = played(painted, EVERY)
    assert [grey(picture) for picture in shown["pictures"]] == [0, 10, 20, 30, 40, 50]
    assert painted.probabilities is not None
    np.testing.assert_allclose(shown["policy"]["heights"], painted.probabilities, rtol=1e-3)
    assert shown["policy"]["taken"] == [*painted.actions.tolist(), None]
    assert [curve["title"] for curve in shown["curves"]] == ["value", "return so far"]
    assert shown["curves"][1]["values"] == painted.returns_so_far.tolist()
    assert all(one["hint"].endswith(".") for one in (shown["policy"], *shown["curves"]))
    assert shown["captions"][-1] == "env step 5: the end (a final state)"
    assert shown["interval"] == 50  # ms: 20 frames a second


def test_the_axis_of_the_values_does_not_exaggerate(painted: EpisodeRecord) -> None:
    nearly_flat = replace(painted, values=np.linspace(49.8, 49.9, 6, dtype=np.float32))
    value = played(nearly_flat, EVERY)["curves"][0]
    assert (value["low"], value["high"]) == (0.0, 60.0)


def test_a_spread_of_actions_is_inside_the_axis() -> None:
    env = Painter(spaces.Box(-3, 1, (2,), np.float32))
    policy = played(record_episode(bound(SACAgent(), env), env), EVERY)["policy"]
    heights, spreads = np.array(policy["heights"]), np.array(policy["spreads"])
    assert policy["low"] <= (heights - spreads).min()
    assert (heights + spreads).max() <= policy["high"]


def test_more_frames_than_a_notebook_should_hold_are_thinned_evenly() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (40, 30, 40, 3), np.uint8)
    sizes = [len(base64.b64decode(p)) for p in pictures(noise, np.arange(40))]
    kept = affordable(noise, sum(sizes) // 4)
    assert kept[0] == 0
    assert kept[-1] == 39
    assert set(np.diff(kept[:-1])) == {4}
    assert affordable(noise, 2 * sum(sizes)).tolist() == list(range(40))


def pictures(frames: Any, chosen: Any) -> list[str]:
    steps = len(frames) - 1
    record = EpisodeRecord(frames, np.zeros(steps, np.int64), np.ones(steps), True, False)
    found: list[str] = played(record, chosen)["pictures"]
    return found


def test_a_thinned_episode_plays_as_fast_as_the_whole(painted: EpisodeRecord) -> None:
    assert played(painted, np.array([0, 5]))["interval"] == 250  # ms: five frames in one


def test_no_text_ends_the_script(painted: EpisodeRecord) -> None:
    html = EpisodePlayer(replace(painted, action_names=("</script><b>", "1", "2"))).html
    assert html.count("</script>") == 1
    data = re.search(r"\n\}\)\((.*)\);\n", html)
    assert data
    assert json.loads(data[1])["policy"]["names"][0] == "</script><b>"


def test_without_its_script_the_still_is_left(painted: EpisodeRecord) -> None:
    """As JupyterLab shows a notebook that it does not trust."""
    left = re.sub(r"<script>.*</script>", "", EpisodePlayer(painted).html, flags=re.DOTALL)
    source = re.search(r'src="data:image/webp;base64,(.*?)"', left)
    assert source
    with Image.open(io.BytesIO(base64.b64decode(source[1]))) as still:
        assert still.size == painted.contact_sheet().size


@pytest.mark.parametrize("name", ACTION_NAMES)
def test_the_names_of_actions_are_those_of_the_environments_documentation(name: str) -> None:
    spec = max((s for s in gym.registry.values() if s.name == name), key=lambda s: s.version or 0)
    module, _, kind = str(spec.entry_point).partition(":")
    source = Path(gym.__file__).parents[1] / f"{module.replace('.', '/')}.py"
    classes = [
        node for node in ast.parse(source.read_text()).body if isinstance(node, ast.ClassDef)
    ]
    documented = next(ast.get_docstring(node) or "" for node in classes if node.name == kind)
    actions = documented.lower().partition("action space")[2].partition("observation space")[0]
    for number, action in enumerate(ACTION_NAMES[name]):
        line = re.search(rf"^\s*(-|\|) {number}(:|\s*\|).*$", actions, re.MULTILINE)
        assert line
        assert all(word in line[0] for word in action.split())


def test_names_of_actions_are_left_out_where_they_may_be_wrong() -> None:
    assert action_names(gym.make_vec("Pendulum-v1")) == ()

    def other_actions() -> Any:
        space = spaces.Discrete(3)
        return TransformAction(gym.make("CartPole-v1"), lambda a: min(a, 1), space)

    assert action_names(gym.vector.SyncVectorEnv([other_actions])) == ()
    record = record_episode(bound(PPOAgent(), "CartPole-v1"), "CartPole-v1", max_steps=1)
    assert record.action_names == ("push left", "push right")
    name = record.action_names[record.actions[0]]
    assert played(record, np.arange(2))["captions"][0].endswith(f"({name})")


# ---- in a browser ----------------------------------------------------------------------------


@pytest.fixture
def page() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}; apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        page = browser.new_page()
        page.errors = []
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        yield page
        browser.close()


@pytest.mark.slow
def test_a_page_without_a_kernel_scrubs_and_plays(painted: EpisodeRecord, page: Any) -> None:
    players = [EpisodePlayer(painted), EpisodePlayer(replace(painted, probabilities=None))]
    page.set_content("".join(f"<div>{player.html}</div>" for player in players))
    slider, picture = page.locator("input").first, page.locator("img").first
    assert slider.bounding_box()["width"] == picture.bounding_box()["width"]
    before = picture.get_attribute("src")
    slider.press("ArrowRight")
    assert picture.get_attribute("src") != before
    assert f"return so far: {painted.returns_so_far[1]:g}\n" in page.inner_text("body")
    assert page.locator("text=env step 1: action").count() == 1  # the second stays where it was
    page.click("button >> nth=0")
    page.wait_for_selector("text=env step 5: the end")
    page.wait_for_selector("button:has-text('Play') >> nth=1")  # it has stopped
    assert slider.input_value() == "5"
    assert page.errors == []
