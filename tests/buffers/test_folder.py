"""A replay buffer in a folder: it outlives its buffer, or says why it can not be used."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from replayed import BOX, TWO, Episodes, fill, pairs_no_strangers

from lightning_rl.buffers import folder as folder_module
from lightning_rl.buffers.folder import FORMAT, MANIFEST
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


# ---- the manifest --------------------------------------------------------------------------------


def opened(folder: Path, **options: Any) -> ReplayBuffer:
    return ReplayBuffer(**{"capacity": 20, "num_envs": 1, "observation_space": BOX,
                           "action_space": TWO, "directory": folder, **options})  # fmt: skip


def filled(folder: Path, steps: int = 5, **options: Any) -> Episodes:
    """Fill a folder, and close it."""
    buffer = opened(folder, **options)
    envs, _ = fill(buffer, [[None] * buffer.num_envs] * steps)
    buffer.close()
    return envs


def rewritten(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change a manifest, and its checksum with it, as somebody who knows how would."""
    content = json.loads((folder / MANIFEST).read_text())
    del content["sha256"]
    change(content)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    (folder / MANIFEST).write_text(json.dumps(content | {"sha256": digest}))


def damaged(folder: Path, reason: str) -> str:
    """Give the pattern of the error."""
    where = f"the replay buffer in directory={str(folder)!r} is damaged"
    return f"^{re.escape(f'{where}: {reason}. Give a new directory.')}$"


def test_the_manifest_says_what_lies_in_the_folder(tmp_path: Path) -> None:
    opened(tmp_path).close()
    content = json.loads((tmp_path / MANIFEST).read_text())
    assert set(content) == {
        "format", "observation_space", "action_space", "fields", "head", "is_full", "num_added",
        "sums", "sha256",
    }  # fmt: skip
    assert (content["observation_space"], content["action_space"]) == (str(BOX), str(TWO))
    assert content["fields"]["rewards"] == ["float32", [21, 1]]
    assert (content["head"], content["is_full"], content["num_added"]) == (0, False, 0)


def test_another_space_of_the_same_arrays_is_refused_and_both_are_named(tmp_path: Path) -> None:
    filled(tmp_path)
    other = spaces.Box(-2, 2, (1,), np.float32)
    message = (
        f"directory={str(tmp_path)!r} holds transitions of another environment, number of "
        f"sub-environments or capacity: {[('observation_space', str(BOX))]}; expected "
        f"{[('observation_space', str(other))]}. Give another directory."
    )
    with pytest.raises(SpaceError, match=f"^{re.escape(message)}$"):
        opened(tmp_path, observation_space=other)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(head=21),  # one row behind the last
        lambda c: c.update(num_added=-1),
        lambda c: c.update(is_full=1),
        lambda c: c.pop("head"),
    ],
)
def test_a_place_that_is_none_is_damage(change: Any, tmp_path: Path) -> None:
    filled(tmp_path)
    rewritten(tmp_path, change)
    with pytest.raises(ConfigError, match=r"is damaged: it says head=.*, is_full=.*, num_added="):
        opened(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.update(sums="x" * 21),
        lambda c: c.update(sums=c["sums"][:-1]),
        lambda c: c.pop("sums"),
    ],
)
def test_other_checksums_than_there_are_blocks_are_damage(change: Any, tmp_path: Path) -> None:
    filled(tmp_path)
    rewritten(tmp_path, change)
    reason = "the manifest has other checksums than its size asks for"
    with pytest.raises(ConfigError, match=damaged(tmp_path, reason)):
        opened(tmp_path)


@pytest.mark.parametrize(
    "change", [lambda c: c.update(num_added=6), lambda c: c.pop("sha256"), lambda c: c.update(a=1)]
)
def test_whatever_was_changed_in_the_manifest_is_noticed(change: Any, tmp_path: Path) -> None:
    filled(tmp_path)
    content = json.loads((tmp_path / MANIFEST).read_text())
    change(content)
    (tmp_path / MANIFEST).write_text(json.dumps(content))
    reason = "the manifest is not as it was written (its checksum differs)"
    with pytest.raises(ConfigError, match=damaged(tmp_path, reason)):
        opened(tmp_path)


def test_a_manifest_of_another_kind_or_format_is_named(tmp_path: Path) -> None:
    filled(tmp_path)
    (tmp_path / MANIFEST).write_text("[]")
    with pytest.raises(ConfigError, match=damaged(tmp_path, "the manifest is no JSON object")):
        opened(tmp_path)
    (tmp_path / MANIFEST).write_text('{"format": 77}')
    message = (
        f"directory={str(tmp_path)!r} has format 77; expected {FORMAT}. Give a new directory, or "
        "the version that wrote it."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        opened(tmp_path)


# ---- rows, and their checksums -------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 20, 41, 42, 50])
def test_damage_is_found_wherever_the_ring_goes_on(steps: int, tmp_path: Path) -> None:
    """Also where it has one transition, is exactly full, or goes on at its first row."""
    filled(tmp_path, steps)
    rewards = np.load(tmp_path / "2.npy", mmap_mode="r+")
    assert rewards.dtype == np.float32
    newest = (steps - 1) % 21
    rewards[newest] += 1
    rewards.flush()
    held = min(steps, 20)
    lost = 1 if steps == 1 else 2  # its next observation may be damaged, as far as is known
    message = (
        f"{lost} of {held} transitions in directory={str(tmp_path)!r} were added after the folder "
        "was last saved, or are damaged; they are left out."
    )
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        buffer = opened(tmp_path)
    assert len(buffer) == held - lost


@pytest.mark.parametrize("between", range(1, 12))
def test_checksums_are_right_wherever_rows_were_added_since_the_last(
    between: int, tmp_path: Path
) -> None:
    """What was flushed is whole, whether the rows since then went over the ring's end or not."""
    buffer = opened(tmp_path, capacity=10)
    envs = Episodes(1, same_step=False)
    buffer.start(envs.array())
    for t in range(40):
        envs.rewards_before = np.array(envs.observations) / 10
        buffer.add(np.array([0]), {}, envs.step([None]))
        if t % between == 0:
            buffer.state_dict()
    buffer.state_dict()
    buffer.folder.close()  # type: ignore[union-attr]  # as a killed process
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = opened(tmp_path, capacity=10)
    assert len(again) == 10
    assert pairs_no_strangers(again, envs)


def test_the_arrays_of_several_environments_are_numpys_own(tmp_path: Path) -> None:
    filled(tmp_path, num_envs=2)
    buffer = opened(tmp_path, num_envs=2)
    read = [np.load(file, allow_pickle=False) for file in sorted(tmp_path.glob("*.npy"))]
    assert all(array.flags.c_contiguous and not array.flags.f_contiguous for array in read[1:])
    assert any(np.array_equal(array, buffer.rewards) for array in read)


# ---- folders that can't be had ----------------------------------------------------------------


def test_a_folder_is_made_with_those_around_it(tmp_path: Path) -> None:
    filled(tmp_path / "runs" / "first" / "replay")
    assert len(opened(tmp_path / "runs" / "first" / "replay")) == 5


def test_a_folder_of_other_files_is_refused_in_full_sentences(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    message = (
        f"directory={str(tmp_path)!r} holds other files than a replay buffer's; expected a new or "
        "empty folder."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        opened(tmp_path)


@pytest.mark.parametrize(("more", "fits"), [(0, True), (-1, False)])
def test_a_disk_with_just_enough_room_will_do(
    more: int, fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = 21 * (4 + 1 + 4 + 1)
    usage = SimpleNamespace(free=needed + more)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    if fits:
        opened(tmp_path).close()
        return
    message = (
        f"directory={str(tmp_path)!r} can't hold the replay buffer: it needs {needed} bytes, and "
        f"{needed - 1} are free. Give a folder that can be written, on a disk with enough room."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        opened(tmp_path)


def test_what_can_not_be_flushed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = opened(tmp_path)

    def full(*_: Any) -> None:
        raise OSError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(folder_module, "replace_file", full)
        where = re.escape(f"the replay buffer in directory={str(tmp_path)!r}")
        with pytest.raises(ConfigError, match=f"^{where} could not be written: no room\\.$"):
            buffer.state_dict()
    buffer.close()


def test_a_second_buffer_is_told_what_the_folder_is_wanted_for(tmp_path: Path) -> None:
    buffer = opened(tmp_path)
    with pytest.raises(LockedError, match="the only one to fill this replay buffer\\. Wait"):
        opened(tmp_path)
    assert torch.equal(torch.from_numpy(buffer.rewards[:1]), torch.zeros(1, 1))
