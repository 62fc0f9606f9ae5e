"""A notebook's interrupt ends a run well, and its notices stay out of sight."""

from __future__ import annotations

import signal
from typing import Any

import pytest
from lightning.pytorch.demos.boring_classes import BoringModel
from small_runs import SMALL, AtIteration, fit, make_trainer

from lightning_rl import PPOAgent
from lightning_rl.callbacks.controls import Controls
from lightning_rl.notebook.kernel import graceful_interrupt

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # Lightning's


# ---- the interrupt ---------------------------------------------------------------------------


def test_an_interrupt_ends_the_training_well(notebook: list[Any]) -> None:
    before = signal.getsignal(signal.SIGINT)
    interrupt = AtIteration(3, lambda agent: signal.raise_signal(signal.SIGINT))
    trainer = fit(PPOAgent(config=SMALL), interrupt)
    assert interrupt.begun == 3
    assert trainer.state.finished
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_ends_the_training_of_any_module_well(notebook: list[Any]) -> None:
    interrupt = AtIteration(3, lambda module: signal.raise_signal(signal.SIGINT))
    trainer = make_trainer(interrupt)
    trainer.fit(BoringModel())
    assert interrupt.begun == 3
    assert trainer.state.finished


def test_an_interrupt_of_a_test_raises_as_in_any_cell(notebook: list[Any]) -> None:
    class Interrupted(BoringModel):
        def on_test_start(self) -> None:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):  # Lightning's SystemExit speaks of leaving the kernel
        make_trainer().test(Interrupted())


def test_an_interrupt_ends_a_pause(notebook: list[Any]) -> None:
    controls = Controls()

    def press(agent: Any) -> None:
        controls.widgets["pause"].value = True
        signal.raise_signal(signal.SIGINT)

    count = AtIteration(2, press)
    fit(PPOAgent(config=SMALL), controls, count)
    assert count.begun == 2


def test_the_second_interrupt_raises(notebook: list[Any]) -> None:
    before = signal.getsignal(signal.SIGINT)

    def twice(agent: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit(PPOAgent(config=SMALL), AtIteration(3, twice))
    assert signal.getsignal(signal.SIGINT) is before


def test_in_a_script_the_interrupt_is_left_to_lightning() -> None:
    before = signal.getsignal(signal.SIGINT)
    with graceful_interrupt(make_trainer()):
        assert signal.getsignal(signal.SIGINT) is before


def test_other_exits_pass_through(notebook: list[Any]) -> None:
    with pytest.raises(SystemExit, match="3"), graceful_interrupt(make_trainer()):
        raise SystemExit(3)
