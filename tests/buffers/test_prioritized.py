"""Prioritised replay: what surprised most is drawn most, and nothing that may not be drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from replayed import BOX, TWO, fill

from lightning_rl.buffers.prioritized import PrioritizedReplayBuffer, SumTree
from lightning_rl.checkpoints.plain_values import from_plain, to_plain
from lightning_rl.errors import ConfigError, NonFiniteError, ShapeError, StateError

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
    buffer.close()
    again = PrioritizedReplayBuffer(10, 1, BOX, TWO, directory=tmp_path, priority_exponent=1.0)
    with pytest.warns(UserWarning, match="has changed since the checkpoint"):
        again.load_state_dict(state)
    assert ((again.priorities.leaves > 0) == (again.flags[:, 0] > 0)).all()
    assert torch.isfinite(again.sample(5, torch.Generator().manual_seed(0))["weights"]).all()


# ---- what is said, and who draws --------------------------------------------------------------


@pytest.mark.parametrize("name", ["priority", "importance"])
def test_exponents_are_fractions_their_ends_included(name: str) -> None:
    for end in (0, 1):
        PrioritizedReplayBuffer(8, 1, BOX, TWO, **{f"{name}_exponent": end})
    with pytest.raises(ConfigError, match=rf"^{name}_exponent=1\.5; expected a number in \[0, 1\]"):
        PrioritizedReplayBuffer(8, 1, BOX, TWO, **{f"{name}_exponent": 1.5})


def test_minibatches_are_drawn_by_their_generator_and_of_the_kind_asked_for() -> None:
    buffer = PrioritizedReplayBuffer(20, 1, BOX, TWO)
    fill(buffer, [[None]] * 9)
    first, again = (
        list(buffer.minibatches(4, 3, torch.Generator().manual_seed(2), "cpu", torch.float64))
        for _ in "ab"
    )
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one["indices"], other["indices"])
        assert one["observations"].dtype == torch.float64
    (elsewhere,) = buffer.minibatches(1, 3, torch.Generator(), "meta", None)
    assert elsewhere["rewards"].device.type == "meta"


def test_errors_of_other_number_or_kind_are_refused_in_full_sentences() -> None:
    buffer = PrioritizedReplayBuffer(10, 1, BOX, TWO)
    fill(buffer, [[None]] * 9)
    with pytest.raises(ShapeError, match=r"expected one each\.$"):
        buffer.update_priorities(torch.arange(2), torch.ones(3))
    with pytest.raises(NonFiniteError, match=r"was changed\. Try a smaller learning rate\.$"):
        buffer.update_priorities(torch.arange(1), torch.tensor([torch.nan]))
    state = buffer.state_dict()
    del state["priorities"]
    with pytest.raises(StateError, match=r"^the checkpoint's .* agent was trained with\.$"):
        buffer.load_state_dict(state)


def test_priorities_below_one_are_loaded_as_they_were() -> None:
    buffer, other = (PrioritizedReplayBuffer(10, 1, BOX, TWO) for _ in "ab")
    fill(buffer, [[None]] * 9)
    buffer.sample(1)  # what is new has the largest priority, until it was drawn from
    buffer.update_priorities(torch.arange(9), torch.linspace(0.1, 0.9, 9))
    assert buffer.priorities.leaves[:9].max() < 1.0
    other.load_state_dict(buffer.state_dict())
    for _ in "ab":  # also when it was drawn from
        np.testing.assert_allclose(other.priorities.leaves, buffer.priorities.leaves)
        draws = [b.sample(8, torch.Generator().manual_seed(0))["indices"] for b in (buffer, other)]
        assert torch.equal(*draws)


# ---- single priorities ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("priorities", "fraction", "leaf"),
    [([0.0, 1.0], 0.0, 1), ([1.0, 1.0], 0.5, 1), ([1.0, 0.0, 1.0], 0.5, 2), ([2.0], 0.9, 0)],
)
def test_a_leaf_without_priority_is_not_found_at_its_borders_either(
    priorities: list[float], fraction: float, leaf: int
) -> None:
    tree = SumTree(len(priorities))
    tree[np.arange(len(priorities))] = np.array(priorities)
    assert tree.find(np.array([fraction])).tolist() == [leaf]


def test_the_largest_weight_of_a_batch_is_1() -> None:
    buffer = PrioritizedReplayBuffer(16, 1, BOX, TWO, importance_exponent=1.0)
    fill(buffer, [[None]] * 6)
    buffer.sample(2)
    buffer.update_priorities(torch.arange(6), torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0, 32.0]))
    for batch in buffer.minibatches(50, 4, torch.Generator().manual_seed(0)):
        chances = torch.from_numpy(buffer.priorities[batch["indices"].numpy()])
        expected = (chances.min() / chances).float()
        torch.testing.assert_close(batch["weights"], expected)


def test_only_what_is_new_gets_the_largest_priority() -> None:
    """With two sub-environments, whose ends leave reset rows between the transitions."""
    buffer = PrioritizedReplayBuffer(12, 2, BOX, TWO, priority_exponent=1.0)
    envs, _ = fill(buffer, [[None, "truncated"], [None, None], ["terminated", None]] * 4)
    buffer.sample(2)
    for _ in range(20):
        held = np.flatnonzero(buffer.flags.ravel())
        assert np.flatnonzero(buffer.priorities.leaves).tolist() == held.tolist()
        buffer.update_priorities(torch.from_numpy(held), torch.full((len(held),), 0.25))
        new = buffer.head
        envs.rewards_before = np.array(envs.observations) / 10
        buffer.add(np.zeros(2, int), {}, envs.step([None, None]))
        buffer.sample(2)
        leaves = buffer.priorities.leaves.reshape(-1, 2)
        drawable = buffer.flags > 0
        is_new = np.arange(len(leaves))[:, None] == new
        assert np.allclose(leaves[drawable & ~is_new], 0.25, atol=1e-5)
        assert (leaves[drawable & is_new] == 1.0).all()
        buffer.sample(2)  # which sets nothing anew
        np.testing.assert_array_equal(leaves, buffer.priorities.leaves.reshape(-1, 2))


def test_rows_that_are_not_finite_lose_their_priority() -> None:
    buffer = PrioritizedReplayBuffer(6, 1, BOX, TWO)
    envs, _ = fill(buffer, [[None]] * 9)
    buffer.check_finite()
    buffer.sample(2)
    envs.rewards_before = np.array([np.nan])
    buffer.add(np.array([0]), {}, envs.step([None]))
    with pytest.raises(NonFiniteError):
        buffer.check_finite()
    buffer.sample(2)
    assert ((buffer.priorities.leaves > 0) == (buffer.flags[:, 0] > 0)).all()
    assert len(buffer) == 5


def test_a_slot_that_rounding_has_missed_is_drawn_again_by_the_same_generator() -> None:
    buffer = PrioritizedReplayBuffer(10, 1, BOX, TWO)
    fill(buffer, [[None]] * 9)
    empty = buffer.head

    def missed(fractions: np.ndarray) -> np.ndarray:
        return np.where(np.arange(len(fractions)) % 2, empty, np.arange(len(fractions)))

    buffer.priorities.find = missed  # type: ignore[method-assign]
    draws = [buffer.sample(6, torch.Generator().manual_seed(3))["indices"] for _ in "ab"]
    assert torch.equal(*draws)
    assert draws[0][::2].tolist() == [0, 2, 4]
    assert (buffer.flags[draws[0].numpy(), 0] > 0).all()
