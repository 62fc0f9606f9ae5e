"""The replay buffer, against a naive model written with lists."""

from __future__ import annotations

import copy
import io
import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from replayed import BOX, TWO, Episodes, fill, pairs_no_strangers

from lightning_rl.buffers import replay
from lightning_rl.buffers.prioritized import PrioritizedReplayBuffer
from lightning_rl.buffers.replay import ReplayBuffer
from lightning_rl.checkpoints.plain_values import from_plain, to_plain
from lightning_rl.envs.runner import VectorStep
from lightning_rl.errors import ConfigError, NonFiniteError, StateError

GAMMA = 0.9


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


@settings(max_examples=200, deadline=None)
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


# ---- what is said of bad numbers, and of other buffers ---------------------------------------

FINITE = (
    "expected finite numbers. The rollout was not learned from. Check the environment's `step` "
    "(division by zero, overflow)."
)


def row(observation: float = 0.0, reward: float = 0.0, final: Any = None) -> VectorStep:
    """A step of two sub-environments, whose second one is as told."""
    observations = np.array([[0.0], [observation]], np.float32)
    flags, final = np.array([False, final is not None]), {} if final is None else {1: final}
    rewards = np.array([0.0, reward], np.float32)
    return VectorStep(observations, rewards, flags, np.zeros(2, bool), np.ones(2, bool), final)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"reward": np.nan}, "returned nan in its rewards at step 3"),
        ({"observation": np.inf}, "returned inf in its observations at step 3"),
        ({"final": np.array([-np.inf])}, "returned -inf in its observations at step 3"),
    ],
)
def test_a_number_that_is_not_finite_is_named_by_its_step(bad: dict[str, Any], words: str) -> None:
    buffer = ReplayBuffer(20, 2, BOX, TWO)
    buffer.start(np.zeros((2, 1), np.float32))
    for step in (row(), row(), row(**bad), row()):
        buffer.add(np.array([0, 1]), {}, step)
    message = f"sub-environment 1 {words} of this rollout; {FINITE}"
    with pytest.raises(NonFiniteError, match=re.escape(message)):
        buffer.check_finite()
    assert len(buffer) == 0


def test_a_copy_has_what_the_original_has_and_goes_on_by_itself() -> None:
    buffer = ReplayBuffer(20, 2, BOX, TWO, n_steps=2, gamma=GAMMA)
    envs, held = fill(buffer, [[None, "terminated"], [None, None]] * 4)
    twin = copy.deepcopy(buffer)
    views = {"observations", "actions", "rewards", "flags"}
    copied = {name for name in buffer.__getstate__() if not name.startswith("_flat_")}
    assert copied == {n for n in vars(buffer) if not n.startswith("_flat_")} - views | {"folder"}
    assert len(copied) == len(buffer.__getstate__())  # each array once, without its views
    assert np.array_equal(twin.current(), buffer.current())
    assert np.array_equal(buffer.current(), envs.array())
    draws = [b.sample(9, torch.Generator().manual_seed(1)) for b in (buffer, twin)]
    assert all(torch.equal(draws[0][name], draws[1][name]) for name in draws[0])
    twin.add(np.array([0, 1]), {}, row(5.0, 7.0))
    assert len(twin) == len(held) + 2
    assert len(buffer) == len(held)
    assert 7.0 in twin.rewards
    assert 7.0 not in buffer.rewards


def test_minibatches_are_drawn_by_their_generator_and_of_the_kind_asked_for() -> None:
    buffer = ReplayBuffer(40, 2, BOX, TWO)
    fill(buffer, [[None, None]] * 12)
    asked = {"device": "cpu", "dtype": torch.float64}
    first, again = (
        list(buffer.minibatches(5, 3, torch.Generator().manual_seed(2), **asked)) for _ in "ab"
    )
    assert [len(batch["rewards"]) for batch in first] == [3] * 5
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one["observations"], other["observations"])
        assert one["observations"].dtype == torch.float64
        assert (one["rewards"].dtype, one["discounts"].dtype) == (torch.float32, torch.float32)
    (elsewhere,) = buffer.minibatches(1, 3, torch.Generator(), device="meta")
    assert elsewhere["rewards"].device.type == "meta"


def test_a_state_holds_the_rows_there_are_and_no_more() -> None:
    buffer = ReplayBuffer(40, 2, BOX, TWO)
    fill(buffer, [[None, None]] * 7)
    state = buffer.state_dict()
    assert {len(array) for array in state["arrays"].values()} == {8}  # the current one, too


@pytest.mark.parametrize("to_folder", [False, True])
def test_a_buffer_that_lies_elsewhere_is_refused(tmp_path: Any, to_folder: bool) -> None:
    buffers = [ReplayBuffer(8, 1, BOX, TWO), ReplayBuffer(8, 1, BOX, TWO, directory=tmp_path)]
    places = ["in the checkpoint", "in a folder"]
    saved, other = (0, 1) if to_folder else (1, 0)
    message = (
        f"the saved replay buffer lies {places[saved]}; this one would have it {places[other]}. "
        "Give the agent the buffer_directory it was trained with."
    )
    with pytest.raises(StateError, match=f"^{re.escape(message)}$"):
        buffers[other].load_state_dict(buffers[saved].state_dict())
    buffers[1].close()


# ---- single rows ---------------------------------------------------------------------------------


def step(observation: float, *, ends: str = "", final: Any = None) -> VectorStep:
    """Make a step of one sub-environment."""
    ended = (np.array([word in ends]) for word in ("terminated", "truncated"))
    observations = np.full((1, 1), observation, np.float32)
    finals = {} if final is None else {0: final}
    return VectorStep(observations, np.ones(1, np.float32), *ended, np.ones(1, bool), finals)


@pytest.mark.parametrize(
    ("ends", "bits"), [("", 1), ("terminated", 3), ("truncated", 5), ("terminated, truncated", 7)]
)
def test_a_row_says_by_bits_that_it_may_be_drawn_and_how_its_episode_ended(
    ends: str, bits: int
) -> None:
    buffer = ReplayBuffer(4, 1, BOX, TWO)
    buffer.start(np.zeros((1, 1), np.float32))
    buffer.add(np.array([0]), {}, step(1.0, ends=ends))
    assert buffer.flags[:2, 0].tolist() == [bits, 0]


def test_a_last_observation_is_kept_whatever_the_environment_does_with_its_array() -> None:
    buffer = ReplayBuffer(4, 1, BOX, TWO)
    buffer.start(np.zeros((1, 1), np.float32))
    last = np.array([5.0], np.float32)
    buffer.add(np.array([0]), {}, step(1.0, ends="truncated", final=last))
    last[:] = 99.0
    assert buffer.sample(1)["next_observations"].item() == 5.0


def test_last_observations_are_kept_for_the_rows_there_are_alone() -> None:
    """A run of a million episodes would fill the memory otherwise."""
    buffer = ReplayBuffer(5, 1, BOX, TWO)
    fill(buffer, [["truncated"]] * 40, same_step=True)
    kept = buffer.state_dict()["final"]
    assert sorted(kept) == np.flatnonzero(buffer.flags[:, 0]).tolist()
    assert len(kept) == len(buffer) == 5


@pytest.mark.parametrize(
    ("space", "actions"),
    [
        (spaces.Box(-1, 1, (2,)), np.array([[0.25, -0.5]], np.float32)),
        (spaces.MultiDiscrete([9, 300]), np.array([[8, 299]])),
        (spaces.MultiBinary(2), np.array([[1, 0]])),
    ],
)
def test_actions_of_several_numbers_are_drawn_as_they_were_taken(space: Any, actions: Any) -> None:
    buffer = ReplayBuffer(4, 1, BOX, space)
    buffer.start(np.zeros((1, 1), np.float32))
    for t in range(3):
        buffer.add(actions * (t == 1), {}, step(t + 1.0))
    drawn = buffer.sample(3, torch.Generator().manual_seed(0))
    for observation, action in zip(drawn["observations"].flatten(), drawn["actions"], strict=True):
        assert action.tolist() == (actions[0] * (observation == 1.0).item()).tolist()
    is_real = isinstance(space, spaces.Box)
    assert drawn["actions"].dtype == (torch.float32 if is_real else torch.int64)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_sums_are_told_in_float32_however_many_rewards_they_have(n_steps: int) -> None:
    buffer = ReplayBuffer(8, 1, BOX, TWO, n_steps=n_steps)
    fill(buffer, [[None]] * 6)
    drawn = buffer.sample(4)
    assert (drawn["rewards"].dtype, drawn["discounts"].dtype) == (torch.float32, torch.float32)


def test_minibatches_that_are_not_drawn_all_together_are_as_many_as_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buffer = ReplayBuffer(40, 1, BOX, TWO)
    fill(buffer, [[None]] * 20)
    two_at_a_time = 2 * 3 * 2 * 4  # of three transitions of two observations of four bytes
    monkeypatch.setattr(replay, "DRAW_BYTES", two_at_a_time)
    batches = list(buffer.minibatches(5, 3, torch.Generator().manual_seed(0)))
    assert [len(batch["rewards"]) for batch in batches] == [3] * 5
    assert len({tuple(batch["observations"].flatten().tolist()) for batch in batches}) == 5


def test_every_row_added_since_the_last_check_is_checked() -> None:
    """The first of as many as the ring holds is the first bad one, and is named."""
    buffer = ReplayBuffer(6, 1, BOX, TWO)
    buffer.start(np.zeros((1, 1), np.float32))
    for t in range(6):
        bad = VectorStep(*step(t + 1.0)._replace(rewards=np.array([np.nan], np.float32)))
        buffer.add(np.array([0]), {}, bad if t == 0 else step(t + 1.0))
    with pytest.raises(NonFiniteError, match="rewards at step 1 "):
        buffer.check_finite()
    assert len(buffer) == 0


# ---- a ring that is exactly full -----------------------------------------------------------------


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_ring_about_to_be_full_is_loaded_as_it_was(extra: int) -> None:
    buffer, other = ReplayBuffer(8, 1, BOX, TWO), ReplayBuffer(8, 1, BOX, TWO)
    envs, held = fill(buffer, [[None]] * (8 + extra))
    other.load_state_dict(buffer.state_dict())
    assert len(other) == len(held)
    assert pairs_no_strangers(other, envs)


@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_a_folder_about_to_be_full_is_opened_as_it_was(extra: int, tmp_path: Any) -> None:
    buffer = ReplayBuffer(8, 1, BOX, TWO, directory=tmp_path)
    envs, held = fill(buffer, [[None]] * (8 + extra))
    buffer.close()
    again = ReplayBuffer(8, 1, BOX, TWO, directory=tmp_path)
    assert len(again) == len(held)
    assert pairs_no_strangers(again, envs)


def test_a_full_ring_of_which_rows_are_missing_is_refused() -> None:
    buffer = ReplayBuffer(8, 1, BOX, TWO)
    fill(buffer, [[None]] * 20)
    state = buffer.state_dict()
    state["arrays"] = {name: array[:-1] for name, array in state["arrays"].items()}
    with pytest.raises(StateError, match="Use the same environment, num_envs and capacity"):
        ReplayBuffer(8, 1, BOX, TWO).load_state_dict(state)


# ---- settings, and what is said ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"capacity": 0}, "capacity=0"),
        ({"num_envs": 0}, "num_envs=0"),
        ({"n_steps": 0}, "n_steps=0"),
        ({"gamma": "much"}, "gamma='much'"),
    ],
)
def test_a_setting_out_of_its_range_is_named(options: dict[str, Any], words: str) -> None:
    given = {"capacity": 8, "num_envs": 1} | options
    with pytest.raises(ConfigError, match=rf"(^|\s){re.escape(words)}"):
        ReplayBuffer(observation_space=BOX, action_space=TWO, **given)


def test_rewards_are_discounted_by_99_percent_unless_it_is_told_otherwise() -> None:
    buffer = ReplayBuffer(8, 1, BOX, TWO)
    fill(buffer, [[None]] * 3)
    assert buffer.sample(1)["discounts"].item() == pytest.approx(0.99)


def test_too_few_transitions_are_counted_in_full_sentences() -> None:
    buffer = ReplayBuffer(8, 1, BOX, TWO)
    fill(buffer, [[None]] * 3)
    message = (
        "asked for a batch of 4, but the buffer holds 3 transitions. Fill it first "
        "(learning_starts), or take a smaller batch_size."
    )
    with pytest.raises(StateError, match=f"^{re.escape(message)}$"):
        buffer.sample(4)


def test_what_is_open_or_lies_in_memory_is_reopened_as_it_is(tmp_path: Any) -> None:
    for directory in (None, tmp_path):
        buffer = ReplayBuffer(8, 1, BOX, TWO, directory=directory)
        envs, _ = fill(buffer, [[None]] * 3)
        buffer.reopen()
        assert len(buffer) == 3
        assert pairs_no_strangers(buffer, envs)
        buffer.close()


def test_a_folder_counts_the_rows_that_were_ever_added(tmp_path: Any) -> None:
    buffer = ReplayBuffer(4, 1, BOX, TWO, directory=tmp_path)
    assert buffer.state_dict()["num_added"] == 0
    fill(buffer, [[None]] * 11)
    state = buffer.state_dict()
    assert (state["num_added"], state["in_folder"]) == (11, True)


def test_rows_whose_last_observation_was_kept_apart_are_given_up_with_the_folder_once(
    tmp_path: Any,
) -> None:
    """A folder does not hold them; when that is settled, a kill costs nothing more."""
    buffer = ReplayBuffer(12, 1, BOX, TWO, directory=tmp_path)
    envs, _ = fill(buffer, [[None], ["truncated"], [None]] * 3, same_step=True)
    buffer.close()
    for _ in "ab":
        again = ReplayBuffer(12, 1, BOX, TWO, directory=tmp_path)
        assert len(again) == 6
        assert pairs_no_strangers(again, envs)
        again.folder.close()  # type: ignore[union-attr]  # as a killed process


def test_episodes_tell_their_own_story() -> None:
    """The model that the tests beside this one compare with."""
    envs = Episodes(1, same_step=False)
    envs.rewards_before = np.zeros(1)
    envs.step(["truncated"])
    assert not envs.step([None]).valid[0]
    assert envs.transitions == {1.0: (0.1, 2.0, "truncated")}
