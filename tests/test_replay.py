"""The replay buffers, against naive models written with lists."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rl.buffers.folder import MANIFEST
from lightning_rl.buffers.prioritized import PrioritizedReplayBuffer, SumTree
from lightning_rl.buffers.replay import ReplayBuffer
from lightning_rl.checkpoints.plain_values import from_plain, to_plain
from lightning_rl.envs.runner import VectorStep
from lightning_rl.errors import ConfigError, NonFiniteError, ShapeError, SpaceError, StateError

BOX = spaces.Box(-np.inf, np.inf, (1,), np.float32)
TWO = spaces.Discrete(2)
GAMMA = 0.9


class Episodes:
    """Sub-environments whose observation is a number that never comes twice.

    `ends[t][i]` is None (goes on), "terminated" or "truncated". The episodes' true story is kept:
    `transitions[observation] = (reward, next observation, end)`.
    """

    def __init__(self, num_envs: int, same_step: bool) -> None:
        self.num_envs, self.same_step = num_envs, same_step
        self.count = 0.0
        self.observations = [self.fresh() for _ in range(num_envs)]
        self.resets = [False] * num_envs
        self.transitions: dict[float, tuple[float, float, str | None]] = {}

    def fresh(self) -> float:
        self.count += 1.0
        return self.count

    def array(self) -> np.ndarray:
        return np.array(self.observations, dtype=np.float32)[:, None]

    def step(self, ends: list[str | None]) -> VectorStep:
        valid = ~np.array(self.resets)
        final = {}
        for i in range(self.num_envs):
            before = self.observations[i]
            self.observations[i] = after = self.fresh()
            if self.resets[i]:
                ends = [*ends[:i], None, *ends[i + 1 :]]
                self.resets[i] = False
                continue
            self.transitions[before] = (before / 10, after, ends[i])
            if ends[i] and self.same_step:
                final[i] = np.array([after], dtype=np.float32)
                self.observations[i] = self.fresh()
            elif ends[i]:
                self.resets[i] = True
        terminated = np.array([end == "terminated" for end in ends])
        truncated = np.array([end == "truncated" for end in ends])
        before_step = np.where(valid, self.rewards_before, 99.0).astype(np.float32)
        return VectorStep(self.array(), before_step, terminated, truncated, valid, final)

    rewards_before: np.ndarray = np.zeros(0)


def fill(
    buffer: ReplayBuffer, story: list[list[str | None]], same_step: bool = False
) -> tuple[Episodes, list[float]]:
    """Play a story into a buffer; give it and the first observations of all its transitions."""
    envs = Episodes(buffer.num_envs, same_step)
    buffer.start(envs.array())
    order: list[list[float]] = []
    for ends in story:
        envs.rewards_before = np.array(envs.observations) / 10
        known = set(envs.transitions)
        step = envs.step(ends)
        order.append([o for o in envs.transitions if o not in known])
        buffer.add(np.arange(buffer.num_envs) % 2, {}, step)
    kept = order[-(buffer.num_rows - 1) :]
    return envs, [first for row in kept for first in row]


def expected(envs: Episodes, first: float, n_steps: int) -> tuple[float, float, bool, float]:
    """Sum the rewards of one transition by a loop over the true story."""
    total, discount, observation = 0.0, 1.0, first
    for _ in range(n_steps):
        if observation not in envs.transitions:
            break  # the newest step
        reward, observation, end = envs.transitions[observation]
        total += discount * reward
        discount *= GAMMA
        if end:
            return total, observation, end == "terminated", discount
    return total, observation, False, discount


END = st.sampled_from([None, None, None, "terminated", "truncated"])


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_the_ring_holds_what_a_list_would_hold(data: Any) -> None:
    """Wrap-around, reset rows, both autoreset modes and n-step returns in one property."""
    num_envs = data.draw(st.integers(1, 3))
    steps = data.draw(st.integers(1, 30))
    rows = data.draw(st.integers(3, 12))
    n_steps = data.draw(st.integers(1, 3))
    same_step = data.draw(st.booleans())
    ends = st.lists(END, min_size=num_envs, max_size=num_envs)
    story = data.draw(st.lists(ends, min_size=steps, max_size=steps))
    buffer = ReplayBuffer(rows * num_envs, num_envs, BOX, TWO, n_steps=n_steps, gamma=GAMMA)
    envs, held = fill(buffer, story, same_step)
    assert len(buffer) == len(held)
    if not held:
        return
    single = next(buffer.minibatches(1, 1, torch.Generator().manual_seed(0)))
    draws = [buffer.sample(len(held), torch.Generator().manual_seed(seed)) for seed in range(3)]
    for batch in [*draws, single]:
        columns = (batch[k].flatten().tolist() for k in ("observations", "rewards"))
        rest = (batch[k].flatten().tolist() for k in ("next_observations", "terminated"))
        for first, reward, after, terminated, discount in zip(
            *columns, *rest, batch["discounts"].tolist(), strict=True
        ):
            assert first in held
            want = expected(envs, first, n_steps)
            assert (reward, discount) == pytest.approx((want[0], want[3]), rel=1e-5)
            assert terminated == want[2]
            assert after == want[1]


def test_every_transition_is_drawn_equally_often() -> None:
    buffer = ReplayBuffer(20, 2, BOX, TWO)
    story: list[list[str | None]] = [[None, None]] * 4 + [["truncated", None]] + [[None, None]] * 9
    _, held = fill(buffer, story)
    drawn = buffer.sample(len(buffer), torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    counts: Counter[float] = Counter()
    for batch in buffer.minibatches(2000, 10, generator):
        counts.update(batch["observations"].flatten().tolist())
    assert set(counts) == set(held)
    frequency = 20_000 / len(held)
    assert all(abs(n - frequency) < 6 * frequency**0.5 for n in counts.values())
    assert drawn["actions"].dtype == torch.int64


def test_a_truncated_end_bootstraps_from_the_true_last_observation() -> None:
    """https://github.com/DLR-RM/stable-baselines3/issues/284; SB3's memory-saving buffer can't."""
    for same_step in (False, True):
        buffer = ReplayBuffer(50, 1, BOX, TWO)
        envs, held = fill(buffer, [[None], ["truncated"], [None], [None]], same_step)
        last = held[1]
        batch = buffer.sample(len(buffer), torch.Generator().manual_seed(1))
        row = batch["observations"].flatten().tolist().index(last)
        assert batch["next_observations"][row].item() == envs.transitions[last][1] == 3.0
        assert not batch["terminated"][row]


def test_both_flags_at_once_mean_terminated() -> None:
    """https://github.com/DLR-RM/stable-baselines3/issues/1276"""
    buffer = ReplayBuffer(10, 1, BOX, TWO)
    yes, zeros = np.array([True]), np.zeros(1, np.float32)
    buffer.start(np.zeros((1, 1), np.float32))
    buffer.add(np.array([0]), {}, VectorStep(np.ones((1, 1), np.float32), zeros, yes, yes, yes, {}))
    assert buffer.sample(1)["terminated"].tolist() == [True]


def test_n_step_returns_are_cut_at_the_end_and_discounted_by_the_steps_taken() -> None:
    """pl_bolts took the first step's flag and γ for γ^n (pl_bolts/models/rl/common/memory.py)."""
    buffer = ReplayBuffer(50, 1, BOX, TWO, n_steps=3, gamma=0.5)
    fill(buffer, [[None], [None], ["terminated"], [None], [None]])
    batch = buffer.sample(len(buffer), torch.Generator().manual_seed(0))
    rows = {
        first: (reward, terminated, discount)
        for first, reward, terminated, discount in zip(
            batch["observations"].flatten().tolist(),
            batch["rewards"].tolist(),
            batch["terminated"].tolist(),
            batch["discounts"].tolist(),
            strict=True,
        )
    }
    some = {1.0: (0.275, True, 0.125), 2.0: (0.35, True, 0.25), 3.0: (0.3, True, 0.5)}
    for first, want in rows.items():
        if first in some:
            assert want == pytest.approx(some[first])
    assert set(some) & set(rows)


def test_a_new_run_is_never_joined_to_the_last() -> None:
    buffer = ReplayBuffer(50, 1, BOX, TWO, n_steps=3, gamma=0.5)
    fill(buffer, [[None], [None]])  # observations 1, 2, 3
    buffer.start(np.array([[50.0]], np.float32))
    step = VectorStep(
        np.array([[51.0]], np.float32), np.array([7.0], np.float32),
        np.array([False]), np.array([False]), np.array([True]), {},
    )  # fmt: skip
    buffer.add(np.array([0]), {}, step)
    assert len(buffer) == 3
    for seed in range(5):
        batch = buffer.sample(3, torch.Generator().manual_seed(seed))
        pairs = zip(
            batch["observations"].flatten().tolist(),
            batch["next_observations"].flatten().tolist(),
            batch["discounts"].tolist(),
            strict=True,
        )
        assert set(pairs) <= {(1.0, 3.0, 0.25), (2.0, 3.0, 0.5), (50.0, 51.0, 0.5)}


def test_dicts_images_and_offset_actions_keep_their_kinds() -> None:
    image, speed = spaces.Box(0, 255, (2, 2, 1), np.uint8), spaces.Box(-1, 1, (3,), np.float64)
    space = spaces.Dict({"image": image, "speed": speed, "room": spaces.Discrete(5)})
    buffer = ReplayBuffer(8, 2, space, spaces.Discrete(300, start=5))
    first = {
        "image": np.full((2, 2, 2, 1), 200, np.uint8),
        "speed": np.ones((2, 3)),
        "room": np.array([4, 0]),
    }
    buffer.start(first)
    ok, no = np.ones(2, bool), np.zeros(2, bool)
    buffer.add(np.array([299, 299]), {}, VectorStep(first, np.ones(2, np.float32), no, no, ok, {}))
    batch = buffer.sample(2)
    assert batch["observations"]["image"].dtype == torch.uint8
    assert batch["observations"]["image"].unique().tolist() == [200]
    assert batch["next_observations"]["speed"].dtype == torch.float32
    assert batch["observations"]["room"].dtype == torch.int64
    assert batch["actions"].tolist() == [299, 299]
    assert buffer.actions.dtype == np.uint16
    parts = list(buffer.minibatches(3, 2))
    assert [part["observations"]["speed"].shape for part in parts] == [(2, 3)] * 3


def test_it_takes_half_the_memory_of_stable_baselines3() -> None:
    stable = pytest.importorskip("stable_baselines3.common.buffers")
    box = spaces.Box(-1, 1, (4,), np.float32)
    ours, theirs = ReplayBuffer(10_000, 1, box, TWO), stable.ReplayBuffer(10_000, box, TWO)
    names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
    assert ours.nbytes < 0.5 * sum(getattr(theirs, name).nbytes for name in names)


def test_what_is_not_finite_is_never_drawn() -> None:
    buffer = ReplayBuffer(20, 1, BOX, TWO)
    fill(buffer, [[None]] * 4)
    buffer.check_finite()
    assert len(buffer) == 4
    no, ok = np.array([False]), np.array([True])
    bad = VectorStep(np.array([[np.nan]], np.float32), np.zeros(1, np.float32), no, no, ok, {})
    buffer.add(np.array([0]), {}, bad)
    with pytest.raises(NonFiniteError, match="sub-environment 0 returned nan in its observations"):
        buffer.check_finite()
    assert len(buffer) == 4
    assert torch.isfinite(buffer.sample(4)["next_observations"]).all()


# ---- bad input -----------------------------------------------------------------------------------


def test_bad_settings_are_named() -> None:
    with pytest.raises(ConfigError, match=r"too few for n_steps=6.*at least 12"):
        ReplayBuffer(10, 2, BOX, TWO, n_steps=6)
    with pytest.raises(ConfigError, match="capacity=0"):
        ReplayBuffer(0, 1, BOX, TWO)
    with pytest.raises(ConfigError, match="priority_exponent=2"):
        PrioritizedReplayBuffer(10, 1, BOX, TWO, priority_exponent=2)
    buffer = ReplayBuffer(10, 1, BOX, TWO)
    with pytest.raises(StateError, match="batch of 4, but the buffer holds 0"):
        buffer.sample(4)
    step = Episodes(1, False)
    step.rewards_before = np.zeros(1)
    with pytest.raises(ConfigError, match="log_probs"):
        buffer.add(np.array([0]), {"log_probs": torch.zeros(1)}, step.step([None]))


# ---- priorities ----------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=40), st.integers(0, 1000))
def test_the_sum_tree_finds_what_cumulative_sums_find(priorities: list[float], seed: int) -> None:
    tree = SumTree(len(priorities))
    values = np.array(priorities)
    for leaves in np.array_split(np.arange(len(values)), 3):
        if len(leaves):
            tree[leaves] = values[leaves]
    assert tree.total == pytest.approx(values.sum())
    if tree.total < 1e-6:
        return
    found = tree.find(np.random.default_rng(seed).random(50))
    assert (values[found] > 0).all()
    fractions = (np.arange(1000) + 0.5) / 1000
    shares = np.bincount(tree.find(fractions), minlength=len(values)) / 1000
    np.testing.assert_allclose(shares, values / values.sum(), atol=2e-3)


def test_transitions_are_drawn_by_priority_and_weighted_against_it() -> None:
    buffer = PrioritizedReplayBuffer(
        16, 1, BOX, TWO, priority_exponent=0.5, importance_exponent=1.0
    )
    fill(buffer, [[None]] * 4 + [["terminated"], [None]])
    generator = torch.Generator().manual_seed(0)
    first = buffer.sample(5, generator)
    assert sorted(first["indices"].tolist()) == [0, 1, 2, 3, 4]  # new: alike, one a stratum
    assert first["weights"].tolist() == [1.0] * 5
    buffer.update_priorities(torch.arange(5), torch.tensor([1.0, -4.0, 9.0, 16.0, 0.0]))
    counts = torch.zeros(5)
    for batch in buffer.minibatches(400, 5, generator):
        counts += torch.bincount(batch["indices"], minlength=5)
    shares = torch.tensor([1.0, 2.0, 3.0, 4.0, 1e-3]) / 10.001
    torch.testing.assert_close(counts / counts.sum(), shares, atol=0.02, rtol=0)
    weights = 1 / shares[batch["indices"]]
    torch.testing.assert_close(batch["weights"], weights / weights.max(), atol=1e-3, rtol=1e-2)
    with pytest.raises(ShapeError, match="one each"):
        buffer.update_priorities(torch.arange(5), torch.zeros(5, 1))


def test_overwritten_and_reset_rows_have_no_priority() -> None:
    buffer = PrioritizedReplayBuffer(6, 1, BOX, TWO)
    story: list[list[str | None]] = [[None], ["terminated"], [None], [None], [None]] * 3
    _, held = fill(buffer, story)
    seen = set()
    for batch in buffer.minibatches(200, 3, torch.Generator().manual_seed(0)):
        seen |= set(batch["observations"].flatten().tolist())
    assert seen == set(held)


def test_an_error_that_is_not_finite_spoils_no_priority() -> None:
    buffer = PrioritizedReplayBuffer(10, 1, BOX, TWO)
    fill(buffer, [[None]] * 9)
    batch = buffer.sample(2, torch.Generator().manual_seed(0))
    for bad in (float("nan"), float("inf")):
        with pytest.raises(NonFiniteError, match="TD error"):
            buffer.update_priorities(batch["indices"], torch.tensor([1.0, bad]))
    assert buffer.priorities.total == 9


def test_priorities_fit_a_folder_that_has_gone_on(tmp_path: Path) -> None:
    buffer = PrioritizedReplayBuffer(10, 1, BOX, TWO, directory=tmp_path, priority_exponent=1.0)
    envs, _ = fill(buffer, [[None], ["truncated"]] * 12)
    buffer.update_priorities(torch.arange(11), torch.full((11,), 5.0))
    state = from_plain(to_plain(buffer.state_dict()))
    for _ in range(6):  # other rows are reset rows now
        envs.rewards_before = np.zeros(1)
        buffer.add(np.array([0]), {}, envs.step([None]))
    again = PrioritizedReplayBuffer(10, 1, BOX, TWO, directory=tmp_path, priority_exponent=1.0)
    again.load_state_dict(state)
    assert ((again.priorities.leaves > 0) == (again.flags[:, 0] > 0)).all()
    assert torch.isfinite(again.sample(5, torch.Generator().manual_seed(0))["weights"]).all()


# ---- saving --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ReplayBuffer, PrioritizedReplayBuffer])
@pytest.mark.parametrize("steps", [3, 25])
@pytest.mark.parametrize("same_step", [False, True])
def test_a_loaded_buffer_draws_the_same_bits(kind: Any, steps: int, same_step: bool) -> None:
    story: list[list[str | None]] = ([[None, None], ["truncated", None], [None, None]] * 9)[:steps]
    buffer, other = (kind(20, 2, BOX, TWO, n_steps=2) for _ in range(2))
    fill(buffer, story, same_step)
    file = io.BytesIO()
    torch.save(to_plain(buffer.state_dict()), file)
    file.seek(0)
    other.load_state_dict(from_plain(torch.load(file, weights_only=True)))
    step = VectorStep(
        np.full((2, 1), 77, np.float32), np.ones(2, np.float32), np.zeros(2, bool),
        np.zeros(2, bool), np.ones(2, bool), {},
    )  # fmt: skip
    batches = []
    for one in (buffer, other):
        one.add(np.zeros(2, int), {}, step)
        batches.append(one.sample(4, torch.Generator().manual_seed(3)))
    assert batches[0].keys() == batches[1].keys()
    for name in batches[0]:
        assert torch.equal(batches[0][name], batches[1][name]), name


def test_a_state_of_another_layout_is_refused() -> None:
    state = ReplayBuffer(20, 2, BOX, TWO).state_dict()
    with pytest.raises(StateError, match=r"Use the same environment, num_envs and capacity"):
        ReplayBuffer(20, 1, BOX, TWO).load_state_dict(state)
    with pytest.raises(StateError, match="has no priorities"):
        PrioritizedReplayBuffer(20, 2, BOX, TWO).load_state_dict(state)


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


def pairs_no_strangers(buffer: ReplayBuffer, *stories: Episodes) -> bool:
    """Tell whether all that can be drawn happened, and the buffer knows how much that is."""
    happened = {
        first: after for envs in stories for first, (_, after, _) in envs.transitions.items()
    }
    drawn: dict[float, float] = {}
    for batch in buffer.minibatches(100, min(8, len(buffer)), torch.Generator().manual_seed(0)):
        pairs = (batch[name].flatten().tolist() for name in ("observations", "next_observations"))
        drawn |= dict(zip(*pairs, strict=True))
    return len(drawn) == len(buffer) and all(happened[one] == two for one, two in drawn.items())


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


def test_a_step_that_is_cut_short_leaves_nothing(monkeypatch: Any) -> None:
    """As by Ctrl-C, between the writing of one array and the next."""
    buffer = ReplayBuffer(10, 1, BOX, TWO)
    envs, _ = fill(buffer, [[None]] * 23)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lightning_rl.buffers.replay.write", interrupted)
        envs.rewards_before = np.zeros(1)
        with pytest.raises(KeyboardInterrupt):
            buffer.add(np.array([0]), {}, envs.step([None]))
    assert pairs_no_strangers(buffer, envs)
    buffer.start(np.full((1, 1), 99, np.float32))
    assert pairs_no_strangers(buffer, envs)


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
