"""A replay buffer in a folder: it outlives its buffer, or says why it can not be used."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import warnings
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
from lightning_rl.errors import ConfigError, LockedError, SpaceError, StateError
from lightning_rl.locks import LOCK


def kill(buffer: ReplayBuffer) -> None:
    """Let a folder go as a killed process does: what was not flushed is in the files, unsummed."""
    assert buffer.folder is not None
    buffer.folder.close()


def test_a_folder_outlives_its_buffer(tmp_path: Path) -> None:
    folder = tmp_path / "replay"
    buffer = ReplayBuffer(20, 1, BOX, TWO, directory=folder)
    _, held = fill(buffer, [[None]] * 30)
    state = buffer.state_dict()
    assert "arrays" not in state
    with pytest.raises(LockedError, match=str(os.getpid())):  # also within a process
        ReplayBuffer(20, 1, BOX, TWO, directory=folder)
    buffer.close()
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
        if t == 30:
            buffer.state_dict()  # flushed here; then "killed"
    kill(buffer)
    with pytest.warns(UserWarning, match="7 of 10 transitions .* were added after"):
        again = ReplayBuffer(10, 1, BOX, TWO, directory=tmp_path)
    assert len(again) == 3
    for batch in again.minibatches(20, 3, torch.Generator().manual_seed(0)):
        for key, first in enumerate(batch["observations"].flatten().tolist()):
            assert batch["next_observations"].flatten()[key].item() == envs.transitions[first][1]


@pytest.mark.filterwarnings("ignore:.* of .* transitions in directory")
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
    kill(killed_run)
    for state in [None, *states]:
        if state is None:
            buffer = ReplayBuffer(10, 1, BOX, TWO, directory=tmp_path)
        if state:
            with pytest.warns(UserWarning, match="has changed since the checkpoint"):
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
    with pytest.warns(UserWarning, match="has changed since the checkpoint"):
        buffer.load_state_dict(state)
    for batch in buffer.minibatches(50, 5, torch.Generator().manual_seed(0)):
        for key, first in enumerate(batch["observations"].flatten().tolist()):
            assert batch["next_observations"].flatten()[key].item() == envs.transitions[first][1]


def test_a_folder_that_cannot_be_used_says_why(tmp_path: Path, monkeypatch: Any) -> None:
    ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path / "mine").close()
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
    assert [file.name for file in (tmp_path / "huge").iterdir()] == [LOCK]

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(ConfigError, match="No space left on device"):
        ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path / "full")
    assert [file.name for file in (tmp_path / "full").iterdir()] == [LOCK]


def test_a_read_only_folder_says_so(tmp_path: Path, monkeypatch: Any) -> None:
    """The tests may run as root, whom no permission stops: the refusal is played."""

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(ConfigError, match="Permission denied"):
        ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path)


@pytest.mark.parametrize("head", [-1, 99, "0", True, None])
def test_a_damaged_manifest_is_refused(tmp_path: Path, head: Any) -> None:
    ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path).close()
    manifest = tmp_path / MANIFEST
    content = json.loads(manifest.read_text()) | {"head": head}
    del content["sha256"]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    manifest.write_text(json.dumps(content | {"sha256": digest}))
    with pytest.raises(ConfigError, match="damaged"):
        ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path)
    manifest.write_text("not json")
    with pytest.raises(ConfigError, match="damaged"):
        ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path)


def test_arrays_of_objects_are_not_unpickled(tmp_path: Path) -> None:
    ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path).close()
    np.save(tmp_path / "0.npy", np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    with pytest.raises(ConfigError, match="damaged"):
        ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path)


def links_and_pipes(folder: Path, victim: Path, name: str, kind: str) -> None:
    """Put in the place of a file what a stranger might."""
    (folder / name).unlink(missing_ok=True)
    if kind == "link":
        (folder / name).symlink_to(victim)
    elif kind == "hard link":
        os.link(victim, folder / name)
    else:
        os.mkfifo(folder / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="of POSIX")
@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
@pytest.mark.parametrize("name", ["0.npy", "3.npy", MANIFEST, f"{MANIFEST}.new"])
def test_nothing_is_written_through_a_link_nor_waited_for(
    tmp_path: Path, name: str, kind: str
) -> None:
    folder, victim = tmp_path / "replay", tmp_path / "thesis.npy"
    buffer = ReplayBuffer(20, 1, BOX, TWO, directory=folder)
    fill(buffer, [[None]] * 5)
    buffer.close()
    victim.write_bytes((folder / "0.npy").read_bytes() if name == "0.npy" else b"a thesis")
    before = victim.read_bytes()
    links_and_pipes(folder, victim, name, kind)
    if name.endswith(".new"):  # which is replaced, not followed
        again = ReplayBuffer(20, 1, BOX, TWO, directory=folder)
        again.start(np.full((1, 1), 7, np.float32))
        again.close()
    else:
        with pytest.raises(ConfigError, match="damaged"):
            ReplayBuffer(20, 1, BOX, TWO, directory=folder)
    assert victim.read_bytes() == before


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 50_000, "[]", "1e999", '{"format": 1}'])
def test_a_strange_manifest_is_refused(tmp_path: Path, text: str) -> None:
    ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path).close()
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(ConfigError, match=r"damaged|format"):
        ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path)


def test_sizes_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path).close()
    os.truncate(tmp_path / MANIFEST, 2**33)  # a sparse file: no room is taken
    with pytest.raises(ConfigError, match="8589934592 bytes"):
        ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path)
    ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path / "other").close()
    os.truncate(tmp_path / "other" / "0.npy", 2**40)
    with pytest.raises(ConfigError, match=r"0\.npy is no array"):
        ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path / "other")


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """It is refused, or the transitions it is among are left out: what is drawn has happened."""
    folder = tmp_path / "replay"
    buffer = ReplayBuffer(20, 1, BOX, TWO, directory=folder)
    envs, _ = fill(buffer, [[None], [None], ["truncated"]] * 11)
    num_held = len(buffer)
    buffer.close()
    files = {file: file.read_bytes() for file in folder.iterdir() if file.name != ".lock"}
    dice = random.Random(0)  # noqa: S311
    for _ in range(100):
        file = dice.choice(sorted(files))
        at = dice.randrange(len(files[file]) * 8)
        changed = bytearray(files[file])
        changed[at // 8] ^= 1 << at % 8
        file.write_bytes(changed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                again = ReplayBuffer(20, 1, BOX, TWO, directory=folder)
            except (ConfigError, SpaceError):
                caught = ["refused"]  # type: ignore[list-item]
            else:
                assert len(again) < num_held or not caught
                assert pairs_no_strangers(again, envs)
                again.close()
        assert caught or len(again) == num_held  # a flag of a row that holds nothing
        for name, content in files.items():
            name.write_bytes(content)


def test_opening_a_folder_to_look_at_it_changes_nothing(tmp_path: Path) -> None:
    buffer = ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path)
    fill(buffer, [[None]] * 7)
    buffer.close()
    before = {file.name: file.read_bytes() for file in tmp_path.glob("*.*") if file.suffix}
    seen = ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path)
    assert len(seen) == 7
    seen.folder.close()  # type: ignore[union-attr]
    after = {file.name: file.read_bytes() for file in tmp_path.glob("*.*") if file.suffix}
    assert before == after


def test_a_closed_folder_is_not_written_until_it_is_reopened(tmp_path: Path) -> None:
    buffer = ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path)
    fill(buffer, [[None]] * 7)
    buffer.close()
    assert buffer.sample(3)["rewards"].shape == (3,)
    with pytest.raises(StateError, match="was closed"):
        buffer.start(np.zeros((1, 1), np.float32))
    other = ReplayBuffer(20, 1, BOX, TWO, directory=tmp_path)
    fill(other, [[None]] * 3)
    other.close()
    buffer.reopen()
    assert len(buffer) == len(other) == 10


def test_what_is_not_flushed_block_by_block_is_what_a_kill_costs(tmp_path: Path) -> None:
    """3,000 rows are summed in blocks of three; only those written since are summed again."""
    buffer = ReplayBuffer(3000, 1, BOX, TWO, directory=tmp_path)
    envs, _ = fill(buffer, [[None]] * 100)
    buffer.state_dict()
    for _ in range(5):
        envs.rewards_before = np.array(envs.observations) / 10
        buffer.add(np.array([0]), {}, envs.step([None]))
    kill(buffer)
    with pytest.warns(UserWarning, match="left out"):
        again = ReplayBuffer(3000, 1, BOX, TWO, directory=tmp_path)
    assert len(again) == 98  # rows 99 to 101 are a block, and row 98's next observation is in it
    assert pairs_no_strangers(again, envs)


# ---- what is said -----------------------------------------------------------------------------


def test_a_second_writer_is_told_what_the_first_does(tmp_path: Path) -> None:
    buffer = ReplayBuffer(8, 1, BOX, TWO, directory=tmp_path)
    for _ in "ab":  # when it is made, and when it is opened again
        with pytest.raises(LockedError, match="fill this replay buffer"):
            ReplayBuffer(8, 1, BOX, TWO, directory=tmp_path)
        buffer.close()
        buffer.reopen()
    buffer.close()


def test_what_a_closed_a_changed_and_a_damaged_folder_say(tmp_path: Path) -> None:
    buffer = ReplayBuffer(8, 1, BOX, TWO, directory=tmp_path)
    envs, _ = fill(buffer, [[None]] * 3)
    state = buffer.state_dict()
    envs.rewards_before = np.zeros(1)
    buffer.add(np.array([0]), {}, envs.step([None]))
    where = re.escape(f"the replay buffer in directory={str(tmp_path)!r}")
    changed = (
        "has changed since the checkpoint was written. The run goes on with it as it is, so it "
        "will differ from one that was never stopped."
    )
    with pytest.warns(UserWarning, match=f"^{where} {re.escape(changed)}$"):
        buffer.load_state_dict(state)
    buffer.close()
    with pytest.raises(StateError, match=rf"^{where} was closed; .* before it is written\.$"):
        buffer.start(np.zeros((1, 1), np.float32))
    (tmp_path / MANIFEST).write_text("[")
    with pytest.raises(ConfigError, match=rf"^{where} is damaged: .*\. Give a new directory\.$"):
        ReplayBuffer(8, 1, BOX, TWO, directory=tmp_path)


def test_the_files_are_numpys_own(tmp_path: Path) -> None:
    buffer = ReplayBuffer(8, 1, BOX, TWO, directory=tmp_path)
    fill(buffer, [[None]] * 3)
    buffer.close()
    read = [np.load(file, allow_pickle=False) for file in sorted(tmp_path.glob("*.npy"))]
    assert {array.flags.c_contiguous for array in read} == {True}
    assert {(a.dtype, a.shape) for a in read} >= {(buffer.rewards.dtype, buffer.rewards.shape)}
    assert any(np.array_equal(array, buffer.rewards) for array in read)
