"""The history: every finished training episode, in order, and resumable."""

from __future__ import annotations

import copy
import io
import math
import time
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rl.stats.history import COLUMNS, EpisodeHistory

EPISODES = st.lists(
    st.tuples(st.integers(1, 10**9), st.floats(-1e6, 1e6), st.integers(1, 10**5)), max_size=20
)


def recorded(episodes: list[tuple[int, float, int]]) -> EpisodeHistory:
    history = EpisodeHistory()
    for episode in episodes:
        history.append(*episode)
    return history


@settings(deadline=None, max_examples=50)
@given(EPISODES)
def test_columns_hold_every_episode_in_order(episodes: list[tuple[int, float, int]]) -> None:
    history = recorded(episodes)
    assert len(history) == len(episodes)
    rows = zip(*(history[name] for name in COLUMNS[:3]), strict=True)
    assert list(rows) == episodes


@settings(deadline=None, max_examples=50)
@given(EPISODES, st.integers(1, 25))
def test_means_are_over_the_last_episodes(
    episodes: list[tuple[int, float, int]], last: int
) -> None:
    history, recent = recorded(episodes), episodes[-last:]
    for index, mean in ((1, history.mean_return(last)), (2, history.mean_length(last))):
        expected = np.mean([row[index] for row in recent]) if recent else math.nan
        assert mean == pytest.approx(expected, nan_ok=True)


@settings(deadline=None, max_examples=50)
@given(EPISODES)
def test_history_survives_a_checkpoint_bit_for_bit(episodes: list[tuple[int, float, int]]) -> None:
    history, resumed, file = recorded(episodes), EpisodeHistory(), io.BytesIO()
    torch.save(history.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert all(np.array_equal(history[name], resumed[name]) for name in COLUMNS)


def test_seconds_increase_and_go_on_after_a_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time between two runs is not training time."""
    now = 100.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    history = EpisodeHistory()
    for moment in (103.0, 107.0):
        now = moment
        history.append(1, 1.0, 1)
    now = 1000.0  # the next day
    history.start_clock()
    now = 1002.0
    history.append(1, 1.0, 1)
    assert history["seconds"].tolist() == [3, 7, 9]


def test_loading_replaces_what_was_recorded() -> None:
    history = recorded([(1, 1.0, 1)] * 3)
    history.load_state_dict(recorded([(9, 2.0, 4)]).state_dict())
    assert history["env_step"].tolist() == [9]


def test_returned_columns_are_copies() -> None:
    history = recorded([(1, 5.0, 1)])
    history["episode_return"][0] = 99
    assert history.mean_return() == 5


def test_unknown_column_is_a_key_error() -> None:
    with pytest.raises(KeyError, match="reward"):
        recorded([])["reward"]


def test_pandas_frame_has_a_row_an_episode() -> None:
    pytest.importorskip("pandas")
    frame = recorded([(20, 7.0, 20), (45, -1.5, 25)]).to_pandas()
    assert tuple(frame.columns) == COLUMNS
    assert frame.episode_return.tolist() == [7, -1.5]


def test_processes_exchange_what_each_has_recorded_since_the_last_time() -> None:
    histories = [EpisodeHistory() for _ in range(2)]

    def join() -> None:
        told: list[Any] = []

        def listen(rows: Any) -> Any:
            told.append(rows)
            return rows

        for history in copy.deepcopy(histories):
            history.join(listen)
        for history in histories:
            history.join(lambda _: np.concatenate(told))

    for step, length in ((10, 5), (30, 6)):
        histories[0].append(step, 1.0, length)
    histories[1].append(20, 2.0, 7)
    join()
    for history in histories:
        assert history["env_step"].tolist() == [10, 20, 30]
        assert history["episode_length"].tolist() == [5, 7, 6]
    join()  # nothing has ended since
    histories[1].append(40, 3.0, 8)
    join()
    for history in histories:
        assert history["env_step"].tolist() == [10, 20, 30, 40]
        assert history["episode_return"].tolist() == [1.0, 2.0, 1.0, 3.0]


def test_it_says_how_many_episodes_there_are_and_how_good_the_last_were() -> None:
    assert repr(EpisodeHistory()) == "<EpisodeHistory: no episode has ended yet>"
    history = recorded([(step, float(step % 2), 1) for step in range(1, 1201)])
    expected = "<EpisodeHistory: 1,200 episodes, mean return 0.50 of the last 100>"
    assert repr(history) == expected
