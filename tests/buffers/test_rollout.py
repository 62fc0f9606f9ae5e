"""The rollout buffer: what goes in comes out, in order, and nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import Space, spaces
from gymnasium.vector.utils import batch_space
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_rl.buffers.arrays import allocate, select, to_tensor
from lightning_rl.buffers.rollout import RolloutBuffer
from lightning_rl.envs.runner import VectorStep
from lightning_rl.errors import ConfigError, NonFiniteError, ShapeError, SpaceError, StateError

BOX = spaces.Box(-1, 1, (3,))

OBSERVATIONS: dict[str, Space] = {
    "box": BOX,
    "box_float64": spaces.Box(-1, 1, (2,), np.float64),
    "discrete": spaces.Discrete(9),
    "image": spaces.Box(0, 255, (4, 4, 3), np.uint8),
    "multi_binary": spaces.MultiBinary(4),
    "dict": spaces.Dict({"camera": spaces.Box(0, 255, (2, 2, 1), np.uint8), "rewards": BOX}),
}

ACTIONS: dict[str, Space] = {
    "discrete": spaces.Discrete(5),
    "multi_discrete": spaces.MultiDiscrete([3, 4]),
    "box": spaces.Box(-1, 1, (2,)),
}

observing = pytest.mark.parametrize("space", OBSERVATIONS.values(), ids=OBSERVATIONS.keys())

FIELDS = ("actions", "rewards", "terminated", "truncated", "valid")


class Recorder:
    """A rollout as Python lists: the model that the buffer must agree with."""

    def __init__(self, space: Space, action_space: Space, num_envs: int, seed: int) -> None:
        self.spaces = batch_space(space, num_envs), batch_space(action_space, num_envs)
        for batched in self.spaces:
            batched.seed(seed)
        self.rng, self.num_envs = np.random.default_rng(seed), num_envs
        self.rows: dict[str, list] = {name: [] for name in ("observations", "log_probs", *FIELDS)}
        self.final: dict[tuple[int, int], Any] = {}

    def start(self, buffer: RolloutBuffer) -> None:
        observations = self.spaces[0].sample()
        buffer.start(observations)
        self.rows = {name: [] for name in self.rows} | {"observations": [observations]}
        self.final = {}

    def add(self, buffer: RolloutBuffer) -> None:
        flags = self.rng.random((3, self.num_envs)) < 0.5
        rewards = self.rng.normal(size=self.num_envs).astype(np.float32)
        log_probs = torch.from_numpy(self.rng.normal(size=(self.num_envs, 2)))
        observations, actions = (space.sample() for space in self.spaces)
        final = {0: select(self.spaces[0].sample(), 0)} if flags[0, 0] else {}
        step = VectorStep(observations, rewards, flags[0], flags[1], flags[2], final)
        buffer.add(actions, {"log_probs": log_probs}, step)
        row = (observations, log_probs.numpy(), actions, rewards, *flags)
        for name, value in zip(self.rows, row, strict=True):
            self.rows[name].append(value)
        self.final |= {(buffer.size - 1, i): observation for i, observation in final.items()}


def assert_same(got: Any, rows: list) -> None:
    """A (T, N, ...) tensor, or a dict of them, holds the rows exactly."""
    if isinstance(got, dict):
        for key, part in got.items():
            assert_same(part, [row[key] for row in rows])
    else:
        expected = np.stack(rows)
        single = np.float32 if expected.dtype == np.float64 else expected.dtype
        assert got.shape == expected.shape
        assert np.array_equal(got.numpy(), expected.astype(single)) or np.array_equal(got, expected)


@observing
@pytest.mark.parametrize("action_space", ACTIONS.values(), ids=ACTIONS.keys())
@settings(deadline=None, max_examples=15)
@given(num_steps=st.integers(1, 5), num_envs=st.integers(1, 3),
       adds=st.lists(st.integers(0, 5), max_size=3),
       seed=st.integers(0, 2**31))  # fmt: skip
def test_buffer_holds_exactly_the_last_rollout(
    space: Space, action_space: Space, num_steps: int, num_envs: int, adds: list[int], seed: int
) -> None:
    """Whatever was stored before, full or not, and however many rows have come since `start`."""
    buffer = RolloutBuffer(num_steps, num_envs, space, action_space)
    model = Recorder(space, action_space, num_envs, seed)
    for count in [*adds, num_steps]:
        model.start(buffer)
        for _ in range(min(count, num_steps)):
            model.add(buffer)
        assert buffer.size == min(count, num_steps)
        tensors = buffer.tensors()
        for name in tensors if buffer.size else ["observations"]:
            assert_same(tensors[name], model.rows[name])
        assert repr(buffer.final_observations) == repr(model.final)


def step_of(num_envs: int = 2, **changes: Any) -> VectorStep:
    flags = np.zeros(num_envs, np.bool_)
    step = VectorStep(np.zeros((num_envs, 3), np.float32), np.zeros(num_envs, np.float32),
                flags, flags, ~flags, {})  # fmt: skip
    return step._replace(**changes)


def filled(steps: list[VectorStep], first: Any = None, space: Space = BOX) -> RolloutBuffer:
    buffer = RolloutBuffer(4, 2, space, spaces.Discrete(2))
    buffer.start(allocate(space, 2) if first is None else first)
    for step in steps:
        buffer.add(np.zeros(2, np.int64), {}, step)
    return buffer


# ---- shapes --------------------------------------------------------------------------------------


def test_tensors_are_time_first_and_have_one_more_observation() -> None:
    tensors = filled([step_of()] * 3).tensors()
    shapes = {name: tuple(values.shape) for name, values in tensors.items()}
    assert shapes == dict.fromkeys(FIELDS, (3, 2)) | {"observations": (4, 2, 3)}


def test_rows_join_time_and_environments_without_the_last_observation() -> None:
    observations = [np.full((2, 3), t, np.float32) for t in range(1, 4)]
    rows = filled([step_of(observations=o) for o in observations]).rows()
    assert {len(values) for values in rows.values()} == {6}
    assert rows["observations"][:, 0].tolist() == [0, 0, 1, 1, 2, 2]


@observing
def test_dtypes_are_kept_but_for_float64(space: Space) -> None:
    got = to_tensor(RolloutBuffer(2, 2, space, spaces.Discrete(2)).observations)
    entries = space.items() if isinstance(space, spaces.Dict) else [("", space)]
    for key, part in entries:
        dtype = (got[key] if key else got).dtype
        assert str(dtype).removeprefix("torch.") == str(part.dtype).replace("float64", "float32")


def test_tensors_are_views_on_the_cpu() -> None:
    """So that giving them costs nothing, however large the images are."""
    buffer = filled([step_of()] * 2)
    buffer.tensors()["rewards"][1] = 7.0
    assert buffer.rewards[1].tolist() == [7.0, 7.0]


def test_later_changes_of_the_environments_arrays_are_not_seen() -> None:
    """Some environments return the same array from every step."""
    shared = np.zeros((2, 3), np.float32)
    buffer = filled([step_of(observations=shared)], first=shared)
    shared += 9
    assert not buffer.observations.any()


@pytest.mark.parametrize("numbers", [(0, 1), (1, 0), (-1, 2)])
def test_empty_buffer_is_refused(numbers: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="expected at least 1"):
        RolloutBuffer(*numbers, BOX, spaces.Discrete(2))


NESTED = spaces.Dict({"outer": spaces.Dict({"inner": BOX})})


@pytest.mark.parametrize("space", [spaces.Tuple([BOX]), spaces.Text(3), NESTED], ids=str)
def test_space_without_arrays_is_refused_by_name(space: Space) -> None:
    with pytest.raises(SpaceError, match="no buffer can hold"):
        RolloutBuffer(2, 2, space, spaces.Discrete(2))


def test_step_beyond_the_last_is_refused_and_changes_nothing() -> None:
    buffer = filled([step_of()] * 4)
    with pytest.raises(StateError, match="holds its 4 steps already; call `start`"):
        buffer.add(np.ones(2, np.int64), {}, step_of(rewards=np.ones(2, np.float32)))
    assert not buffer.rewards.any()
    assert not buffer.actions.any()


# ---- what `act` wants remembered -----------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool])
def test_remembered_values_keep_shape_and_dtype(dtype: torch.dtype) -> None:
    buffer, values = filled([]), torch.tensor([[1, 0], [0, 1]]).to(dtype)
    buffer.add(np.zeros(2, np.int64), {"hidden": values}, step_of())
    assert torch.equal(buffer.tensors()["hidden"], values[None])
    assert buffer.tensors()["hidden"].dtype == dtype


def test_remembered_bfloat16_becomes_float32() -> None:
    """numpy has no bfloat16; precision="bf16-true" must not fail for it."""
    buffer = filled([])
    buffer.add(np.zeros(2, np.int64), {"log_probs": torch.ones(2, dtype=torch.bfloat16)}, step_of())
    assert buffer.tensors()["log_probs"].dtype == torch.float32


def test_remembered_values_carry_no_gradient() -> None:
    buffer = filled([])
    buffer.add(np.zeros(2, np.int64), {"v": torch.ones(2, requires_grad=True)}, step_of())
    assert not buffer.tensors()["v"].requires_grad


@pytest.mark.parametrize("shape", [(3,), (1,), (), (3, 2)])
def test_remembered_values_need_a_row_for_each_environment(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match=r"'values' of shape .*; expected \(2"):
        filled([]).add(np.zeros(2, np.int64), {"values": torch.zeros(shape)}, step_of())


def test_remembered_values_never_broadcast_into_an_older_shape() -> None:
    buffer = filled([])
    buffer.add(np.zeros(2, np.int64), {"values": torch.zeros(2, 2)}, step_of())
    with pytest.raises(ShapeError, match=r"shape \(2, 1\); expected \(2, 2\)"):
        buffer.add(np.zeros(2, np.int64), {"values": torch.zeros(2, 1)}, step_of())


@pytest.mark.parametrize("name", ["observations", *FIELDS])
def test_names_of_the_buffers_own_fields_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=f"act remembers '{name}'"):
        filled([]).add(np.zeros(2, np.int64), {name: torch.zeros(2)}, step_of())


# ---- check_finite --------------------------------------------------------------------------------

BAD = pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])


def spoiled(shape: tuple[int, ...], index: Any, bad: float) -> Any:
    values = np.zeros(shape, np.float32)
    values[index] = bad
    return values


@BAD
def test_reward_that_is_not_finite_is_named(bad: float) -> None:
    buffer = filled([step_of(), step_of(rewards=spoiled((2,), 1, bad)), step_of()])
    message = f"sub-environment 1 returned {bad} in its rewards at step 2 of this rollout"
    with pytest.raises(NonFiniteError, match=message):
        buffer.check_finite()


@BAD
def test_observation_that_is_not_finite_is_named(bad: float) -> None:
    buffer = filled([step_of(), step_of(observations=spoiled((2, 3), (1, 2), bad))])
    message = f"sub-environment 1 returned {bad} in its observations at step 2 of this rollout"
    with pytest.raises(NonFiniteError, match=message):
        buffer.check_finite()


def test_first_observation_of_a_rollout_is_checked() -> None:
    buffer = filled([step_of()], first=spoiled((2, 3), (0, 0), np.nan))
    with pytest.raises(NonFiniteError, match=r"sub-environment 0 .* at step 0"):
        buffer.check_finite()


def test_what_an_earlier_and_longer_rollout_has_left_is_not_looked_at() -> None:
    buffer = filled([step_of(), step_of(observations=spoiled((2, 3), (0, 0), np.nan))])
    with pytest.raises(NonFiniteError):
        buffer.check_finite()
    buffer.start(np.zeros((2, 3), np.float32))
    buffer.add(np.zeros(2, np.int64), {}, step_of())
    buffer.check_finite()
    assert buffer.size == 1


def test_last_observation_of_an_episode_is_checked() -> None:
    """In SAME_STEP mode it is valued too, and it is in none of the rows."""
    final = {1: np.array([0, np.nan, 0], np.float32)}
    with pytest.raises(NonFiniteError, match=r"sub-environment 1 .* in its observations at step 2"):
        filled([step_of(), step_of(final_observations=final)]).check_finite()


@pytest.mark.parametrize("name", ["speed", "rewards"])
def test_entry_of_a_dict_that_is_not_finite_is_named(name: str) -> None:
    space = spaces.Dict({name: BOX, "image": spaces.Box(0, 255, (2, 2, 1), np.uint8)})
    bad = {name: spoiled((2, 3), (1, 0), np.nan), "image": np.zeros((2, 2, 2, 1), np.uint8)}
    with pytest.raises(
        NonFiniteError, match=f"sub-environment 1 .*observations\\.{name} at step 1"
    ):
        filled([step_of(observations=bad)], space=space).check_finite()


def test_reward_is_checked_beside_an_observation_of_that_name() -> None:
    space = spaces.Dict({"rewards": BOX})
    step = step_of(observations=allocate(space, 2), rewards=spoiled((2,), 0, np.nan))
    with pytest.raises(NonFiniteError, match="in its rewards at step 1"):
        filled([step], space=space).check_finite()


def test_infinities_that_cancel_or_overflow_are_told_apart() -> None:
    """inf - inf is NaN, and huge finite numbers add up to inf: neither may warn or mislead."""
    huge = np.full(2, np.finfo(np.float32).max)
    filled([step_of(rewards=huge)]).check_finite()
    with pytest.raises(NonFiniteError, match="sub-environment 0 returned inf"):
        filled([step_of(rewards=np.array([np.inf, -np.inf], np.float32))]).check_finite()


def test_rows_of_an_earlier_rollout_are_not_checked() -> None:
    buffer = filled([step_of(), step_of(rewards=spoiled((2,), 1, np.nan))])
    buffer.start(np.zeros((2, 3), np.float32))
    buffer.add(np.zeros(2, np.int64), {}, step_of())
    buffer.check_finite()
    assert buffer.tensors()["rewards"].isfinite().all()


# ---- kinds, places and names ------------------------------------------------------------------


def small_step(final: Any = None) -> VectorStep:
    observations, ones = np.full((2, 3), 2.0, np.float32), np.ones(2, np.float32)
    flags, final = np.array([True, False]), {} if final is None else {0: final}
    return VectorStep(observations, ones, flags, ~flags, np.ones(2, bool), final)


def test_arrays_have_a_row_a_step_and_their_own_kind() -> None:
    buffer = RolloutBuffer(4, 2, BOX, ACTIONS["discrete"])
    assert buffer.size == 0
    assert buffer.observations.shape == (5, 2, 3)
    assert buffer.rewards.dtype == np.float32
    assert {buffer.terminated.dtype, buffer.truncated.dtype, buffer.valid.dtype} == {
        np.dtype(np.bool_)
    }
    buffer.start(np.zeros((2, 3), np.float32))
    buffer.add(np.zeros(2, np.int64), {}, small_step())
    for fields in (buffer.tensors("meta"), buffer.rows("meta")):
        assert {value.device.type for value in fields.values()} == {"meta"}
    assert buffer.next_rows("meta").device.type == "meta"


@pytest.mark.parametrize(("sizes", "name"), [((0, 2), "num_steps"), ((4, 0), "num_envs")])
def test_sizes_below_one_are_named(sizes: tuple[int, int], name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}="):
        RolloutBuffer(*sizes, BOX, ACTIONS["discrete"])


def test_starting_again_forgets_the_last_rollout() -> None:
    buffer = RolloutBuffer(2, 2, BOX, ACTIONS["discrete"])
    for first in (3.0, 4.0):
        buffer.start(np.full((2, 3), first, np.float32))
        buffer.add(np.zeros(2, np.int64), {}, small_step())
        assert buffer.observations[0].tolist() == [[first] * 3] * 2
        assert buffer.observations[1].tolist() == [[2.0] * 3] * 2


@pytest.mark.parametrize("space", [BOX, spaces.Dict({"a": BOX})], ids=["box", "dict"])
def test_next_rows_are_what_each_row_led_to(space: Space) -> None:
    def named(values: Any) -> Any:
        return {"a": values} if isinstance(space, spaces.Dict) else values

    buffer = RolloutBuffer(3, 2, space, ACTIONS["discrete"])
    buffer.start(named(np.zeros((2, 3), np.float32)))
    last = named(np.full(3, 9.0, np.float32))
    step = small_step(last)._replace(observations=named(np.full((2, 3), 2.0, np.float32)))
    buffer.add(np.zeros(2, np.int64), {}, step)
    buffer.add(np.zeros(2, np.int64), {}, step._replace(final_observations={}))
    following = buffer.next_rows()
    rows = following["a"] if isinstance(space, spaces.Dict) else following
    assert rows[:, 0].tolist() == [9.0, 2.0, 2.0, 2.0]
    held = buffer.observations["a"] if isinstance(space, spaces.Dict) else buffer.observations
    assert held[1].max() == 2.0  # the rollout itself is left alone


def test_what_is_remembered_in_another_shape_is_named() -> None:
    buffer = RolloutBuffer(3, 2, BOX, ACTIONS["discrete"])
    buffer.start(np.zeros((2, 3), np.float32))
    message = r"'v' of shape \(1,\); expected \(2,\), a row for each sub-environment\.$"
    with pytest.raises(ShapeError, match=message):
        buffer.add(np.zeros(2, np.int64), {"v": torch.zeros(1)}, small_step())
