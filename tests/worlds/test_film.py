"""Films of dreams: what is above, what is below, and where a dream is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from seen import QUIET, TINY, TINY_EYE, small_ppo

from lightning_rl import EpisodePlayer
from lightning_rl.errors import ConfigError, ShapeError, SpaceError, StateError
from lightning_rl.worlds import (
    DrawnDreamEnv,
    DreamEnv,
    Eye,
    Prediction,
    WorldModel,
    WorldModelConfig,
    film_dream,
    learn_from_pictures,
)
from lightning_rl.worlds.film import dream_on, enlarge, farthest_apart, pictures_of

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),  # Lightning's
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Any:
    parts: dict[str, Any] = {
        "agent": small_ppo(),
        "eye": Eye(TINY_EYE),
        "model": WorldModel(WorldModelConfig(num_members=3, hidden_sizes=(8,))),
    }
    folder = tmp_path_factory.mktemp("film")
    return learn_from_pictures("CartPole-v1", folder, **parts, config=TINY, **QUIET)


def longest(result: Any) -> dict[str, torch.Tensor]:
    episode: dict[str, torch.Tensor] = result.pictures.episode(
        int(result.pictures.episode_lengths.argmax())
    )
    return episode


def test_reality_is_above_and_two_members_that_part_are_below(result: Any) -> None:
    film = film_dream(result.model, result.eye, longest(result), num_steps=8)
    assert film.frames.shape == (9, 2 * 180, 2 * 164, 3)
    assert len(film) == 8
    real = Image.fromarray(film.frames[3]).crop((84, 20, 244, 180))
    shown = enlarge(pictures_of(longest(result))[4].numpy())
    assert np.array_equal(np.asarray(real), np.asarray(shown))


def test_a_dream_begins_where_reality_is_and_goes_on_with_its_actions(result: Any) -> None:
    episode = longest(result)
    prediction = dream_on(result.model, result.eye, episode, 2, 6)
    number = int(result.pictures.episode_lengths.argmax())
    stored = result.percepts.episode(number)
    expected = result.model.predict(stored["observations"][2:3], episode["actions"][None, 2:6])
    assert torch.allclose(prediction.mean, expected.mean, atol=1e-3)


def test_members_are_chosen_that_end_farthest_apart() -> None:
    ends = torch.tensor([0.0, 5.0, 1.0, -3.0]).view(4, 1, 1, 1)
    some = torch.zeros(4, 1, 1)
    assert farthest_apart(Prediction(ends, some, some, ends[0], some[0])) == (1, 3)


def test_a_dream_that_leaves_what_is_known_stays_and_dims(result: Any) -> None:
    nowhere = (np.full(10, 50.0), np.full(10, 60.0))
    film = film_dream(
        result.model, result.eye, longest(result), num_steps=5, members=[0], known_range=nowhere
    )
    below = film.frames[:, 200:, :, 0].astype(float).mean((1, 2))
    assert film.frames.shape[1:] == (360, 164, 3)
    assert (below[2:] < below[1]).all()  # the first step is shown, then it is over
    assert np.array_equal(film.frames[2][200:], film.frames[5][200:])


@pytest.mark.parametrize("ending", ["gif", "png"])
def test_a_film_is_saved(result: Any, tmp_path: Path, ending: str) -> None:
    film = film_dream(result.model, result.eye, longest(result), num_steps=4)
    film.save(tmp_path / f"film.{ending}")
    with Image.open(tmp_path / f"film.{ending}") as saved:
        assert saved.n_frames > 1  # type: ignore[attr-defined]


def test_the_agents_own_episode_is_filmed(result: Any) -> None:
    assert 1 <= len(result.film(num_steps=6, members=[1])) <= 6


def test_dreams_are_watched_in_the_episode_player(result: Any) -> None:
    player = EpisodePlayer(result.agent, result.drawn_dream(), max_steps=3)
    assert player.record.frames.shape[1:] == (160, 160, 3)
    assert player.record.probabilities is not None
    env = result.drawn_dream()
    with pytest.raises(StateError, match="not begun"):
        env.render()
    percepts, _ = env.reset(seed=0)
    seen = result.eye.draw(torch.from_numpy(percepts[:, :4]))[0].numpy()
    assert np.array_equal(env.render()[0], np.asarray(enlarge(seen)))


def test_films_of_what_is_not_there_are_refused(result: Any) -> None:
    episode = longest(result)
    with pytest.raises(ConfigError, match="steps within it"):
        film_dream(result.model, result.eye, episode, num_steps=10_000)
    with pytest.raises(ConfigError, match="numbers from 0 to 2"):
        film_dream(result.model, result.eye, episode, members=[3])
    with pytest.raises(ShapeError, match="rows, columns, channels"):
        film_dream(result.model, result.eye, result.percepts.episode(0), num_steps=1)
    with pytest.raises(StateError, match="no size yet"):
        film_dream(result.model, Eye(), episode)
    states = DreamEnv(result.model, result.percepts, 1)
    eye = Eye(TINY_EYE.__class__(num_codes=5), result.pictures.observation_space)
    with pytest.raises(SpaceError, match="twice its 5 codes"):
        DrawnDreamEnv(states, eye)
    with pytest.raises(StateError, match="no size yet"):
        DrawnDreamEnv(states, Eye())
    with pytest.raises(StateError, match="was not trained"):
        DrawnDreamEnv(states, Eye(observation_space=result.pictures.observation_space))
