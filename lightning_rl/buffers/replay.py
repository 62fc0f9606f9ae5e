"""Replay: the transitions of many rollouts, in a ring, to be drawn again at random."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from lightning_rl.buffers.arrays import (
    Arrays,
    check_finite,
    named_arrays,
    observations_in,
    select,
    split,
    to_device,
    to_tensor,
    write,
)
from lightning_rl.buffers.folder import ReplayFolder, Ring
from lightning_rl.buffers.ring import allocate_ring, ring_layout
from lightning_rl.envs.runner import ObservationArrays, VectorStep
from lightning_rl.errors import ConfigError, NonFiniteError, StateError
from lightning_rl.settings import count, real_number

VALID: Final = 1  # the bits of a row's flags; a row that may not be sampled has none
TERMINATED: Final = 2
TRUNCATED: Final = 4
HAS_FINAL: Final = 8  # SAME_STEP: the row's true last observation is kept apart
ENDED: Final = TERMINATED | TRUNCATED
DRAW_BYTES: Final = 2**22  # minibatches are drawn together up to this size: the cache's


class ReplayBuffer:
    """A ring of the last T steps of N sub-environments, from which transitions are drawn.

    Every observation is stored once: a transition's next observation is the next row's. In
    NEXT_STEP mode that is the episode's true last one, held by the reset row, which is never
    drawn; in SAME_STEP mode the true last observations are kept apart. The ring has T + 1 rows:
    the row at `head` holds the observation that the next action answers, and has no transition.

    With `n_steps` above 1 a drawn transition sums up to n rewards, r_0 + γ r_1 + ... It is cut
    behind an episode's end, and where the stored steps end.

    Args:
        capacity: transitions to hold, over all sub-environments (rounded up to full rows).
        num_envs: N, sub-environments.
        observation_space: of one sub-environment.
        action_space: of one sub-environment.
        n_steps: rewards of one transition.
        gamma: discount factor of the rewards after the first.
        directory: a folder for the arrays, so that they may exceed the memory: a new or empty
            one, or one that a buffer for the same spaces has filled, which is gone on with. No
            other buffer may open it until `close()`.

    Attributes:
        observations: (T + 1, N, ...), or a dict of such arrays.
        head: the row that is filled next.

    Raises:
        ConfigError: for a setting out of its range, or a memory or folder that can't hold it.
        LockedError: if another buffer has the folder open.
        SpaceError: if the folder holds the transitions of another environment.

    Example:
        >>> buffer = ReplayBuffer(1000, 8, spaces.Box(-1, 1, (4,)), spaces.Discrete(2))
        >>> buffer.observations.shape, len(buffer)
        ((126, 8, 4), 0)
    """

    def __init__(
        self,
        capacity: int,
        num_envs: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        *,
        n_steps: int = 1,
        gamma: float = 0.99,
        directory: str | Path | None = None,
    ) -> None:
        capacity, num_envs = count("capacity", capacity), count("num_envs", num_envs)
        n_steps, gamma = count("n_steps", n_steps), real_number("gamma", gamma)
        self.num_rows = math.ceil(capacity / num_envs) + 1  # R = T + 1
        if n_steps >= self.num_rows:
            raise ConfigError(
                f"capacity={capacity} is too few for n_steps={n_steps} of {num_envs} "
                f"sub-environments; expected at least {n_steps * num_envs}."
            )
        self.num_envs, self.n_steps, self.gamma = num_envs, n_steps, gamma
        self.head, self.is_full, self.num_added = 0, False, 0  # rows added, ever
        self.fields = ring_layout(observation_space, action_space, self.num_rows, num_envs)
        self._final: dict[int, dict[int, Any]] = {}  # row -> sub-environment -> last observation
        self._unchecked = 0  # rows added since `check_finite`
        self.folder: ReplayFolder | None = None
        if directory is None:
            self._bind_arrays(allocate_ring(self.fields))
        else:
            self.folder = ReplayFolder(directory, self.fields, observation_space, action_space)
            self._bind_ring(self.folder.open())
        self._forget_unfinished()  # of a folder whose last run was cut short

    def _bind_ring(self, ring: Ring) -> None:
        self.head, self.is_full, self.num_added = ring.head, ring.is_full, ring.num_added
        self._bind_arrays(ring.arrays)

    def close(self) -> None:
        """Save the folder, and let others open it. Until `reopen`, nothing is added."""
        if self.folder is not None:
            self.folder.save_and_close(self._ring)

    def reopen(self) -> None:
        """Open the folder again, if it was closed; what another buffer has added is taken over.

        Raises:
            LockedError: if another buffer has the folder open.
        """
        if self.folder is None or self.folder.is_open:
            return
        before = self.num_added
        self._bind_ring(self.folder.open())
        if self.num_added != before:
            self._forget_unfinished()

    @property
    def _ring(self) -> Ring:
        return Ring(self._arrays, self.head, self.is_full, self.num_added)

    def _bind_arrays(self, arrays: Arrays) -> None:
        self._arrays = arrays
        self.observations: Any = observations_in(arrays)
        self.actions, self.rewards = arrays["actions"], arrays["rewards"]
        self.flags = arrays["flags"]
        self._num_slots = self.num_rows * self.num_envs
        # The same memory with one axis of slots: slot = row * N + sub-environment.
        flat = {name: array.reshape(-1, *array.shape[2:]) for name, array in arrays.items()}
        self._flat_observations = {name: flat[name] for name in named_arrays(self.observations)}
        self._flat_actions, self._flat_rewards = flat["actions"], flat["rewards"]
        self._flat_flags = flat["flags"]
        self._transition_bytes = 2 * sum(a[:1].nbytes for a in self._flat_observations.values())

    def __getstate__(self) -> dict[str, Any]:
        """Give what is copied and pickled: the arrays, in memory, and none of their views."""
        views = ("observations", "actions", "rewards", "flags")
        return {
            name: value
            for name, value in self.__dict__.items()
            if name not in views and not name.startswith("_flat_")
        } | {"folder": None, "_arrays": {n: np.array(a) for n, a in self._arrays.items()}}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the views of the copied arrays."""
        self.__dict__.update(state)
        self._bind_arrays(state["_arrays"])

    def _forget_unfinished(self) -> None:
        """Forget what a run that was killed has written where this one goes on."""
        before = int(np.count_nonzero(self._flat_flags))
        self.flags[self.head :][: 1 if self.is_full else None] = 0
        if self.folder is not None:  # which does not hold what is kept apart
            self.flags[self.flags & HAS_FINAL > 0] = 0
            self._final.clear()
        self._recount()
        if self.folder is not None and self._num_valid != before:
            self.folder.forget_sums()
            self.folder.flush(self._ring)

    def _recount(self) -> None:
        self._num_valid = int(np.count_nonzero(self._flat_flags))

    def __len__(self) -> int:
        """Count the transitions that can be drawn."""
        return self._num_valid

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self._arrays.values())

    # ---- filling -----------------------------------------------------------------------------

    def start(self, observations: ObservationArrays) -> None:
        """Begin new episodes with these (N, ...) observations; running ones are cut off.

        Raises:
            StateError: if the buffer's folder was closed.
        """
        if self.folder is not None:
            self.folder.check_open()
        if self.head or self.is_full:
            self._advance()  # the row left behind holds the last step's next observation
        write(self.observations, self.head, observations)

    def current(self) -> Any:
        """Give the (N, ...) observations that the next action answers, as views."""
        return select(self.observations, self.head)

    def add(self, actions: NDArray[Any], remembered: dict[str, Tensor], step: VectorStep) -> None:
        """Append one step of every sub-environment, over the oldest where the ring is full.

        Args:
            actions: (N, ...) as the policy chose them.
            remembered: must be empty: what a policy said long ago is of no use later.
            step: what the environment answered.

        Raises:
            ConfigError: if there is something to remember.
        """
        if remembered:
            names = f"act remembers {list(remembered)}"
            raise ConfigError(f"{names}, which is not kept; compute them in training_step.")
        row = self.head
        self.actions[row] = actions
        self.rewards[row] = step.rewards
        flags = (VALID + TERMINATED * step.terminated + TRUNCATED * step.truncated) * step.valid
        if step.final_observations:
            self._final[row] = copy.deepcopy(step.final_observations)
            flags[list(step.final_observations)] |= HAS_FINAL
        self._advance()
        write(self.observations, self.head, step.observations)
        # Last, so that what is cut short has left no transition; a reset row has no flags.
        self.flags[row] = flags
        self._num_valid += int(np.count_nonzero(step.valid))

    def _advance(self) -> None:
        self.head, self.num_added = self.head + 1, self.num_added + 1
        if self.head == self.num_rows:
            self.head, self.is_full = 0, True
        if self.is_full:
            self._num_valid -= int(np.count_nonzero(self.flags[self.head]))
            self._final.pop(self.head, None)
        self.flags[self.head] = 0
        self._unchecked = min(self._unchecked + 1, self.num_rows - 1)

    def check_finite(self) -> None:
        """Check every reward and observation added since the last check.

        Raises:
            NonFiniteError: naming the first sub-environment and step (from 1) with a NaN or inf.
                None of these steps will be drawn.
        """
        rows = self._last_rows(self._unchecked)
        self._unchecked = 0
        try:
            check_finite("rewards", self.rewards[rows], first_step=1)
            for name, array in named_arrays(self.observations).items():
                check_finite(name, array[np.append(rows, self.head)], first_step=0)
            final = [(t + 1, *item) for t, r in enumerate(rows) for item in self._final_of(r)]
            for t, env_index, (name, array) in final:
                check_finite(name, array, t, env_index)
        except NonFiniteError:
            self.flags[rows] = 0
            self._recount()
            raise

    def _final_of(self, row: int) -> Iterator[tuple[int, tuple[str, NDArray[Any]]]]:
        for env_index, observation in self._final.get(int(row), {}).items():
            for name, part in named_arrays(observation).items():
                yield env_index, (name, np.asarray(part)[None, None])

    def _last_rows(self, count: int) -> NDArray[np.int64]:
        return np.arange(self.head - count, self.head) % self.num_rows

    # ---- drawing -----------------------------------------------------------------------------

    def sample(self, batch_size: int, generator: torch.Generator | None = None) -> dict[str, Any]:
        """Draw B transitions, each as likely as any other, with replacement.

        Returns:
            observations, actions, rewards (B,): the sum of up to n discounted rewards;
            next_observations: after the last of them; terminated (B,) bool: its state was final,
            so there is no bootstrap; discounts (B,): γ^k of k summed rewards, the next value's
            factor.

        Raises:
            StateError: if the buffer holds fewer than B transitions.
        """
        self._check_filled(batch_size)
        return self._gather(self._draw(batch_size, generator))

    def minibatches(
        self,
        count: int,
        batch_size: int,
        generator: torch.Generator | None = None,
        device: torch.device | str = "cpu",
        dtype: Any = None,
    ) -> Iterator[dict[str, Any]]:
        """Draw minibatches as `sample` does, but many together, which is much faster.

        Args:
            count: how many.
            batch_size: B of each.
            generator: of the random numbers.
            device: where to put them.
            dtype: for observations and actions of floats.

        Raises:
            StateError: if the buffer holds fewer than B transitions.
        """
        self._check_filled(batch_size)
        together = max(1, min(count, DRAW_BYTES // (batch_size * self._transition_bytes)))
        for start in range(0, count, together):
            rows = min(together, count - start) * batch_size
            drawn = self._gather(self._draw(rows, generator))
            yield from split(to_device(drawn, device, dtype), batch_size)

    def _check_filled(self, batch_size: int) -> None:
        if batch_size > self._num_valid:
            raise StateError(
                f"asked for a batch of {batch_size}, but the buffer holds {self._num_valid} "
                "transitions. Fill it first (learning_starts), or take a smaller batch_size."
            )

    def _draw(self, count: int, generator: torch.Generator | None) -> NDArray[np.int64]:
        """Draw slots uniformly: those without a transition are drawn again."""
        filled = self._num_slots if self.is_full else self.head * self.num_envs
        slots: NDArray[np.int64] = torch.randint(filled, (count,), generator=generator).numpy()
        flags = self._flat_flags.take(slots)
        while np.count_nonzero(flags) < count:
            empty = np.flatnonzero(flags == 0)
            slots[empty] = torch.randint(filled, (len(empty),), generator=generator).numpy()
            flags[empty] = self._flat_flags.take(slots[empty])
        return slots

    def _gather(self, slots: NDArray[np.int64]) -> dict[str, Any]:
        # take(mode="wrap") is numpy's fastest way to rows, and closes the ring by the way
        last, rewards, discounts = slots, self._flat_rewards.take(slots), None
        if self.n_steps > 1:
            last, rewards, discounts = self._sum_rewards(slots, rewards)
        flags = self._flat_flags.take(last)
        actions = self._flat_actions.take(slots, axis=0, mode="wrap")
        next_slots = last + self.num_envs
        observations, following = {}, {}
        for name, array in self._flat_observations.items():
            observations[name] = array.take(slots, axis=0, mode="wrap")
            following[name] = array.take(next_slots, axis=0, mode="wrap")
        if self._final:
            self._put_final(following, last, flags)
        if discounts is None:
            discounts = np.full(len(slots), self.gamma, dtype=np.float32)
        return {
            "observations": to_tensor(observations_in(observations)),
            "actions": torch.from_numpy(
                actions.astype(np.int64) if actions.dtype.kind in "iu" else actions
            ),
            "rewards": torch.from_numpy(rewards),
            "next_observations": to_tensor(observations_in(following)),
            "terminated": torch.from_numpy(flags & TERMINATED > 0),
            "discounts": torch.from_numpy(discounts),
        }

    def _sum_rewards(
        self, slots: NDArray[np.int64], rewards: NDArray[np.float32]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
        """Sum up to n rewards of each episode; give the last slot, the sum and γ^k."""
        last, total = slots, rewards.astype(np.float64)
        discounts = np.full(len(slots), self.gamma)
        goes_on = self._flat_flags.take(slots) & ENDED == 0
        for _ in range(self.n_steps - 1):
            slots = (slots + self.num_envs) % self._num_slots
            flags = self._flat_flags.take(slots)
            goes_on &= flags > 0  # behind the newest step, and where episodes were cut
            total += np.where(goes_on, discounts * self._flat_rewards.take(slots), 0.0)
            discounts = np.where(goes_on, discounts * self.gamma, discounts)
            last = np.where(goes_on, slots, last)
            goes_on &= flags & ENDED == 0
        return last, total.astype(np.float32), discounts.astype(np.float32)

    def _put_final(
        self, following: Arrays, last: NDArray[np.int64], flags: NDArray[np.uint8]
    ) -> None:
        for i in np.flatnonzero(flags & HAS_FINAL):
            row, env_index = divmod(int(last[i]), self.num_envs)
            for name, part in named_arrays(self._final[row][env_index]).items():
                following[name][i] = part

    # ---- saving ------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Give what a resumed run needs: the filled rows, or the folder that holds them.

        A folder is not copied: it goes on from the checkpoint bit for bit only if nothing was
        added since and in NEXT_STEP mode, as it does not hold what is kept apart.
        """
        state: dict[str, Any] = {
            "head": self.head,
            "is_full": self.is_full,
            "final": self._final,
            "current": {
                name: array[self.head] for name, array in named_arrays(self.observations).items()
            },
        }
        if self.folder is not None:
            self.folder.flush(self._ring)
            return state | {"in_folder": True, "num_added": self.num_added}
        rows = self.num_rows if self.is_full else self.head + 1
        return state | {"arrays": {name: array[:rows] for name, array in self._arrays.items()}}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave.

        A folder that has gone on since is gone on with as it is, with a warning.

        Raises:
            StateError: if it is of another layout, or the folder was closed.
        """
        saved: Arrays = state.get("arrays", {})
        if self.folder is not None:
            self.folder.check_open()
        self._check_saved(state, saved)
        for name, array in saved.items():
            self._arrays[name][: len(array)] = array
        self.head, self.is_full, self._final = state["head"], state["is_full"], state["final"]
        for name, array in named_arrays(self.observations).items():
            if not np.array_equal(array[self.head], state["current"][name]):
                self.flags[self.head - 1] = 0  # of a later lap, in a folder that has gone on
            array[self.head] = state["current"][name]
        if self.folder is not None:
            self.folder.forget_sums()
        self._forget_unfinished()

    def _check_saved(self, state: dict[str, Any], saved: Arrays) -> None:
        if ("in_folder" in state) != (self.folder is not None):
            places = ("in a folder", "in the checkpoint")[:: 1 if "in_folder" in state else -1]
            raise StateError(
                f"the saved replay buffer lies {places[0]}; this one would have it {places[1]}. "
                "Give the agent the buffer_directory it was trained with."
            )
        if self.folder is not None and state.get("num_added") != self.num_added:
            self.folder.warn_of_changes()
        rows = {name: len(array) for name, array in saved.items()}
        got = {name: (str(a.dtype), a.shape[1:]) for name, a in saved.items()}
        expected = {name: (dtype, shape[1:]) for name, (dtype, shape) in self.fields.items()}
        fits = all(
            self.num_rows == n if state["is_full"] else n <= self.num_rows for n in rows.values()
        )
        if saved and not (fits and got == expected):
            raise StateError(
                f"the checkpoint's replay buffer has {rows} rows of {got}; this one "
                f"{self.num_rows} of {expected}. Use the same environment, num_envs and capacity."
            )
