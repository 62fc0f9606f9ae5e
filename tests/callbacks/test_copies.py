"""Promises about training in copies of a notebook's process: what reaches the notebook."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import nbformat
import pytest
from lightning.pytorch.callbacks import ProgressBar
from nbclient import NotebookClient

from lightning_rl import AgentTrainer, PPOAgent
from lightning_rl.callbacks.copies import Listener, copies_process, without_table
from lightning_rl.callbacks.in_notebook import live_in_notebook
from lightning_rl.notebook import kernel

CELLS = (
    "from lightning_rl import AgentTrainer, PPOAgent, PPOConfig",
    """
agent = PPOAgent(config=PPOConfig(rollout_steps=256, batch_size=128, update_epochs=1))
trainer = AgentTrainer(
    max_env_steps=4_000, seed=0, logger=False, enable_checkpointing=False, accelerator="cpu",
    strategy="ddp_notebook", devices=2, evaluate_every_env_steps=1_000, evaluation_episodes=4,
)
trainer.fit(agent, "CartPole-v1")
""",
    "print(agent.env_steps >= 4_000, int(sum(agent.episodes['episode_length'])) > 2_000)",
    "print(sorted(trainer.test(agent, 'CartPole-v1')[0]))",
)


class Drawn:
    """Stands for LiveReturns, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_train_start(self, trainer: Any, agent: Any) -> None:
        self.told.append("start")

    def on_train_batch_end(self, trainer: Any, agent: Any) -> None:
        self.told.append((agent.env_steps, len(agent.episodes)))

    def note_evaluation(self, env_steps: int, value: float) -> None:
        self.told.append((env_steps, value))

    def on_train_end(self, trainer: Any, agent: Any) -> None:
        self.told.append("end")


def test_what_a_copy_tells_is_counted_and_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    original, copied, drawn = PPOAgent(), PPOAgent(), Drawn()
    original.episodes.append(5, 1.0, 5)
    copied.episodes.append(5, 1.0, 5)
    trainer: Any = SimpleNamespace(
        is_global_zero=True, callback_metrics={"val_episode_return": 7.0}
    )
    listener = Listener(trainer, original, drawn)
    told = listener.told
    told.on_train_batch_end(trainer, copied)  # it is no copy, so nothing is told
    monkeypatch.setattr(os, "getpid", lambda: -1)
    told.on_train_start(trainer, copied)
    copied.env_steps = 20
    copied.episodes.append(12, 2.0, 7)
    told.on_train_batch_end(trainer, copied)
    told.on_validation_end(trainer, copied)
    trainer.is_global_zero = False  # the other copies say nothing
    told.on_train_batch_end(trainer, copied)
    listener.close()
    assert drawn.told == ["start", (0, 1), (20, 2), (20, 7.0), (20, 2), "end"]
    assert original.env_steps == 20
    assert original.episodes["episode_return"].tolist() == [1.0, 2.0]


@pytest.mark.usefixtures("notebook")
def test_copies_have_neither_bars_nor_buttons(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = AgentTrainer(logger=False, enable_checkpointing=False)
    assert not copies_process(trainer)
    assert without_table(trainer, (), {}) == {}
    before = list(trainer.callbacks)
    assert any(isinstance(callback, ProgressBar) for callback in before)
    monkeypatch.setattr("lightning_rl.callbacks.copies.copies_process", lambda _: True)
    monkeypatch.setattr("lightning_rl.callbacks.in_notebook.copies_process", lambda _: True)
    with live_in_notebook(trainer, PPOAgent()):
        names = [type(callback).__name__ for callback in trainer.callbacks]
    assert names == [n for n in names if "Bar" not in n and n not in ("Controls", "LastLine")]
    assert "Told" in names
    assert trainer.callbacks == before
    assert without_table(trainer, (), {}) == {"verbose": False}
    assert without_table(trainer, (), {"verbose": True}) == {"verbose": True}


@pytest.mark.usefixtures("notebook")
def test_a_copy_of_a_kernel_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel.in_notebook()
    monkeypatch.setattr(os, "getpid", lambda: -1)
    assert not kernel.in_notebook()


@pytest.mark.slow
def test_two_copies_train_what_the_notebook_draws(capfd: pytest.CaptureFixture[str]) -> None:
    notebook = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, CELLS)))
    client = NotebookClient(notebook, timeout=200, kernel_name="python3")
    client.create_kernel_manager().kernel_spec.argv[0] = sys.executable
    client.execute()
    outputs = [output for cell in notebook.cells for output in cell.outputs]
    streams = [output for output in outputs if output.output_type == "stream"]
    said = "".join(output.text for output in streams).splitlines()  # which comes in pieces
    assert "True True" in said
    assert "['step', 'test_episode_length', 'test_episode_return']" in said
    assert {output.name for output in streams} == {"stdout"}
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 1
    assert len(pictures[0].data["image/png"]) > 10_000  # its axes alone take less
    assert "from fork" not in capfd.readouterr().err  # the terminal
