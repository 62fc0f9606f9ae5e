"""A replay buffer in a folder: it outlives its buffer, or says why it can not be used."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from replayed import BOX, TWO, Episodes, fill, pairs_no_strangers

from lightning_rl.buffers.folder import MANIFEST
from lightning_rl.buffers.replay import ReplayBuffer
from lightning_rl.checkpoints.plain_values import from_plain, to_plain
from lightning_rl.errors import ConfigError, SpaceError


def test_a_folder_outlives_its_buffer(tmp_path: Path) -> None:
    folder = tmp_path / "replay"
    buffer = ReplayBuffer(20, 1, BOX, TWO, directory=folder)
    _, held = fill(buffer, [[None]] * 30)
    state = buffer.state_dict()
    assert "arrays" not in state
    again = ReplayBuffer(20, 1, BOX, TWO, directory=folder)
    assert len(again) == len(held) == 20
    batch, same = (b.sample(20, torch.Generator().manual_seed(0)) for b in (buffer, again))
    assert torch.equal(batch["observations"], same["observations"])
    again.load_state_dict(from_plain(to_plain(state)))
    again.start(np.zeros((1, 1), np.float32))
    firsts = again.sample(18, torch.Generator().manual_seed(0))["observations"].flatten()
    assert set(firsts.tolist()) <= set(held)
    assert not list(folder.glob("*.pkl"))


def test_a_folder_whose_run_was_killed_pairs_no_strangers(tmp_path: Path) -> None:
    """Between two flushes the manifest's head is old; what was written since must still be true."""
    buffer = ReplayBuffer(10, 1, BOX, TWO, directory=tmp_path)
    envs = Episodes(1, False)
    buffer.start(envs.array())
    for t in range(37):
        envs.rewards_before = np.array(envs.observations) / 10
        buffer.add(np.array([0]), {}, envs.step([None]))
        if t == 25:
            buffer.state_dict()  # flushed here; then "killed"
    again = ReplayBuffer(10, 1, BOX, TWO, directory=tmp_path)
    for batch in again.minibatches(20, 5, torch.Generator().manual_seed(0)):
        for key, first in enumerate(batch["observations"].flatten().tolist()):
            assert batch["next_observations"].flatten()[key].item() == envs.transitions[first][1]


@pytest.mark.parametrize("same_step", [False, True])
@pytest.mark.parametrize(("flushed", "killed"), [(-1, 6), (4, 8), (25, 31), (25, 37), (25, 60)])
def test_a_killed_runs_folder_is_gone_on_with(
    tmp_path: Path, flushed: int, killed: int, same_step: bool
) -> None:
    """With its checkpoint or without: what was written after it is true, or never drawn."""
    story: list[list[str | None]] = [[None], ["truncated"], [None], [None], ["terminated"]] * 12
    killed_run = ReplayBuffer(10, 1, BOX, TWO, directory=tmp_path)
    envs = Episodes(1, same_step)
    killed_run.start(envs.array())
    states, stories = [], [envs]
    for t, ends in enumerate(story[:killed]):
        envs.rewards_before = np.zeros(1)
        killed_run.add(np.array([0]), {}, envs.step(ends))
        if t == flushed:
            states = [from_plain(to_plain(killed_run.state_dict()))]
    for state in [None, *states]:
        buffer = killed_run if state else ReplayBuffer(10, 1, BOX, TWO, directory=tmp_path)
        if state:
            buffer.load_state_dict(state)
        assert len(buffer) == 0 or pairs_no_strangers(buffer, *stories)
        later = Episodes(1, same_step)
        later.count = 1000.0 if state else 2000.0
        later.observations = [later.fresh()]
        buffer.start(later.array())
        for _ in range(4):
            later.rewards_before = np.zeros(1)
            buffer.add(np.array([0]), {}, later.step([None]))
        stories.append(later)
        assert pairs_no_strangers(buffer, *stories)


def test_a_folder_that_has_gone_a_lap_further_pairs_no_strangers(tmp_path: Path) -> None:
    buffer = ReplayBuffer(10, 1, BOX, TWO, directory=tmp_path)
    envs = Episodes(1, False)
    buffer.start(envs.array())
    for t in range(37):
        envs.rewards_before = np.array(envs.observations) / 10
        buffer.add(np.array([0]), {}, envs.step([None]))
        if t == 22:
            state = from_plain(to_plain(buffer.state_dict()))
    buffer.load_state_dict(state)
    for batch in buffer.minibatches(50, 5, torch.Generator().manual_seed(0)):
        for key, first in enumerate(batch["observations"].flatten().tolist()):
            assert batch["next_observations"].flatten()[key].item() == envs.transitions[first][1]


def test_a_folder_that_cannot_be_used_says_why(tmp_path: Path, monkeypatch: Any) -> None:
    ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path / "mine").state_dict()
    before = (tmp_path / "mine" / MANIFEST).read_text()
    with pytest.raises(SpaceError, match="another environment"):
        ReplayBuffer(20, 1, BOX, spaces.Discrete(3), directory=tmp_path / "mine")
    assert (tmp_path / "mine" / MANIFEST).read_text() == before  # nothing lost
    (tmp_path / "file").write_text("a letter")
    with pytest.raises(ConfigError, match="can't hold the replay buffer"):
        ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path / "file")
    with pytest.raises(ConfigError, match="holds other files"):
        ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path)
    with pytest.raises(ConfigError, match="are free"):
        ReplayBuffer(10**13, 1, BOX, TWO, directory=tmp_path / "huge")
    assert not list((tmp_path / "huge").iterdir())

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(ConfigError, match="No space left on device"):
        ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path / "full")
    assert not list((tmp_path / "full").iterdir())


def test_a_read_only_folder_says_so(tmp_path: Path, monkeypatch: Any) -> None:
    """The tests may run as root, whom no permission stops: the refusal is played."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(np.lib.format, "open_memmap", refuse)
    with pytest.raises(ConfigError, match="Permission denied"):
        ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path)


@pytest.mark.parametrize("head", [-1, 99, "0", True, None])
def test_a_damaged_manifest_is_refused(tmp_path: Path, head: Any) -> None:
    ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path).state_dict()
    manifest = tmp_path / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"head": head}))
    with pytest.raises(ConfigError, match="damaged"):
        ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path)
    manifest.write_text("not json")
    with pytest.raises(ConfigError, match="damaged"):
        ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path)


def test_arrays_of_objects_are_not_unpickled(tmp_path: Path) -> None:
    ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path).state_dict()
    np.save(tmp_path / "0.npy", np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    with pytest.raises(ConfigError, match="damaged"):
        ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path)
