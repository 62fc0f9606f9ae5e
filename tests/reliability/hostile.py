"""Hostile files, and what happens when they are opened: `python -m tests.reliability.hostile DIR`.

Each sample makes files in a folder of its own, as a stranger would hand them in, and gives what a
user does with them. An audit hook notes what Python does meanwhile that no data file may cause.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import sys
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from lightning_rl import AgentTrainer, DQNAgent, DQNConfig, PPOAgent, TrajectoryDataset, evaluate
from lightning_rl.__main__ import main as command_line
from lightning_rl.buffers.replay import ReplayBuffer
from lightning_rl.classroom.notebooks import Source, read_submission
from lightning_rl.errors import LightningRLError
from lightning_rl.locks import LOCK
from lightning_rl.trajectories.manifest import MANIFEST
from lightning_rl.trajectories.writer import TrajectoryWriter
from tests.reliability.watch import Watch
from tests.small_runs import SMALL, make_trainer
from tests.trajectories.stored import rewrite

BOX, TWO = spaces.Box(-1, 1, (2,)), spaces.Discrete(2)
Attempt = Callable[[], Any]
Sample = Callable[[Path], Attempt]


class Trap:
    """Runs a command where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.system, (f"touch {self.folder.parent / 'sprung'}",)


# ---- checkpoints ---------------------------------------------------------------------------------

GOOD: dict[str, dict[str, Any]] = {}  # the content of an undamaged checkpoint of each agent


def make_good(folder: Path) -> None:
    """Train an agent of each kind for a moment."""
    small = DQNConfig(rollout_steps=32, gradient_steps=1, batch_size=32, buffer_capacity=500,
                      learning_starts=64)  # fmt: skip
    for agent in (PPOAgent(config=SMALL), DQNAgent(config=small)):
        trainer = make_trainer(iterations=2)
        trainer.fit(agent, "CartPole-v1")
        trainer.save_checkpoint(folder / "good.ckpt", weights_only=False)
        GOOD[type(agent).__name__] = torch.load(folder / "good.ckpt", weights_only=True)


def changed(folder: Path, change: Callable[[dict[str, Any]], Any], kind: Any = PPOAgent) -> Path:
    """Save a good checkpoint with a change."""
    torch.save(GOOD[kind.__name__], folder / "a.ckpt")
    content = torch.load(folder / "a.ckpt", weights_only=True)
    change(content)
    torch.save(content, folder / "a.ckpt")
    return folder / "a.ckpt"


def loading(path: Path, kind: Any = PPOAgent) -> Attempt:
    return lambda: kind.load_from_checkpoint(path)


def going_on(path: Path, kind: Any = PPOAgent) -> Attempt:
    """Resume a run in the file's own folder, evaluate, and save."""

    def go_on() -> None:
        agent = kind(config=SMALL)
        trainer = AgentTrainer(
            max_env_steps=512, num_envs=1, logger=False, default_root_dir=path.parent, live=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(agent, "CartPole-v1", ckpt_path=path)
        evaluate(agent, "CartPole-v1", episodes=1)

    return go_on


def pickled_checkpoint(folder: Path) -> Attempt:
    (folder / "a.ckpt").write_bytes(pickle.dumps({"state_dict": Trap(folder)}))
    return loading(folder / "a.ckpt")


def checkpoint_with_an_object(folder: Path) -> Attempt:
    return loading(changed(folder, lambda c: c.update(odd=Trap(folder))))


def checkpoint_with_an_object_resumed(folder: Path) -> Attempt:
    return going_on(changed(folder, lambda c: c["lightning_rl"].update(extra=Trap(folder))))


def checkpoint_naming_what_makes_it(folder: Path) -> Attempt:
    names = {"_instantiator": "evil.run", "_class_path": "evil.Run", "class_path": "evil.Run"}
    return loading(changed(folder, lambda c: c["hyper_parameters"].update(names)))


def checkpoint_naming_a_network(folder: Path) -> Attempt:
    """As Lightning's command line would save it, which imports it to make it again."""
    maker = {"_instantiator": "lightning.pytorch.cli.instantiate_module"}
    network = {"network": {"class_path": "evil.Net", "init_args": {}}}
    return loading(changed(folder, lambda c: c["hyper_parameters"].update(maker | network)))


def checkpoint_naming_an_environment(folder: Path) -> Attempt:
    def change(content: dict[str, Any]) -> None:
        for part in content["lightning_rl"]["env"]:
            part["values"]["spec"] = part["constants"]["spec"] = ("scalar", "evil:X-v0")

    return going_on(changed(folder, change))


def checkpoint_naming_other_folders(folder: Path) -> Attempt:
    victim = str(folder.parent / "victim")

    def change(content: dict[str, Any]) -> None:
        state = {"best_model_path": f"local://{victim}", "last_model_path": victim,
                 "dirpath": victim, "best_k_models": {victim: torch.tensor(0.0)}}  # fmt: skip
        names = [name for name in content["callbacks"] if "Checkpoint" in name]
        name = "ModelCheckpoint{'monitor': None, 'mode': 'min', 'every_n_train_steps': 0}"
        content["callbacks"] |= dict.fromkeys([*names, name], state)

    return going_on(changed(folder, change))


def checkpoint_naming_a_buffers_folder(folder: Path) -> Attempt:
    victim = str(folder.parent / "elsewhere")

    def change(content: dict[str, Any]) -> None:
        content["hyper_parameters"]["config"]["buffer_directory"] = victim

    def go_on() -> None:
        agent = DQNAgent.load_from_checkpoint(path)
        make_trainer(iterations=1).fit(agent, "CartPole-v1")

    path = changed(folder, change, DQNAgent)
    return go_on


def checkpoint_of_nothing_repeated(folder: Path) -> Attempt:
    """A tensor of 4 GB, of which the file holds one number."""
    huge = torch.zeros(1).expand(10**9)
    return loading(changed(folder, lambda c: c["lightning_rl"].update(extra=("tensor", huge))))


def checkpoint_with_a_huge_space(folder: Path) -> Attempt:
    box = {"type": "Box", "dtype": "float32", "shape": [2**24], "low": -1.0, "high": 1.0}
    space = {"type": "Dict", "spaces": {f"{i}": box for i in range(8)}}
    return loading(changed(folder, lambda c: c["lightning_rl"].update(observation_space=space)))


def repacked(folder: Path, kind: int, added: dict[str, bytes]) -> Path:
    path, new = changed(folder, lambda _: None), folder / "new.ckpt"
    with zipfile.ZipFile(path) as good, zipfile.ZipFile(new, "w", kind) as packed:
        for part in good.infolist():
            packed.writestr(part.filename, good.read(part))
        for name, content in added.items():
            packed.writestr(name, content)
    return new


def zip_bomb(folder: Path) -> Attempt:
    return loading(repacked(folder, zipfile.ZIP_DEFLATED, {"a/data/99": bytes(2**28)}))


def zip_slip(folder: Path) -> Attempt:
    added = {"../../victim/thesis.txt": b"x", str(folder.parent / "victim" / "thesis.txt"): b"x"}
    return loading(repacked(folder, zipfile.ZIP_STORED, added))


# ---- trajectories --------------------------------------------------------------------------------


def stored(folder: Path, append: bool = False) -> None:
    writer = TrajectoryWriter(folder / "data", BOX, TWO, append=append)
    for length in (3, 5):
        rows = np.zeros((length + 1, 2))
        writer.add(rows, np.zeros(length), rows[1:, 0], terminated=True, truncated=False)
    writer.flush()
    writer.close()


def reading(folder: Path) -> Attempt:
    def read() -> None:
        dataset = TrajectoryDataset(folder / "data")
        dataset[list(range(len(dataset)))]

    return read


def appending(folder: Path) -> Attempt:
    return lambda: stored(folder, append=True)


def linked(folder: Path, name: str, link: Callable[[Path, Path], None]) -> None:
    """Put a link to a file elsewhere in a file's place."""
    victim, file = folder.parent / "victim" / "thesis.txt", folder / "data" / name
    file.unlink(missing_ok=True)
    link(victim, file)


def trajectories_of_objects(folder: Path) -> Attempt:
    stored(folder)
    np.save(folder / "data" / "rewards.npy", np.array([Trap(folder)] * 8), allow_pickle=True)
    return reading(folder)


def trajectories_that_link(folder: Path) -> Attempt:
    stored(folder)
    linked(folder, "rewards.npy", os.symlink)
    return appending(folder)


def trajectories_that_share_a_file(folder: Path) -> Attempt:
    stored(folder)
    victim = folder.parent / "victim" / "thesis.txt"
    victim.write_bytes((folder / "data" / "rewards.npy").read_bytes())
    linked(folder, "rewards.npy", os.link)
    return appending(folder)


def trajectories_whose_manifest_links(folder: Path) -> Attempt:
    stored(folder)
    linked(folder, f"{MANIFEST}.new", os.symlink)
    return appending(folder)


def trajectories_whose_lock_is_shared(folder: Path) -> Attempt:
    stored(folder)
    linked(folder, LOCK, os.link)
    return appending(folder)


def trajectories_whose_lock_links(folder: Path) -> Attempt:
    stored(folder)
    linked(folder, LOCK, os.symlink)
    return appending(folder)


def trajectories_naming_other_files(folder: Path) -> Attempt:
    stored(folder)
    names = {"../../victim/thesis.txt": "0", "/etc/passwd": "0"}
    rewrite(folder / "data", lambda c: c["chunks"][0]["sha256"].update(names))
    return appending(folder)


def trajectories_naming_an_environment(folder: Path) -> Attempt:
    stored(folder)
    rewrite(folder / "data", lambda c: c.update(env_id="evil:X-v0"))
    return reading(folder)


def trajectories_of_a_huge_space(folder: Path) -> Attempt:
    stored(folder)
    box = {"type": "Box", "dtype": "float32", "shape": [2**24], "low": -1.0, "high": 1.0}
    space = {"type": "Dict", "spaces": {f"{i}": box for i in range(8)}}
    rewrite(folder / "data", lambda c: c.update(observation_space=space))
    return reading(folder)


def trajectories_with_holes(folder: Path) -> Attempt:
    """Files of 4 GB that take no room on the disk."""
    stored(folder)
    many = {"num_steps": 2**27, "num_episodes": 2**27}
    rewrite(folder / "data", lambda c: (c.update(many), c["chunks"][0].update(many)))
    for file in (folder / "data").glob("*.npy"):
        os.truncate(file, 2**32)
    return reading(folder)


def trajectories_that_wait(folder: Path) -> Attempt:
    stored(folder)
    (folder / "data" / MANIFEST).unlink()
    os.mkfifo(folder / "data" / MANIFEST)
    return reading(folder)


# ---- replay folders ------------------------------------------------------------------------------


def replayed(folder: Path) -> Path:
    opening(folder)()
    return folder / "data"


def opening(folder: Path) -> Attempt:
    return lambda: ReplayBuffer(50, 1, BOX, TWO, directory=folder / "data").close()


def replay_that_links(folder: Path) -> Attempt:
    replayed(folder)
    linked(folder, "0.npy", os.symlink)
    return opening(folder)


def replay_whose_manifest_links(folder: Path) -> Attempt:
    replayed(folder)
    linked(folder, "replay.json.new", os.symlink)

    def fill() -> None:
        buffer = ReplayBuffer(50, 1, BOX, TWO, directory=folder / "data")
        buffer.start(np.zeros((1, 2), np.float32))
        buffer.close()

    return fill


def replay_that_waits(folder: Path) -> Attempt:
    (replayed(folder) / "replay.json").unlink()
    os.mkfifo(folder / "data" / "replay.json")
    return opening(folder)


def replay_nested_deep(folder: Path) -> Attempt:
    (replayed(folder) / "replay.json").write_text('{"a":' * 100_000)
    return opening(folder)


# ---- settings, notebooks -------------------------------------------------------------------------


def settings(text: str, option: str = "--settings") -> Sample:
    def sample(folder: Path) -> Attempt:
        (folder / "student.yaml").write_text(text)
        (folder / "student.py").write_text((folder.parent / "evil.py").read_text())
        options = [option, "student.yaml", "--max_env_steps", "1"]
        return lambda: command_line(["ppo", *options, "--output_dir", str(folder)])

    return sample


def notebook_with_evil_metadata(folder: Path) -> Attempt:
    kernel = {"name": "../evil", "argv": ["touch", str(folder.parent / "sprung")], "env": {}}
    cell = {"cell_type": "code", "outputs": [], "execution_count": None, "id": "../../victim",
            "source": "import evil",
            "metadata": {"nbgrader": {"solution": True, "grade_id": "evil:x"}}}  # fmt: skip
    metadata = {"kernelspec": kernel, "language_info": {"name": "evil"}, "lightning_rl": {}}
    content = {"cells": [cell], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    (folder / "a.ipynb").write_text(json.dumps(content))
    return lambda: read_submission(folder / "a.ipynb", Source("a", "0", []))


SAMPLES: dict[str, Sample] = {
    sample.__name__: sample
    for sample in (
        pickled_checkpoint, checkpoint_with_an_object, checkpoint_with_an_object_resumed,
        checkpoint_naming_what_makes_it, checkpoint_naming_a_network,
        checkpoint_naming_an_environment, checkpoint_naming_other_folders,
        checkpoint_naming_a_buffers_folder,
        checkpoint_of_nothing_repeated, checkpoint_with_a_huge_space, zip_bomb, zip_slip,
        trajectories_of_objects, trajectories_that_link, trajectories_that_share_a_file,
        trajectories_whose_manifest_links, trajectories_whose_lock_is_shared,
        trajectories_whose_lock_links, trajectories_naming_other_files,
        trajectories_naming_an_environment, trajectories_of_a_huge_space, trajectories_with_holes,
        trajectories_that_wait, replay_that_links, replay_whose_manifest_links, replay_that_waits,
        replay_nested_deep, notebook_with_evil_metadata,
    )
}  # fmt: skip
SAMPLES |= {
    "settings_of_a_class": settings("class_path: evil.Run"),
    "settings_of_a_python_object": settings("!!python/object/apply:os.system ['touch ../sprung']"),
    "settings_of_a_modules_environment": settings('env: "evil:X-v0"', "--config"),
    "settings_named_as_a_module": settings("gamma: nonsense"),
}


# ---- trying ------------------------------------------------------------------------------------


def tried(watch: Watch, attempt: Attempt, folder: Path) -> dict[str, Any]:
    """Try one sample; tell how it ended, how long it took, and what was seen."""
    watch.seen, watch.folder = [], folder
    begun, peak = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    os.chdir(folder)
    try:
        attempt()
        ended = "opened"
    except LightningRLError as error:
        ended = f"{type(error).__name__}: {error}"
    except SystemExit:  # of the command line, which has said why
        ended = "refused by the command line"
    except BaseException as error:
        ended = f"untyped {type(error).__name__}: {error}"
    finally:
        watch.folder = None
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) / 1024
    seconds = time.monotonic() - begun
    return {"ended": ended, "seconds": seconds, "megabytes": grown, "seen": watch.seen}


def try_all(root: Path) -> dict[str, dict[str, Any]]:
    """Try every sample in this process."""
    warnings.simplefilter("ignore")
    (root / "evil.py").write_text(f"open({str(root / 'sprung')!r}, 'w').close()\n")
    sys.path.insert(0, "")  # as `python -m` has it: the folder that the user is in
    sys.path.insert(1, str(root))
    make_good(root)
    going_on(changed(root, lambda _: None))()  # what is imported late, is now
    watch, results = Watch(), {}
    sys.addaudithook(watch)
    victim = root / "victim" / "thesis.txt"
    victim.parent.mkdir()
    for name, sample in SAMPLES.items():
        victim.write_text("years of work")
        folder = root / name
        folder.mkdir()
        attempt = sample(folder)
        before = victim.read_bytes()
        results[name] = tried(watch, attempt, folder)
        if not victim.exists() or victim.read_bytes() != before:
            results[name]["seen"].append("the victim was changed")
            victim.parent.mkdir(exist_ok=True)
        if (root / "sprung").exists():
            results[name]["seen"].append("its code ran")
            (root / "sprung").unlink()
    return results


if __name__ == "__main__":
    root = Path(sys.argv[1]).resolve()
    (root / "results.json").write_text(json.dumps(try_all(root)))
