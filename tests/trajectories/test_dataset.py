"""Trajectories: every window is consecutive env steps of one episode, and each is there once."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stored import KEYS, write_episodes
from torch.utils.data import DataLoader, Subset, default_collate

from lightning_rl.errors import ConfigError, StateError
from lightning_rl.trajectories import files as files_module
from lightning_rl.trajectories.dataset import TrajectoryDataset
from lightning_rl.trajectories.files import TrajectoryFiles


def windows_of(lengths: list[int], ends: list[int], window: int) -> Counter[Any]:
    """The model: lists of (episode, step, action, reward, next step, terminated, truncated)."""
    found: Counter[Any] = Counter()
    for number, length in enumerate(lengths):
        steps = [
            (number, t, (number + t + 1) % 2, 100 * number + t + 1, t + 1,
             t == length - 1 and bool(ends[number] & 1), t == length - 1 and bool(ends[number] & 2))
            for t in range(length)
        ]  # fmt: skip
        found.update(tuple(steps[t : t + window]) for t in range(length - window + 1))
    return found


def as_model(item: dict[str, torch.Tensor]) -> Any:
    """Read a window of k steps back as the model has it."""
    columns = (
        *item["observations"].unbind(-1), item["actions"], item["rewards"],
        item["next_observations"][:, 1], item["terminated"], item["truncated"],
    )  # fmt: skip
    assert torch.equal(item["observations"][:, 0], item["next_observations"][:, 0])
    return tuple(zip(*(column.tolist() for column in columns), strict=True))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(0, 3)), min_size=1, max_size=12),
    st.integers(2, 8),
)
def test_each_window_within_an_episode_is_there_once(
    tmp_path_factory: pytest.TempPathFactory, episodes: list[tuple[int, int]], window: int
) -> None:
    lengths, ends = [list(column) for column in zip(*episodes, strict=True)]
    directory = tmp_path_factory.mktemp("dataset")
    write_episodes(directory, lengths, ends)
    if window > max(lengths):
        with pytest.raises(ConfigError, match=f"window={window}"):
            TrajectoryDataset(directory, window)
        return
    dataset = TrajectoryDataset(directory, window)
    expected = windows_of(lengths, ends, window)
    assert len(dataset) == expected.total()
    assert Counter(as_model(dataset[i]) for i in range(len(dataset))) == expected
    loader = DataLoader(dataset, batch_size=5, shuffle=True)
    rows = [{k: v[i] for k, v in b.items()} for b in loader for i in range(len(b["rewards"]))]
    assert Counter(map(as_model, rows)) == expected


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=2, max_size=20),
    st.floats(0.01, 0.99),
    st.integers(0, 2**31),
)
def test_a_split_gives_every_episode_to_one_part(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], fraction: float, seed: int
) -> None:
    directory = tmp_path_factory.mktemp("dataset")
    write_episodes(directory, lengths)
    dataset = TrajectoryDataset(directory)
    parts, again = dataset.split(fraction, seed), dataset.split(fraction, seed)
    found = []
    for part, same in zip(parts, again, strict=True):
        np.testing.assert_array_equal(part.episodes, same.episodes)
        assert part.num_steps == len(part) == sum(lengths[e] for e in part.episodes)
        seen = {int(part[i]["observations"][0]) for i in range(len(part))}
        assert seen == set(part.episodes.tolist())
        found += part.episodes.tolist()
    assert sorted(found) == list(range(len(lengths)))
    assert 1 <= parts[0].num_episodes < len(lengths)


def test_a_split_of_ten_episodes_gives_nine_and_one(tmp_path: Path) -> None:
    write_episodes(tmp_path, [3] * 10)
    most, rest = TrajectoryDataset(tmp_path, window=2).split(0.9)
    assert (most.num_episodes, rest.num_episodes, len(most), len(rest)) == (9, 1, 18, 2)
    assert most.episodes.tolist() != TrajectoryDataset(tmp_path).split(0.9, 1)[0].episodes.tolist()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_a_split_into_nothing_is_refused(tmp_path: Path, fraction: float) -> None:
    write_episodes(tmp_path, [3, 3])
    with pytest.raises(ConfigError, match="fraction"):
        TrajectoryDataset(tmp_path).split(fraction)


def test_one_episode_can_not_be_split(tmp_path: Path) -> None:
    write_episodes(tmp_path, [3])
    with pytest.raises(ConfigError, match="2 episodes"):
        TrajectoryDataset(tmp_path).split()


@pytest.mark.parametrize("window", [0, -1, 4])
def test_a_window_that_fits_no_episode_is_refused(tmp_path: Path, window: int) -> None:
    write_episodes(tmp_path, [3, 2])
    with pytest.raises(ConfigError, match="1 to 3"):
        TrajectoryDataset(tmp_path, window)
    with pytest.raises(ConfigError, match="1 to 3"):
        TrajectoryDataset(tmp_path).with_window(window)


# ---- fetching ------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 5])
def test_a_batch_is_the_stack_of_its_items(dataset: TrajectoryDataset, window: int) -> None:
    dataset = dataset.with_window(window)
    indices = [len(dataset) - 1, 0, -1, 0]
    batch, items = dataset[indices], default_collate([dataset[i] for i in indices])
    assert list(batch) == list(items) == KEYS
    for name in KEYS:
        torch.testing.assert_close(batch[name], items[name], rtol=0, atol=0)
    fetched = default_collate(dataset.__getitems__(indices))
    assert type(fetched) is dict
    assert all(torch.equal(fetched[name], batch[name]) for name in KEYS)


def test_a_batch_owns_its_memory(dataset: TrajectoryDataset) -> None:
    for view in (dataset, dataset.with_window(3)):
        before = view[[0]]
        changed = view[[0]]
        changed["observations"] += 7
        changed["rewards"] += 7
        torch.testing.assert_close(changed["next_observations"], before["next_observations"])
        torch.testing.assert_close(view[[0]]["rewards"], before["rewards"])


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on one core
@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_and_subsets_fetch_batches(dataset: TrajectoryDataset, workers: int) -> None:
    half = Subset(dataset, range(0, len(dataset), 2))
    loader = DataLoader(half, batch_size=3, num_workers=workers)
    rewards = torch.cat([batch["rewards"] for batch in loader])
    assert torch.equal(rewards, dataset[range(0, len(dataset), 2)]["rewards"])


def test_a_loader_reads_each_array_once_a_batch(
    dataset: TrajectoryDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[tuple[str, int]] = []
    read = TrajectoryFiles.read

    def count(files: TrajectoryFiles, name: str, starts: Any, length: int) -> Any:
        reads.append((name, len(starts)))
        return read(files, name, starts, length)

    monkeypatch.setattr(TrajectoryFiles, "read", count)
    assert len(list(DataLoader(dataset, batch_size=7, shuffle=True))) == 2
    assert reads == [("observations", 7), ("actions", 7), ("rewards", 7)] * 2


class RewardModel(lightning.LightningModule):
    """Predicts the reward from the observation."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(2, 1)
        self.seen = 0

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        self.seen += len(batch["rewards"])
        return (self.linear(batch["observations"])[:, 0] - batch["rewards"]).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters())


@pytest.mark.filterwarnings(
    "ignore:.*does not have many workers", "ignore:.isinstance.treespec:FutureWarning"
)
def test_the_plain_trainer_trains_on_it(dataset: TrajectoryDataset, tmp_path: Path) -> None:
    model = RewardModel()
    trainer = lightning.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(model, DataLoader(dataset, batch_size=7, shuffle=True))
    assert model.seen == 3 * len(dataset)


def test_added_datasets_are_read_one_after_the_other(dataset: TrajectoryDataset) -> None:
    both = dataset + dataset
    batches = list(DataLoader(both, batch_size=len(dataset)))
    assert len(both) == 2 * len(dataset)
    assert all(torch.equal(batches[0][name], batches[1][name]) for name in KEYS)


def test_a_collate_fn_may_collate_first(dataset: TrajectoryDataset) -> None:
    loader = DataLoader(dataset, batch_size=4, collate_fn=lambda items: default_collate(items))
    assert next(iter(loader))["rewards"].shape == (4,)
    by_item = DataLoader(dataset, collate_fn=lambda items: [item["rewards"] for item in items])
    with pytest.raises(StateError, match="default_collate"):
        next(iter(by_item))


@pytest.mark.parametrize("index", [14, -15, [0, 14]])
def test_an_index_out_of_range_is_refused(dataset: TrajectoryDataset, index: Any) -> None:
    with pytest.raises(IndexError, match="14 windows"):
        dataset[index]


@pytest.mark.parametrize("index", ["0", 1.0, slice(2), [[0]], None])
def test_an_index_of_another_kind_is_refused(dataset: TrajectoryDataset, index: Any) -> None:
    with pytest.raises(TypeError, match="an integer or a list"):
        dataset[index]


def test_arrays_too_large_to_be_mapped_are_read_alike(
    dataset: TrajectoryDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "MAPPED_BYTES", 0)
    read = TrajectoryDataset(dataset.directory, window=3)
    mapped = dataset.with_window(3)
    assert all(torch.equal(read[[5, 0]][name], mapped[[5, 0]][name]) for name in KEYS)


def test_a_dataset_goes_to_another_process_as_its_directory(dataset: TrajectoryDataset) -> None:
    part = dataset.split(0.5)[1].with_window(2)
    twins = pickle.loads(pickle.dumps(part)), copy.deepcopy(part)  # noqa: S301, as workers do
    for twin in twins:
        assert len(twin) == len(part)
        assert torch.equal(twin[[0, -1]]["observations"], part[[0, -1]]["observations"])


def test_episodes_and_their_starts_are_given(dataset: TrajectoryDataset) -> None:
    assert dataset.episode_lengths.tolist() == [4, 1, 6, 3]
    assert (dataset.num_episodes, dataset.num_steps) == (4, 14)
    assert dataset.start_observations.tolist() == [[0, 0], [1, 0], [2, 0], [3, 0]]
    last = dataset.episode(3)
    assert last["observations"].tolist() == [[3, 0], [3, 1], [3, 2]]
    assert last["next_observations"][-1].tolist() == [3, 3]
    assert last["terminated"].tolist() == last["truncated"].tolist() == [False, False, True]
    assert not dataset.episode(2)["terminated"].any()
