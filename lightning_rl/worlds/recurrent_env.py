"""Environments of a recurrent model: what it remembers of the real one, what it dreams."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_rl.envs.vectorize import EnvLike, make_vector_env
from lightning_rl.errors import StateError
from lightning_rl.settings import count
from lightning_rl.trajectories.dataset import TrajectoryDataset
from lightning_rl.worlds.pictures import check_autoreset
from lightning_rl.worlds.rssm import Memory, RecurrentNetwork, RecurrentWorldModel

Array = NDArray[Any]


def feature_space(network: RecurrentNetwork) -> spaces.Box:
    """Give the space of what is remembered of one environment, (R + L C,)."""
    return spaces.Box(-np.inf, np.inf, (network.num_features,), np.float32)


class RememberedEnv(VectorWrapper):
    """A vector environment of pictures as a recurrent model remembers it: its features.

    Args:
        env: what `make_vector_env` takes; its observations are pictures, as a `PictureEnv`'s.
        model: trained on such pictures. A copy of its network is kept.

    Raises:
        SpaceError: if it was trained on others.
        ConfigError: if the autoreset mode is not NEXT_STEP.
    """

    def __init__(self, env: EnvLike, model: RecurrentWorldModel) -> None:
        vector_env = make_vector_env(env, 1)
        check_autoreset(vector_env)
        super().__init__(vector_env)
        model.build(vector_env.single_observation_space, vector_env.single_action_space)
        self.network = copy.deepcopy(model.network)
        self.numbers = model.action_numbers
        self.single_observation_space = feature_space(self.network)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin N episodes with an empty memory."""
        pictures, infos = self.env.reset(seed=seed, options=options)
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        self._random = torch.Generator().manual_seed(seed or 0)
        self._features = to_numbers(self.network.blank(self.num_envs).features)
        nothing = torch.zeros(self.num_envs, self.network.num_actions)
        return self._look(nothing, pictures), infos

    def step(self, actions: Any) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Step, look and remember; forget all where an episode begins."""
        pictures, rewards, terminated, truncated, infos = self.env.step(actions)
        began = self._ended
        done = torch.where(
            torch.from_numpy(began)[:, None], 0, self.numbers(torch.as_tensor(actions))
        )
        self._features[began] = 0
        features = self._look(done, pictures)
        self._ended = np.logical_or(terminated, truncated)
        return features, rewards, terminated, truncated, infos

    @torch.no_grad()
    def _look(self, done: Tensor, pictures: Array) -> Array:
        memory = split(self.network, torch.from_numpy(self._features))
        greys = self.network.scale(torch.as_tensor(pictures))
        memory, _, _ = self.network.observe(memory, done, greys)
        self._features = to_numbers(memory.features)
        return self._features.copy()


class RecurrentDreamEnv(VectorEnv):
    """A vector environment of what a recurrent model imagines; as `DreamEnv`, with one member.

    Args:
        model: a trained recurrent model.
        dataset: of pictures, in windows; dreams start with what is remembered at their ends.
        num_envs: N, dreams side by side.
        horizon: env steps after which a dream is truncated.

    Raises:
        StateError: if the model has no sizes.
        SpaceError: if the dataset is another environment's.
    """

    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}  # noqa: RUF012

    def __init__(
        self,
        model: RecurrentWorldModel,
        dataset: TrajectoryDataset,
        num_envs: int = 32,
        horizon: int = 500,
    ) -> None:
        model.build(dataset.observation_space, dataset.action_space)
        self.network, self.numbers = model.network, model.action_numbers
        self.num_envs, self.horizon = count("num_envs", num_envs), count("horizon", horizon)
        self.single_observation_space = feature_space(self.network)
        self.single_action_space: Any = model.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.starts = remembered_states(model, dataset)
        self._ended: Array | None = None

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start N new dreams."""
        super().reset(seed=seed[0] if isinstance(seed, list) else seed)
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        self._elapsed = np.zeros(self.num_envs, dtype=np.int64)
        self._features = self._draw_starts(self.num_envs)
        return self._features.copy(), {}

    def _draw_starts(self, number: int) -> Array:
        drawn: Array = self.starts[self.np_random.integers(len(self.starts), size=number)]
        return drawn

    @torch.no_grad()
    def step(self, actions: Any) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Imagine one step of each; one that had ended starts anew and ignores its action."""
        if self._ended is None:
            raise StateError("the dream has not begun; call reset() before step().")
        memory = split(self.network, torch.from_numpy(self._features))
        memory = self.network.imagine(memory, self.numbers(torch.as_tensor(actions)))
        rewards, logits = self.network.heads(memory.features).numpy().T
        features, terminated = to_numbers(memory.features), logits > 0
        rewards = rewards.astype(np.float64)
        self._elapsed += 1
        truncated = self._elapsed >= self.horizon
        if (began := self._ended).any():
            features[began] = self._draw_starts(int(began.sum()))
            for values in (rewards, terminated, truncated, self._elapsed):
                values[began] = 0
        self._ended, self._features = terminated | truncated, features
        return features.copy(), rewards, terminated, truncated, {}


def split(network: RecurrentNetwork, features: Tensor) -> Memory:
    """Undo `Memory.features`."""
    size = network.config.memory_size
    return Memory(features[:, :size], features[:, size:])


def to_numbers(features: Tensor) -> Array:
    """Give features as an array of their own."""
    numbers: Array = features.detach().cpu().numpy().astype(np.float32, copy=True)
    return numbers


@torch.no_grad()
def remembered_states(model: RecurrentWorldModel, dataset: TrajectoryDataset) -> Array:
    """Give what is remembered after the second half of each window's pictures, (S, R + L C)."""
    loader = DataLoader(dataset, batch_size=256, generator=torch.Generator())
    kept = []
    for batch in loader:
        features = model.watch(batch)[1][(dataset.window + 1) // 2 :]  # it has seen enough
        kept.append(features[:-1].flatten(0, 1))  # the last may be final
    return to_numbers(torch.cat(kept))
