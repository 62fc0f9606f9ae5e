"""A checkpoint is written whole or not at all, and read only if it is undamaged and harmless."""

from __future__ import annotations

import os
import random
import resource
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from torch.utils.data import DataLoader, TensorDataset

from lightning_rl import AgentTrainer, EnvDataLoader, PPOAgent
from lightning_rl.checkpoints.safe_file import SafeCheckpointIO, plain_numbers
from lightning_rl.errors import CheckpointError
from tests.small_runs import SMALL

pytestmark = [  # Lightning's, under its own trainer
    pytest.mark.filterwarnings("ignore:You defined a `validation_step`"),
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),
]

QUIET: dict[str, Any] = {
    "logger": False, "enable_progress_bar": False, "enable_model_summary": False,
    "accelerator": "cpu", "enable_checkpointing": False, "limit_val_batches": 0,
}  # fmt: skip
NUMBERS = torch.arange(5000.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A good checkpoint, alone in its folder."""
    SafeCheckpointIO().save_checkpoint({"numbers": NUMBERS, "step": 3}, tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def load(path: Any) -> dict[str, Any]:
    return SafeCheckpointIO().load_checkpoint(path)


class Mark:
    """What runs code when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.file),)


# ---- writing ---------------------------------------------------------------------------------


def test_a_checkpoint_comes_back_and_leaves_nothing_beside_it(path: Path) -> None:
    assert torch.equal(load(path)["numbers"], NUMBERS)
    assert [file.name for file in path.parent.iterdir()] == ["a.ckpt"]


def test_what_cannot_be_loaded_again_is_refused_by_name_and_the_old_file_stays(path: Path) -> None:
    before = path.read_bytes()
    parts: tuple[Any, ...] = (np.zeros(3), lambda: 0, Mark(path.parent / "made"), object())
    for part in parts:
        checkpoint = {"hyper_parameters": {"fine": 1, "odd": [2, part]}}
        with pytest.raises(CheckpointError, match=r"\['hyper_parameters'\]\['odd'\]\[1\], a "):
            SafeCheckpointIO().save_checkpoint(checkpoint, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["a.ckpt"]


def test_numpys_numbers_and_paths_become_plain_ones(tmp_path: Path) -> None:
    given = {"lr": np.float64(1e-3), "n": [np.int64(3)], "flag": (np.bool_(True),), "f": tmp_path}
    SafeCheckpointIO().save_checkpoint(given, tmp_path / "a.ckpt")
    assert load(tmp_path / "a.ckpt") == {
        "lr": 1e-3, "n": [3], "flag": (True,), "f": str(tmp_path)
    }  # fmt: skip
    assert type(given["lr"]) is np.float64  # the caller's own are left alone
    assert type(plain_numbers(OrderedDict(a=1))) is OrderedDict


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_in_mid_file_leaves_the_old_one(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    before = path.read_bytes()

    def fail(checkpoint: Any, file: Any) -> None:
        file.write(b"half a checkpoint")
        raise error

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises((CheckpointError, KeyboardInterrupt)):
        SafeCheckpointIO().save_checkpoint({"step": 4}, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["a.ckpt"]


@pytest.fixture
def small_disk() -> Iterator[None]:
    """A limit of 100 kB a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("small_disk")
def test_a_file_too_large_for_the_disk_is_a_checkpoint_error(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="could not be written"):
        SafeCheckpointIO().save_checkpoint({"numbers": torch.zeros(10**6)}, path)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["a.ckpt"]


def test_a_folder_that_cannot_be_made_is_a_checkpoint_error(path: Path) -> None:
    with pytest.raises(CheckpointError, match="could not be written"):
        SafeCheckpointIO().save_checkpoint({"step": 4}, path / "below a file" / "b.ckpt")


KILLED = """
import sys, torch
from lightning_rl.checkpoints.safe_file import SafeCheckpointIO
print("ready", flush=True)
for step in range(10**6):
    SafeCheckpointIO().save_checkpoint({"numbers": torch.full((10**6,), step)}, sys.argv[1])
"""


def test_a_kill_while_saving_leaves_a_whole_file(path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)
        process.kill()
    load(path)
    assert len(list(path.parent.iterdir())) <= 2  # the file, and one that was begun


# ---- reading ---------------------------------------------------------------------------------


def test_every_flipped_bit_is_found_or_harmless(path: Path) -> None:
    good, chance = path.read_bytes(), random.Random(0)  # noqa: S311
    found = 0
    for _ in range(200):
        data = bytearray(good)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        try:
            loaded = load(path)
        except CheckpointError:
            found += 1
        else:  # in the padding between the parts
            assert torch.equal(loaded["numbers"], NUMBERS)
            assert loaded["step"] == 3
    assert found > 150


def test_truncated_files_and_garbage_are_checkpoint_errors(path: Path) -> None:
    good, chance = path.read_bytes(), random.Random(0)  # noqa: S311
    bad = [good[: chance.randrange(len(good))] for _ in range(50)]
    bad += [chance.randbytes(chance.randrange(2000)) for _ in range(50)]
    for data in bad:
        path.write_bytes(data)
        with pytest.raises(CheckpointError, match=r"a\.ckpt' can't be loaded"):
            load(path)


def test_what_is_no_file_is_a_checkpoint_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "missing", "missing/file"):
        with pytest.raises(CheckpointError, match="can't be loaded"):
            load(tmp_path / name)


def test_what_holds_no_dict_is_a_checkpoint_error(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list")
    with pytest.raises(CheckpointError, match="holds a list"):
        load(tmp_path / "list")


@pytest.mark.parametrize("forced", [False, True])
def test_nothing_is_unpickled(path: Path, monkeypatch: pytest.MonkeyPatch, forced: bool) -> None:
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    made = path.parent / "made"
    torch.save({"state_dict": {}, "odd": Mark(made)}, path)
    with pytest.raises(CheckpointError):
        load(path)
    assert not made.exists()


def test_a_packed_archive_is_not_unpacked(path: Path) -> None:
    bomb = path.parent / "bomb"
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for part in good.infolist():
            packed.writestr(part.filename, good.read(part))
    with pytest.raises(CheckpointError, match="is compressed"):
        load(bomb)


def test_a_tensor_that_claims_more_than_the_file_has_is_refused(path: Path) -> None:
    huge = torch.zeros(1).expand(10**12)
    torch.save({"extra": {"history": [huge]}}, path)
    with pytest.raises(CheckpointError, match="larger than the file"):
        load(path)


def test_a_path_may_have_a_protocol(path: Path) -> None:
    assert load(f"file://{path}")["step"] == 3
    assert load(str(path))["step"] == 3


def test_a_remote_file_is_read_as_safely(path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/good.ckpt", path.read_bytes())
    memory.pipe_file("/bad.ckpt", path.read_bytes()[:-1])
    assert load("memory://good.ckpt")["step"] == 3
    with pytest.raises(CheckpointError):
        load("memory://bad.ckpt")
    with pytest.raises(CheckpointError):
        load("memory://missing.ckpt")


def test_a_remote_file_is_written_as_plainly_and_without_the_folders() -> None:
    state = {"best_model_path": "/home/me/run/best.ckpt", "dirpath": "/home/me/run"}
    checkpoint = {"lr": np.float64(0.5), "callbacks": {"ModelCheckpoint": state}}
    SafeCheckpointIO().save_checkpoint(checkpoint, "memory://written.ckpt")
    loaded = load("memory://written.ckpt")
    assert type(loaded["lr"]) is float
    assert "/home/me" not in str(loaded)


# ---- with trainers ---------------------------------------------------------------------------


def fitted(trainer: Any, agent: PPOAgent) -> Any:
    trainer.fit(agent, EnvDataLoader(agent, "CartPole-v1", num_envs=1))
    return trainer


@pytest.mark.parametrize("kind", [AgentTrainer, lightning.Trainer])
def test_agents_use_safe_files_under_any_trainer(kind: Any, tmp_path: Path) -> None:
    trainer = fitted(kind(max_steps=1, **QUIET), PPOAgent(config=SMALL))
    assert isinstance(trainer.strategy.checkpoint_io, SafeCheckpointIO)


def test_a_users_own_files_are_kept() -> None:
    class Own(SafeCheckpointIO):
        pass

    trainer = fitted(AgentTrainer(max_steps=1, plugins=[Own()], **QUIET), PPOAgent(config=SMALL))
    assert type(trainer.strategy.checkpoint_io) is Own


def test_a_plain_module_can_be_given_safe_files(tmp_path: Path) -> None:
    data = DataLoader(TensorDataset(torch.zeros(4, 32)), collate_fn=lambda rows: rows[0][0])
    trainer = lightning.Trainer(max_steps=1, plugins=[SafeCheckpointIO()], **QUIET)
    trainer.fit(BoringModel(), data)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    assert load(tmp_path / "a.ckpt")["global_step"] == 1


def test_what_torch_knows_beside_plain_values_is_saved(tmp_path: Path) -> None:
    given = {"size": torch.Size([2]), "kind": torch.float16, "own": torch.nn.Parameter(NUMBERS)}
    SafeCheckpointIO().save_checkpoint(given, tmp_path / "a.ckpt")
    assert load(tmp_path / "a.ckpt")["size"] == torch.Size([2])


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("how", ["fit", "plain fit", "test", "validate", "predict", "load"])
def test_no_way_to_load_an_agent_unpickles(
    path: Path, how: str, forced: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = path.parent / "made"
    torch.save({"state_dict": {}, "odd": Mark(made)}, path)
    if forced:
        monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    agent, trainer = PPOAgent(config=SMALL), AgentTrainer(max_steps=1, **QUIET)
    loader = EnvDataLoader(agent, "CartPole-v1", num_envs=1)
    ways: dict[str, Any] = {
        "fit": lambda: trainer.fit(agent, "CartPole-v1", ckpt_path=path),
        "plain fit": lambda: lightning.Trainer(max_steps=1, **QUIET).fit(
            agent, loader, ckpt_path=path
        ),
        "test": lambda: trainer.test(agent, "CartPole-v1", path),
        "validate": lambda: trainer.validate(agent, "CartPole-v1", ckpt_path=path),
        "predict": lambda: trainer.predict(agent, "CartPole-v1", None, None, path),
        "load": lambda: PPOAgent.load_from_checkpoint(path),
    }
    with pytest.raises(CheckpointError):
        ways[how]()
    assert not made.exists()
