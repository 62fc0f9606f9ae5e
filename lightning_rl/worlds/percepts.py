"""Percepts: what is seen, how it changes, what was done; from pictures, something like a state.

One picture does not show how fast things move. Two show how fast they were one step ago; only with
the last action do they tell how fast they are.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from gymnasium.vector import VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from lightning_rl.envs.vectorize import EnvLike, make_vector_env
from lightning_rl.errors import SpaceError, StateError
from lightning_rl.threads import torch_threads
from lightning_rl.trajectories.dataset import TrajectoryDataset
from lightning_rl.trajectories.writer import TrajectoryWriter
from lightning_rl.worlds.eye import Eye, EyeNetwork
from lightning_rl.worlds.pictures import check_autoreset

Array = NDArray[Any]
ROWS = 1024  # pictures that are looked at at once


def join_percepts(
    codes: Array, before: Array, done: Array, began: Array, change_std: float
) -> Array:
    """Join B percepts: the codes, their changes, the last action.

    Args:
        codes: (B, K) of the pictures.
        before: (B, K) of those one step earlier.
        done: (B, A) the actions between them, as `action_numbers` gives them.
        began: (B,) whether an episode begins with the picture: nothing changed or was done before.
        change_std: the eye's; so changes become as large as codes, about one standard deviation.

    Returns:
        (B, 2 K + A).
    """
    changes = (codes - before) / change_std
    past = np.concatenate([changes, done], axis=-1)
    return np.concatenate([codes, np.where(began[:, None], 0, past)], axis=-1, dtype=np.float32)


def action_numbers(actions: Any, space: Space) -> Array:
    """Give actions (B, ...) as numbers (B, A): one-hot, or as they are if they are a Box's."""
    taken: Array = np.asarray(actions)
    if isinstance(space, spaces.Discrete):
        one_hot: Array = np.eye(int(space.n), dtype=np.float32)[taken - int(space.start)]
        return one_hot
    return taken.reshape(len(taken), -1).astype(np.float32)


def percept_space(network: EyeNetwork, action_space: Space) -> spaces.Box:
    """Give the space of one percept, (2 K + A,); only the last action in it is bounded.

    Raises:
        SpaceError: if the actions are neither Discrete nor a Box with one axis.
    """
    if isinstance(action_space, spaces.Discrete):
        low, high = np.zeros(int(action_space.n)), np.ones(int(action_space.n))
    elif isinstance(action_space, spaces.Box) and len(action_space.shape) == 1:
        low, high = action_space.low, action_space.high
    else:
        raise SpaceError(
            f"got the action space {action_space}; expected Discrete or a Box of one axis."
        )
    unbounded = np.full(2 * network.num_codes, np.inf)
    low, high = np.concatenate([-unbounded, low]), np.concatenate([unbounded, high])
    return spaces.Box(low.astype(np.float32), high.astype(np.float32))


def look(network: EyeNetwork, pictures: Any) -> Array:
    """Give the codes (B, K) of pictures (B, H, W, C) uint8."""
    codes: Array = network.see(torch.as_tensor(pictures)).cpu().numpy()
    return codes


class PerceivedEnv(VectorWrapper):
    """A vector environment of pictures as an eye sees it: percepts (2 K + A,), an ordinary Box.

    Agents, `evaluate`, `EpisodePlayer` (with one sub-environment), checkpoints and trajectories
    take it like any other environment. It sees with the eye as that is: what an eye learns later
    changes the percepts.

    Args:
        env: what `make_vector_env` takes; its observations are pictures, as a `PictureEnv`'s.
        eye: trained on such pictures.

    Raises:
        StateError: if the eye was not trained.
        SpaceError: if it was trained on other pictures, or the actions are neither Discrete nor a
            Box with one axis.
        ConfigError: if the autoreset mode is not NEXT_STEP.

    Example:
        >>> from lightning_rl.worlds import PictureEnv
        >>> env = PictureEnv("CartPole-v1", num_envs=8)
        >>> eye = Eye(observation_space=env.single_observation_space)
        >>> eye.network.measure(torch.randn(9, 4), torch.randn(9, 4))  # in place of training
        >>> PerceivedEnv(env, eye).reset(seed=0)[0].shape
        (8, 10)
    """

    def __init__(self, env: EnvLike, eye: Eye) -> None:
        vector_env = make_vector_env(env, 1)
        check_autoreset(vector_env)
        super().__init__(vector_env)
        eye.build(vector_env.single_observation_space)  # which only checks
        eye.network.check_trained()
        self.network: EyeNetwork = eye.network  # not the eye, which holds its trainer
        space = percept_space(self.network, vector_env.single_action_space)
        self.single_observation_space = space
        self.observation_space = batch_space(space, self.num_envs)
        self._codes: Array | None = None  # before the first reset

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Begin N episodes; nothing has changed yet, nothing was done."""
        pictures, infos = self.env.reset(seed=seed, options=options)
        self._ended = np.zeros(self.num_envs, dtype=np.bool_)
        return self.start(pictures), infos

    def step(self, actions: Any) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Step, and look; after an episode's end, the next one's first picture is looked at."""
        pictures, rewards, terminated, truncated, infos = self.env.step(actions)
        percepts = self.follow(actions, pictures, began=self._ended)
        self._ended = np.logical_or(terminated, truncated)
        return percepts, rewards, terminated, truncated, infos

    def start(self, pictures: Array) -> Array:
        """Give the percepts of the first pictures, (N, H, W, C), of N episodes."""
        self._codes = look(self.network, pictures)
        space: Any = self.single_observation_space
        percepts = np.zeros((self.num_envs, *space.shape), dtype=np.float32)
        percepts[:, : self.network.num_codes] = self._codes
        return percepts

    def follow(self, actions: Any, pictures: Array, began: Array) -> Array:
        """Give the percepts of the pictures that N actions led to, or with which episodes began."""
        if self._codes is None:
            raise StateError("nothing was seen yet; call reset() before step().")
        before, self._codes = self._codes, look(self.network, pictures)
        done = action_numbers(actions, self.single_action_space)
        return join_percepts(self._codes, before, done, began, float(self.network.change_std))


@torch_threads(1)
def perceive(dataset: TrajectoryDataset, eye: Eye, directory: str | Path) -> TrajectoryDataset:
    """Look at stored pictures with an eye: write the trajectories of percepts.

    They are those that a `PerceivedEnv` would have shown.

    Args:
        dataset: of pictures, as `make_random_trajectory(PictureEnv(...), ...)` gives it.
        eye: trained on such pictures.
        directory: a new one.

    Raises:
        StateError: if the eye was not trained.
        SpaceError: if the dataset is not of pictures it was trained for.
        ConfigError: if the directory holds trajectories already.
        DatasetError: if they can't be written.
    """
    eye.build(dataset.observation_space)  # which only checks
    action_space = dataset.action_space
    space = percept_space(eye.network, action_space)
    writer = TrajectoryWriter(directory, space, action_space, dataset.env_id)
    writer.seeds = list(dataset.seeds)
    with closing(writer):
        for number in range(dataset.num_episodes):
            _add_percepts(writer, dataset.episode(number), eye.network, action_space)
        writer.flush()
    return TrajectoryDataset(directory)


def _add_percepts(
    writer: TrajectoryWriter, episode: dict[str, Any], network: EyeNetwork, action_space: Space
) -> None:
    pictures = torch.cat([episode["observations"], episode["next_observations"][-1:]])
    codes = np.concatenate([look(network, part) for part in torch.split(pictures, ROWS)])
    actions = episode["actions"].numpy()
    done = action_numbers(np.concatenate([actions[:1], actions]), action_space)
    before = np.concatenate([codes[:1], codes[:-1]])
    began = np.arange(len(codes)) == 0
    ends = bool(episode["terminated"][-1]), bool(episode["truncated"][-1])
    percepts = join_percepts(codes, before, done, began, float(network.change_std))
    writer.add(percepts, actions, episode["rewards"].numpy(), *ends)
