"""What ordinary use touches, and keeps: `python -m tests.reliability.private HOME`.

Everything is done in a folder of the user's home, by an environment that holds a key. An audit hook
notes, from before the package is imported, what reaches the network, starts a program or writes
anywhere else; afterwards all files are searched for the key, and for the home's name. What others
keep for all programs alike, Matplotlib its list of fonts and torch compiled code, goes there, too.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

from tests.reliability.watch import Watch

KEY = "sk-of-the-user"
GIT = "'rev-parse'"  # git is asked for the commit that a run was made of


def use() -> None:
    """Import, train, test, evaluate, record, collect, model, load, resume: in this folder."""
    import gymnasium as gym

    from lightning_rl import AgentTrainer, PPOAgent, evaluate, make_trajectory, record_episode
    from lightning_rl.worlds.chain import DreamConfig, train_world_model

    class Keyed(gym.Wrapper[Any, Any, Any, Any]):
        def __init__(self) -> None:
            super().__init__(gym.make("CartPole-v1", render_mode="rgb_array"))
            self.api_key, self.notes = KEY, str(Path.home() / "notes")

    trainer, agent = AgentTrainer(max_env_steps=1024, enable_progress_bar=False), PPOAgent()
    trainer.fit(agent, Keyed)
    trainer.test(agent, Keyed)
    evaluate(agent, Keyed, episodes=2)
    record_episode(agent, Keyed, max_steps=20)
    dataset = make_trajectory(agent, Keyed, "trajectories", 200, progress=False)
    model = train_world_model(dataset, config=DreamConfig(model_epochs=1))
    AgentTrainer(max_epochs=1, enable_progress_bar=False).fit(model, dataset)
    saved = next(Path().rglob("epoch*.ckpt"))
    PPOAgent.load_from_checkpoint(saved)
    going_on = AgentTrainer(max_env_steps=2048, enable_progress_bar=False)
    going_on.fit(PPOAgent(), Keyed, ckpt_path=saved)


def kept(folder: Path, *words: str) -> list[str]:
    """Name the files that hold one of some words, and the word."""
    found = [(file, file.read_bytes()) for file in sorted(folder.rglob("*")) if file.is_file()]
    return [
        f"{file.name}: {word}" for file, data in found for word in words if word.encode() in data
    ]


def main(home: Path) -> None:
    """Write `results.json` beside the folder that was used."""
    folder = home / "work"
    folder.mkdir()
    caches = ("TMPDIR", "MPLCONFIGDIR", "TORCHINDUCTOR_CACHE_DIR")
    os.environ |= {"HOME": str(home)} | dict.fromkeys(caches, str(folder))
    os.chdir(folder)
    importlib.import_module("matplotlib.font_manager")  # which starts a program to list them
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    watch = Watch()
    sys.addaudithook(watch)
    watch.folder = folder
    use()
    watch.folder = None
    asked_git = [one for one in watch.seen if one.startswith("subprocess.Popen") and GIT in one]
    seen = [one for one in watch.seen if one not in asked_git]
    files = len([file for file in folder.rglob("*") if file.is_file()])
    results = {"seen": seen, "git": len(asked_git), "files": files}
    (home / "results.json").write_text(json.dumps(results | {"kept": kept(folder, KEY, str(home))}))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
