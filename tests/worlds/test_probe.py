"""The probe: it finds what a straight line finds, and nothing that is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from seen import some_eye, some_pictures

from lightning_rl import TrajectoryDataset, make_random_trajectory
from lightning_rl.errors import ShapeError
from lightning_rl.worlds import Probe, join_windows, perceive

pytestmark = [
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),  # Lightning's
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrajectoryDataset, TrajectoryDataset]:
    """The same 300 env steps, as percepts and as states."""
    folder = tmp_path_factory.mktemp("steps")
    states = make_random_trajectory("CartPole-v1", folder / "s", 300, progress=False)
    return perceive(some_pictures(), some_eye(), folder / "p"), states


def test_pictures_and_states_of_one_seed_are_of_the_same_steps(both: Any) -> None:
    percepts, states = both
    rows = range(300)
    assert torch.equal(percepts[rows]["actions"], states[rows]["actions"])
    assert percepts.episode_lengths.tolist() == states.episode_lengths.tolist()


def test_states_are_read_off_themselves(both: Any) -> None:
    _, states = both
    probe = Probe(states, states)
    assert (probe.r2 > 0.999).all()
    observed = states[range(50)]["observations"]
    assert torch.allclose(probe.read(observed), observed, atol=1e-2)


def test_the_angle_is_read_off_percepts_that_were_never_told_of_it(both: Any) -> None:
    percepts, states = both
    probe = Probe(percepts, states)
    assert probe.r2[2] > 0.8
    assert probe.read(percepts[range(6)]["observations"].view(2, 3, -1)).shape == (2, 3, 4)


def test_windows_bring_what_the_states_were(both: Any) -> None:
    percepts, states = (part.with_window(3) for part in both)
    windows = join_windows(percepts, states)
    assert windows["states"].shape == (len(percepts), 3, 4)
    assert torch.equal(windows["next_states"][:, 0], windows["states"][:, 1])
    assert windows["observations"].shape[-1] == 10


def test_steps_that_are_not_the_same_are_refused(both: Any, tmp_path: Path) -> None:
    percepts, states = both
    others = make_random_trajectory("CartPole-v1", tmp_path / "o", 200, progress=False)
    with pytest.raises(ShapeError, match="the same seed"):
        Probe(percepts, others)
    with pytest.raises(ShapeError, match="the same seed"):
        join_windows(percepts.with_window(2), states)
