"""Trajectories exchanged with Minari, the Gymnasium family's format of datasets (an extra)."""

from __future__ import annotations

import contextlib
import importlib
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector.utils import create_empty_array

from lightning_rl.buffers.arrays import named_arrays, select, write
from lightning_rl.errors import ConfigError, DatasetError, NonFiniteError, needs_extra
from lightning_rl.trajectories.dataset import TrajectoryDataset
from lightning_rl.trajectories.writer import TrajectoryWriter

EPISODES_AT_ONCE = 256  # in memory on their way to Minari


def to_minari(dataset: TrajectoryDataset, dataset_id: str, **metadata: Any) -> Any:
    """Write the episodes of a dataset as a new Minari dataset.

    Values and flags are kept as they are. So an episode that was cut while collecting ends in a
    step that is neither terminated nor truncated, and `from_minari` knows it by that; Minari has
    no other mark for it. Observations and actions get the dtype of their space again.

    Args:
        dataset: the episodes, with any window.
        dataset_id: such as `"cartpole/random-v0"`; Minari stores it in `MINARI_DATASETS_PATH`.
        metadata: what `minari.create_dataset_from_buffers` takes: `author`, `env`, ... Minari warns
            of what is missing. The environment is not taken from the dataset's files.

    Returns:
        The `minari.MinariDataset`.

    Raises:
        ConfigError: if minari is not installed, or has a dataset of this name.

    Example:
        >>> to_minari(dataset, "cartpole/random-v0", env="CartPole-v1")  # doctest: +SKIP
    """
    minari = _import_minari()
    if dataset_id in minari.list_local_datasets():
        raise ConfigError(
            f"Minari has a dataset {dataset_id!r} already. Give another version, such as "
            f"'name-v1', or delete it: minari.delete_dataset({dataset_id!r})."
        )
    written = minari.create_dataset_from_buffers(
        dataset_id,
        _to_buffers(dataset, 0),
        observation_space=dataset.observation_space,
        action_space=dataset.action_space,
        jpeg_encoding=False,  # it would change the pixels
        **metadata,
    )
    for first in range(EPISODES_AT_ONCE, dataset.num_episodes, EPISODES_AT_ONCE):
        written.update_dataset_from_buffer(_to_buffers(dataset, first))
    return written


def from_minari(source: Any, directory: str | Path) -> TrajectoryDataset:
    """Store the episodes of a Minari dataset as trajectories. Nothing is downloaded.

    Minari marks no cut: an episode whose last step is neither terminated nor truncated is taken for
    one. Minari's own collector marks those as truncated, which can't be told apart from a limit.

    Args:
        source: a `minari.MinariDataset`, or the name of one that is stored here.
        directory: a new one.

    Raises:
        ConfigError: if minari is not installed, or the directory holds trajectories already.
        DatasetError: if there is no such dataset, or it has no episodes, or can't be read.
        SpaceError: if no array can hold its observations or actions.
        NonFiniteError: if one is NaN or infinite.

    Example:
        >>> dataset = from_minari("D4RL/pen/human-v2", "trajectories")  # doctest: +SKIP
    """
    minari = _import_minari()
    if isinstance(source, str):
        try:
            source = minari.load_dataset(source)
        except (OSError, ValueError) as error:
            raise DatasetError(
                f"Minari has no dataset {source!r} here: {error}. minari.list_local_datasets() "
                "names those it has; minari.download_dataset gets others."
            ) from error
    spec = source.env_spec
    writer = TrajectoryWriter(
        directory, source.observation_space, source.action_space, None if spec is None else spec.id
    )
    with contextlib.closing(writer):
        try:
            for episode in source.iterate_episodes():
                _add(writer, episode)
        except OSError as error:  # of its storage
            message = f"the Minari dataset {source.id!r} can't be read: {error}."
            raise DatasetError(message) from error
        if not writer.num_steps:
            message = f"the Minari dataset {source.id!r} has no env steps. Give another one."
            raise DatasetError(message)
        writer.flush()
    return TrajectoryDataset(directory)


def _import_minari() -> Any:
    with needs_extra("minari", "to exchange trajectories"):
        return importlib.import_module("minari")


def _to_buffers(dataset: TrajectoryDataset, first: int) -> list[Any]:
    last = min(first + EPISODES_AT_ONCE, dataset.num_episodes)
    return [_to_buffer(dataset, number) for number in range(first, last)]


def _to_buffer(dataset: TrajectoryDataset, number: int) -> Any:
    """Give an episode as Minari's `EpisodeBuffer`, with one observation more than actions."""
    buffers = importlib.import_module("minari.data_collector")
    episode, length = dataset.episode(number), int(dataset.episode_lengths[number])
    observations = create_empty_array(dataset.observation_space, length + 1)
    write(observations, slice(length), episode["observations"])
    write(observations, length, select(episode["next_observations"], -1))
    return buffers.EpisodeBuffer(
        observations=observations,
        actions=episode["actions"].numpy().astype(dataset.action_space.dtype),
        rewards=episode["rewards"].numpy(),
        terminations=episode["terminated"].numpy(),
        truncations=episode["truncated"].numpy(),
        infos={},
    )


def _add(writer: TrajectoryWriter, episode: Any) -> None:
    parts = {
        **named_arrays(episode.observations),
        "actions": episode.actions,
        "rewards": episode.rewards,
    }
    if not all(np.isfinite(values).all() for values in parts.values()):
        raise NonFiniteError(
            f"episode {episode.id} of the Minari dataset holds NaN or inf; expected finite "
            "numbers. Leave it out: dataset.filter_episodes(...)."
        )
    ends = bool(episode.terminations[-1]), bool(episode.truncations[-1])
    writer.add(episode.observations, episode.actions, episode.rewards, *ends)
