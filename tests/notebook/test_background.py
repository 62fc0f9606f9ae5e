"""A fit in the background is the fit in the foreground, beside the cells."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from small_runs import ITERATIONS, SMALL, AtIteration, fit, make_trainer
from torch.utils.data import DataLoader

from lightning_rl import AgentTrainer, PPOAgent, evaluate, make_trajectory, record_episode
from lightning_rl.errors import LightningRLError, StateError
from lightning_rl.notebook.background import fit_in_background

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # Lightning's


# ---- in the background -----------------------------------------------------------------------


def test_a_fit_in_the_background_trains_as_one_in_the_foreground() -> None:
    there, here = PPOAgent(config=SMALL), PPOAgent(config=SMALL)
    trainer = make_trainer()
    handle = fit_in_background(trainer, there, "CartPole-v1")
    assert handle.wait()
    assert not handle.running
    assert handle not in trainer.callbacks
    fit(here)
    for a, b in zip(there.parameters(), here.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_fit_in_the_background_can_be_stopped_even_before_it_has_begun() -> None:
    count = AtIteration()
    handle = fit_in_background(make_trainer(count), PPOAgent(config=SMALL), "CartPole-v1")
    handle.stop()
    handle.wait()
    assert count.begun < ITERATIONS


def test_a_stop_after_the_end_stops_no_later_evaluation() -> None:
    agent = PPOAgent(config=SMALL)
    handle = fit_in_background(make_trainer(iterations=1), agent, "CartPole-v1")
    handle.wait()
    handle.stop()
    assert evaluate(agent, "CartPole-v1", episodes=2).lengths.min() > 0


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
def test_a_plain_module_trains_in_the_background_too() -> None:
    class Constant(LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.value = torch.nn.Parameter(torch.zeros(()))

        def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
            return (batch - self.value).square().mean()

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.25)

    module = Constant()
    trainer = AgentTrainer(max_epochs=10, quiet=True)
    handle = fit_in_background(trainer, module, DataLoader(torch.ones(8), 4))
    assert handle.wait()
    assert module.value.item() == pytest.approx(1.0, abs=1e-3)


def test_waiting_is_limited_and_says_whether_the_end_has_come() -> None:
    go_on = threading.Event()
    waits = AtIteration(1, lambda agent: go_on.wait())
    handle = fit_in_background(make_trainer(waits), PPOAgent(config=SMALL), "CartPole-v1")
    assert not handle.wait(timeout=0.01)
    assert handle.running
    go_on.set()
    assert handle.wait()


def test_an_error_in_the_background_is_said_and_raised_by_wait(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(agent: Any) -> None:
        raise LightningRLError("on purpose")

    handle = fit_in_background(
        make_trainer(AtIteration(2, fail)), PPOAgent(config=SMALL), "CartPole-v1"
    )
    with pytest.raises(LightningRLError, match="on purpose"):
        handle.wait()
    assert "LightningRLError: on purpose" in capsys.readouterr().out


# ---- beside it -------------------------------------------------------------------------------


def test_what_would_change_the_training_is_refused_until_it_has_ended(tmp_path: Path) -> None:
    go_on, has_begun = threading.Event(), threading.Event()

    def wait(agent: Any) -> None:
        has_begun.set()
        go_on.wait()

    agent = PPOAgent(config=SMALL)
    trainer = make_trainer(AtIteration(2, wait))
    handle = fit_in_background(trainer, agent, "CartPole-v1")
    has_begun.wait()
    for beside in (
        lambda: fit_in_background(trainer, PPOAgent(config=SMALL), "CartPole-v1"),
        lambda: make_trainer().fit(agent, "CartPole-v1"),
        lambda: make_trainer().test(agent, "CartPole-v1"),
        lambda: evaluate(agent, "CartPole-v1"),
        lambda: record_episode(agent, "CartPole-v1"),
        lambda: make_trajectory(agent, "CartPole-v1", tmp_path / "trajectories"),
    ):
        with pytest.raises(StateError, match="runs in the background"):
            beside()
    assert not (tmp_path / "trajectories").exists()
    go_on.set()
    assert handle.wait()
    fit(alone := PPOAgent(config=SMALL))
    for a, b in zip(agent.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a, b)
    assert len(evaluate(agent, "CartPole-v1", episodes=2).returns) == 2


def test_a_program_that_ends_without_waiting_ends_well() -> None:
    program = (
        "from lightning_rl import AgentTrainer, PPOAgent, fit_in_background\n"
        "quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False)\n"
        "trainer = AgentTrainer(max_env_steps=10_000_000, enable_model_summary=False, **quiet)\n"
        'fit_in_background(trainer, PPOAgent(), "CartPole-v1")\n'
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_handle_says_whether_its_training_runs() -> None:
    go_on = threading.Event()
    waits = AtIteration(1, lambda agent: go_on.wait())
    handle = fit_in_background(make_trainer(waits), PPOAgent(config=SMALL), "CartPole-v1")
    assert repr(handle) == "<BackgroundFit: running>"
    go_on.set()
    handle.wait()
    assert repr(handle) == "<BackgroundFit: ended>"
