"""Trajectories go to Minari and come back, by the library itself."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from lightning_rl.errors import ConfigError, DatasetError, NonFiniteError, SpaceError
from lightning_rl.testing.probe_envs import IdentityEnv
from lightning_rl.trajectories import minari as minari_module
from lightning_rl.trajectories.collect import make_random_trajectory
from lightning_rl.trajectories.dataset import TrajectoryDataset
from lightning_rl.trajectories.minari import from_minari, to_minari
from lightning_rl.trajectories.writer import TrajectoryWriter

minari = pytest.importorskip("minari")
pytestmark = pytest.mark.filterwarnings(  # Minari asks for an author and the like
    "ignore:.*is set to None:UserWarning", "ignore:env_spec is None:UserWarning"
)
NAME = "test/random-v0"


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))


def assert_equal(one: TrajectoryDataset, other: TrajectoryDataset) -> None:
    assert one.episode_lengths.tolist() == other.episode_lengths.tolist()
    assert (one.observation_space, one.action_space) == (
        other.observation_space,
        other.action_space,
    )
    rows, others = one[range(len(one))], other[range(len(other))]
    torch.testing.assert_close(rows, others, rtol=0, atol=0)


def test_a_dataset_comes_back_as_it_went(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minari_module, "EPISODES_AT_ONCE", 7)
    dataset = make_random_trajectory("CartPole-v1", tmp_path / "ours", 600, progress=False)
    written = to_minari(dataset, NAME, env="CartPole-v1", algorithm_name="random", author="me")
    assert (written.total_steps, written.total_episodes) == (600, dataset.num_episodes)
    back = from_minari(written, tmp_path / "back")
    assert back.env_id == "CartPole-v1"
    assert_equal(dataset, back)
    assert_equal(dataset, from_minari(NAME, tmp_path / "by_name"))
    back.verify()


def test_minari_reads_what_was_stored(tmp_path: Path) -> None:
    dataset = make_random_trajectory("CartPole-v1", tmp_path, 200, progress=False)
    to_minari(dataset, NAME)
    episodes = list(minari.load_dataset(NAME).iterate_episodes())
    cut = 0
    for number, episode in enumerate(episodes):
        ours = dataset.episode(number)
        np.testing.assert_array_equal(episode.observations[:-1], ours["observations"])
        np.testing.assert_array_equal(episode.observations[1:], ours["next_observations"])
        np.testing.assert_array_equal(episode.actions, ours["actions"])
        np.testing.assert_array_equal(episode.terminations, ours["terminated"])
        cut += not (episode.terminations[-1] or episode.truncations[-1])
    assert cut > 0  # the running episodes at the end, with no false mark of a limit


SPACES = {
    "pixels": spaces.Box(0, 255, (8, 8, 3), np.uint8),
    "float64": spaces.Box(-1, 1, (3,), np.float64),
    "number": spaces.Discrete(4),
    "bits": spaces.MultiBinary(3),
    "numbers": spaces.MultiDiscrete([3, 2]),
}


@pytest.mark.parametrize("name", SPACES)
def test_every_kind_of_space_comes_back(tmp_path: Path, name: str) -> None:
    dataset = make_random_trajectory(
        lambda: IdentityEnv(SPACES[name], length=4), tmp_path / "a", 21, num_envs=2, progress=False
    )
    assert_equal(dataset, from_minari(to_minari(dataset, NAME), tmp_path / "b"))


def test_dicts_of_observations_come_back(tmp_path: Path) -> None:
    space = spaces.Dict({"point": spaces.Box(-1, 1, (2,)), "turn": spaces.Discrete(3)})
    writer = TrajectoryWriter(tmp_path / "a", space, spaces.Discrete(2))
    for length in (1, 3):
        observations = {"point": np.full((length + 1, 2), 0.5), "turn": np.arange(length + 1) % 3}
        writer.add(observations, np.zeros(length), np.ones(length), length == 1, length == 3)
    writer.flush()
    dataset = TrajectoryDataset(tmp_path / "a")
    assert_equal(dataset, from_minari(to_minari(dataset, NAME), tmp_path / "b"))


def make_minari(observation_space: spaces.Space, observations: Any, **changed: Any) -> Any:
    from minari.data_collector import EpisodeBuffer

    fields = {
        "actions": np.zeros(2, dtype=np.int64), "rewards": np.ones(2), "infos": {},
        "terminations": np.array([False, True]), "truncations": np.array([False, False]),
    }  # fmt: skip
    buffer = EpisodeBuffer(observations=observations, **(fields | changed))
    return minari.create_dataset_from_buffers(
        NAME, [buffer], observation_space=observation_space, action_space=spaces.Discrete(2)
    )


def test_a_space_without_arrays_is_refused(tmp_path: Path) -> None:
    source = make_minari(spaces.Text(3), ["a", "b", "c"])
    with pytest.raises(SpaceError, match="Text"):
        from_minari(source, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_nan_is_refused(tmp_path: Path) -> None:
    observations = np.array([[0.0], [np.nan], [1.0]], dtype=np.float32)
    source = make_minari(spaces.Box(-1, 1, (1,)), observations)
    with pytest.raises(NonFiniteError, match="episode 0"):
        from_minari(source, tmp_path / "new")


def test_names_that_are_missing_or_taken_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="list_local_datasets"):
        from_minari("test/none-v0", tmp_path / "new")
    dataset = make_random_trajectory("CartPole-v1", tmp_path / "ours", 20, progress=False)
    to_minari(dataset, NAME)
    with pytest.raises(ConfigError, match="delete_dataset"):
        to_minari(dataset, NAME)


def test_without_the_library_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "minari", None)
    with pytest.raises(ConfigError, match=r"minari is not .*lightning_rl\[minari\]"):
        from_minari(NAME, tmp_path / "new")


def test_a_dataset_that_cannot_be_read_or_is_empty_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = make_random_trajectory("CartPole-v1", tmp_path / "ours", 60, progress=False)
    written = to_minari(dataset, NAME)

    def breaks() -> Any:
        raise OSError("the disk is gone")

    monkeypatch.setattr(written, "iterate_episodes", breaks)
    with pytest.raises(DatasetError, match=f"'{NAME}' can't be read: the disk is gone"):
        from_minari(written, tmp_path / "one")
    monkeypatch.setattr(written, "iterate_episodes", lambda: iter(()))
    with pytest.raises(DatasetError, match=f"'{NAME}' has no env steps"):
        from_minari(written, tmp_path / "two")
