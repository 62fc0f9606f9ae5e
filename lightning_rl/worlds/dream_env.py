"""A world model as an environment: its dream.

Ha, Schmidhuber 2018, "World models", https://arxiv.org/abs/1803.10122, train an agent inside of
its own dream. As in Janner et al. 2019 (MBPO), https://arxiv.org/abs/1906.08253, dreams start in
any state that was visited; as in Kidambi et al. 2020 (MOReL), https://arxiv.org/abs/2005.05951,
they can end, badly, where too little is known.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from lightning_rl.buffers.arrays import to_array
from lightning_rl.errors import ConfigError, ShapeError, SpaceError, StateError
from lightning_rl.settings import count
from lightning_rl.worlds.dynamics import EnsembleNetwork
from lightning_rl.worlds.world_model import WorldModel, find_spaces

Array = NDArray[Any]
KnownRange = float | tuple[Array, Array] | None
MAX_STARTS = 10_000  # states of a dataset that dreams start from: more would only fill checkpoints


class DreamEnv(VectorEnv):
    """A vector environment of what a world model predicts, for `AgentTrainer.fit(agent, dream)`.

    Each episode starts in a state of the data and happens in the world of one member of the
    ensemble, drawn at its start (PETS calls it TS∞): an agent that does well must do well in all
    of them. A member's observation and reward are drawn from its normal distribution, clipped to
    the observation space's bounds; it terminates where that is more likely than not. Autoreset is
    NEXT_STEP.

    Args:
        model: a trained world model. What it learns later is dreamed too, after the next `reset`.
        starts: a dataset of `observations` (a `TrajectoryDataset`), whose every visited state may
            be a start (at most 10,000 of them, drawn), or the states themselves, (S, D), such as
            `dataset.start_observations`.
        num_envs: N, dreams side by side.
        horizon: env steps after which a dream is truncated.
        known_range: end a dream that leaves the range of the data, number by number, times this
            about its middle: beyond it, the model only guesses. Such an end counts as termination,
            and as if the rest of the horizon brought the lowest reward of the data, or nothing if
            that is above 0, so that it never pays. None: never.
        disagreement_penalty: reward lost for each unit of the members' disagreement about the
            step (see `EnsembleNetwork.disagreement`).

    Raises:
        StateError: if the model was not trained.
        ConfigError: for a number out of its range.
        ShapeError: if the starts are not (S, D) with S > 0.
        SpaceError: if the dataset is another environment's.

    Example:
        >>> from gymnasium import spaces
        >>> model = WorldModel()
        >>> model.build(spaces.Box(-1, 1, (3,)), spaces.Discrete(2))
        >>> step = {"observations": torch.zeros(1, 3), "actions": torch.zeros(1), "rewards":
        ...     torch.ones(1), "next_observations": torch.ones(1, 3), "terminated": torch.zeros(1)}
        >>> model.network.measure([step])
        >>> dream = DreamEnv(model, starts=torch.zeros(1, 3), num_envs=8)
        >>> observations, _ = dream.reset(seed=0)
        >>> dream.step(dream.action_space.sample())[0].shape
        (8, 3)
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        model: WorldModel,
        starts: Any,
        num_envs: int = 32,
        horizon: int = 500,
        known_range: KnownRange = None,
        disagreement_penalty: float = 0.0,
    ) -> None:
        if model.network is None or not model.network.is_measured:
            raise StateError(
                "the world model was not trained, so there is nothing to dream of; call "
                "lightning.Trainer(...).fit(model, DataLoader(dataset)) or load a checkpoint first."
            )
        num_envs, horizon = count("num_envs", num_envs), count("horizon", horizon)
        _check_range(known_range, model)
        if not disagreement_penalty >= 0:
            raise ConfigError(f"disagreement_penalty={disagreement_penalty}; expected 0 or more.")
        self.network = model.network  # not the model, which holds its trainer
        self.num_envs, self.horizon = num_envs, horizon
        self.known_range, self.disagreement_penalty = known_range, disagreement_penalty
        self.single_observation_space: Any = model.observation_space
        self.single_action_space: Any = model.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.starts = _start_states(starts, model)
        self._ended: Array | None = None  # before the first reset

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start N new dreams.

        Args:
            seed: of all random numbers of all N dreams; None goes on with those there are.
            options: ignored.

        Returns:
            Observations (N, D), and an empty dict.
        """
        super().reset(seed=seed[0] if isinstance(seed, list) else seed)
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        self._elapsed = np.zeros(self.num_envs, dtype=np.int64)
        self._members = self.np_random.integers(self.network.num_members, size=self.num_envs)
        self._observations = self._draw_starts(self.num_envs)
        self._known = self._bounds()
        return self._observations.copy(), {}

    def _draw_starts(self, count: int) -> Array:
        drawn: Array = self.starts[self.np_random.integers(len(self.starts), size=count)]
        return drawn

    def step(self, actions: Any) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Dream one step of each; one that had ended starts anew and ignores its action.

        Raises:
            StateError: before the first reset.
            SpaceError: if the actions are not in the action space.
        """
        if self._ended is None:
            raise StateError("the dream has not begun; call reset() before step().")
        actions, dtype = np.asarray(actions), self.action_space.dtype
        if dtype is not None and np.can_cast(actions.dtype, dtype, "same_kind"):
            actions = actions.astype(dtype)  # a list's floats have twice the digits
        if not self.action_space.contains(actions):
            raise SpaceError(
                f"got actions {actions!r}; expected {self.num_envs} of {self.single_action_space}."
            )
        reset_rows = self._ended
        observations, rewards, terminated = self._sample_step(actions)
        self._elapsed += 1
        truncated = self._elapsed >= self.horizon
        if reset_rows.any():
            count, num_members = int(reset_rows.sum()), self.network.num_members
            observations[reset_rows] = self._draw_starts(count)
            self._members[reset_rows] = self.np_random.integers(num_members, size=count)
            self._elapsed[reset_rows] = 0
            for values in (rewards, terminated, truncated):
                values[reset_rows] = 0
        self._ended = terminated | truncated
        self._observations = observations
        return observations.copy(), rewards, terminated, truncated, {}

    @torch.inference_mode()
    def _sample_step(self, actions: Array) -> tuple[Array, Array, Array]:
        """Draw the next observations (N, D) and rewards (N,), and tell which are final, (N,)."""
        network, space = self.network, self.single_observation_space
        size = (self.num_envs, network.num_observed + 1)
        noise = self.np_random.standard_normal(size, np.float32)
        arrays = (self._observations, actions, self._members, noise)
        device = network.lowest.device
        sampled = self._sample(network, *(torch.from_numpy(a).to(device) for a in arrays))
        observations, rewards, terminated = map(to_array, sampled)
        rewards = rewards.astype(np.float64)
        observations = observations.astype(space.dtype, copy=False)
        if self.known_range is not None:
            unknown = outside(observations, self._known) & ~terminated
            worst = min(float(network.lowest_reward), 0.0)
            rewards[unknown] += worst * (self.horizon - self._elapsed[unknown] - 1)
            terminated |= unknown
        return np.clip(observations, space.low, space.high), rewards, terminated

    def _sample(
        self,
        network: EnsembleNetwork,
        observations: Tensor,
        actions: Tensor,
        members: Tensor,
        noise: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Do so where the network is, whatever is known. `noise` is (N, D + 1)."""
        before, noise = observations.to(network.lowest), noise.to(network.lowest)
        inputs = network.normalize_inputs(before, actions)
        outputs = network(inputs.expand(network.num_members, *inputs.shape))  # (E, N, ...)
        rows = torch.arange(self.num_envs, device=before.device)
        own = network.outcome(outputs[members, rows])  # (N, ...)
        following = before + own.change + own.change_std * noise[:, :-1]
        rewards = own.reward + own.reward_std * noise[:, -1]
        if self.disagreement_penalty:
            apart = network.disagreement(network.outcome(outputs).change)
            rewards = rewards - self.disagreement_penalty * apart
        return following, rewards, own.termination_logit > 0

    def _bounds(self) -> tuple[Array, Array]:
        """Give the bounds (D,) within which a dream goes on."""
        if isinstance(self.known_range, tuple):
            low, high = map(np.asarray, self.known_range)
            return low, high
        lowest, highest = to_array(self.network.lowest), to_array(self.network.highest)
        reach = (highest - lowest) / 2 * (self.known_range or np.inf)
        reach[lowest == highest] = np.inf  # a number that never varied has no range
        middle = (highest + lowest) / 2
        return middle - reach, middle + reach


def outside(observations: Any, known: tuple[Any, Any]) -> Any:
    """Tell which observations (N, D), arrays or tensors, leave what is known, (N,)."""
    low, high = known
    return ((observations < low) | (observations > high)).any(-1)


def _check_range(known_range: KnownRange, model: WorldModel) -> None:
    if isinstance(known_range, tuple):
        shapes = [np.shape(bound) for bound in known_range]
        if shapes != [model.observation_space.shape] * 2:
            raise ShapeError(
                f"got a known range of arrays of the shapes {shapes}; expected the lowest and the "
                f"highest numbers, each {model.observation_space.shape}."
            )
    elif known_range is not None and not known_range > 0:
        raise ConfigError(f"known_range={known_range}; expected a number above 0, or None.")


def _start_states(starts: Any, model: WorldModel) -> Array:
    """Turn a dataset or states into an array of states, (S, D)."""
    if isinstance(starts, Dataset):
        if (found := find_spaces(starts)) is not None:
            model.build(*found)  # which only checks
        starts = visited_states(starts)
    space: Any = model.observation_space
    states = torch.as_tensor(starts).cpu().numpy().astype(space.dtype)
    if states.ndim != 2 or states.shape[1:] != space.shape or len(states) == 0:
        raise ShapeError(
            f"got start states of shape {states.shape}; expected (S, {space.shape[0]}) with at "
            "least one state."
        )
    return states


def visited_states(dataset: Any, limit: int = MAX_STARTS, seed: int = 0) -> Array:
    """Give the states in which a dataset's steps began, (S, D): all, or `limit` drawn ones."""
    rows = np.arange(len(dataset))
    if len(rows) > limit:
        rows = np.random.default_rng(seed).choice(rows, limit, replace=False)
    part = Subset(dataset, rows.tolist())
    batches = DataLoader(part, batch_size=1024, generator=torch.Generator())  # no global number
    states = [batch["observations"] for batch in batches]
    return torch.cat([state.reshape(-1, state.shape[-1]) for state in states]).numpy()
