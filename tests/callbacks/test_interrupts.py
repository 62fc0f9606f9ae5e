"""An interrupt or SIGTERM ends a run at its iteration boundary, saved."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.envs.classic_control import CartPoleEnv
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.demos.boring_classes import BoringModel
from small_runs import SMALL, AtIteration, fit, make_trainer

from lightning_rl import AgentTrainer, PPOAgent, evaluate
from lightning_rl.callbacks import interrupts as interrupts_module
from lightning_rl.callbacks.controls import Controls
from lightning_rl.callbacks.interrupts import INTERRUPTED, Interrupts, graceful_interrupt

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # Lightning's


@pytest.fixture(autouse=True)
def long_ago(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The last interrupt was long ago, and SIGINT is heard: a shell's background jobs ignore it."""
    monkeypatch.setattr(Interrupts, "last", -math.inf)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def saving_trainer(folder: Path, *callbacks: Any) -> AgentTrainer:
    saves = ModelCheckpoint(folder, save_on_train_epoch_end=False, every_n_epochs=1000)
    return AgentTrainer(
        max_env_steps=1024, num_envs=1, seed=0, callbacks=[*callbacks, saves], live=False,
        logger=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip


# ---- in a notebook ---------------------------------------------------------------------------


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


def test_sigterm_ends_a_training_saved_and_then_the_kernel_as_it_would_have(
    notebook: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised: list[Any] = []
    monkeypatch.setattr(signal, "raise_signal", raised.append)  # which would end this process
    interrupt = AtIteration(3, lambda agent: os.kill(os.getpid(), signal.SIGTERM))
    saving_trainer(tmp_path, interrupt).fit(PPOAgent(config=SMALL), "CartPole-v1")
    assert interrupt.begun == 3
    assert (tmp_path / INTERRUPTED).is_file()
    assert raised == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


# ---- in a script -----------------------------------------------------------------------------


@pytest.mark.parametrize(("by", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_script_saves_at_the_boundary_and_exits_and_the_resume_is_exact(
    by: signal.Signals, code: int, tmp_path: Path
) -> None:
    """The checkpoint callback never saves by itself before the end."""
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    interrupt = AtIteration(3, lambda agent: signal.raise_signal(by))
    agents = [PPOAgent(config=SMALL) for _ in range(3)]
    trainer = saving_trainer(tmp_path, interrupt)
    with pytest.raises(SystemExit) as exit_:
        trainer.fit(agents[0], "CartPole-v1")
    assert exit_.value.code == code
    assert interrupt.begun == 3
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    saving_trainer(tmp_path).fit(agents[1], "CartPole-v1", ckpt_path=tmp_path / INTERRUPTED)
    saving_trainer(tmp_path / "alone").fit(agents[2], "CartPole-v1")
    assert agents[1].env_steps == agents[2].env_steps
    for a, b in zip(agents[1].parameters(), agents[2].parameters(), strict=True):
        assert torch.equal(a, b)


class InterruptedBetween(PPOAgent):
    """Hears of an interrupt when all callbacks have seen the end of iteration 3."""

    def on_train_batch_end(self, *args: Any) -> None:
        super().on_train_batch_end(*args)
        if self.trainer.global_step == 3:
            signal.raise_signal(signal.SIGINT)


class InterruptedBefore(PPOAgent):
    """Hears of an interrupt when all is ready for the first iteration."""

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.env_steps == 0:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("kind", [InterruptedBefore, InterruptedBetween])
def test_an_interrupt_between_iterations_saves_too_and_the_resume_is_exact(
    kind: Any, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="130"):
        saving_trainer(tmp_path).fit(kind(config=SMALL), "CartPole-v1")
    resumed, alone = PPOAgent(config=SMALL), PPOAgent(config=SMALL)
    saving_trainer(tmp_path).fit(resumed, "CartPole-v1", ckpt_path=tmp_path / INTERRUPTED)
    saving_trainer(tmp_path / "alone").fit(alone, "CartPole-v1")
    for a, b in zip(resumed.parameters(), alone.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_second_interrupt_ends_a_script_at_once() -> None:
    def twice(agent: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(SystemExit, match="130"):
        fit(PPOAgent(config=SMALL), AtIteration(3, twice))


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_whatever_follows_sigterm_ends_a_script_at_once_as_sigterm(second: signal.Signals) -> None:
    def twice(agent: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(second)

    interrupt = AtIteration(3, twice)
    with pytest.raises(SystemExit, match="143"):
        fit(PPOAgent(config=SMALL), interrupt)
    assert interrupt.begun == 3


def test_sigterm_ends_a_test_at_the_env_step_it_is_at() -> None:
    class Terminated(CartPoleEnv):
        steps = 0

        def step(self, action: Any) -> Any:
            Terminated.steps += 1
            if Terminated.steps == 3:
                signal.raise_signal(signal.SIGTERM)
            return super().step(action)

    agent, trainer = PPOAgent(config=SMALL), make_trainer(iterations=1, evaluation_episodes=1)
    trainer.fit(agent, "CartPole-v1")
    with pytest.raises(SystemExit, match="143"):
        trainer.test(agent, Terminated)
    assert Terminated.steps == 3
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_an_interrupted_test_exits_and_leaves_the_agent_in_training_mode() -> None:
    class Interrupted(BoringModel):
        def on_test_start(self) -> None:
            signal.raise_signal(signal.SIGINT)

    model = Interrupted()
    with pytest.raises(SystemExit, match="130"):
        make_trainer().test(model)
    assert all(module.training for module in model.modules())


# ---- several trainings, and evaluations ------------------------------------------------------


def test_a_second_interrupt_soon_after_leaves_a_loop_of_trainings(
    notebook: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupts_module, "LEAVE_SECONDS", 600.0)  # a busy machine is slow
    interrupts = [AtIteration(2, lambda agent: signal.raise_signal(signal.SIGINT)) for _ in "ab"]
    fit(PPOAgent(config=SMALL), interrupts[0])
    with pytest.raises(KeyboardInterrupt):
        fit(PPOAgent(config=SMALL), interrupts[1])


def test_an_interrupt_ends_a_running_evaluation_within_an_env_step(notebook: list[Any]) -> None:
    class Interrupting(PPOAgent):
        steps = 0

        def act(self, observations: Any, deterministic: bool = False) -> Any:
            if deterministic:
                self.steps += 1
                if self.steps == 3:
                    signal.raise_signal(signal.SIGINT)
            return super().act(observations, deterministic)

    agent = Interrupting(config=SMALL)
    trainer = make_trainer(evaluate_every_env_steps=128)
    trainer.fit(agent, "CartPole-v1")
    assert agent.steps == 3
    assert trainer.global_step == 1
    assert math.isnan(trainer.callback_metrics["val_episode_return"])
    assert len(evaluate(agent, "CartPole-v1", episodes=2).returns) == 2


def test_other_exits_pass_through(notebook: list[Any]) -> None:
    with pytest.raises(SystemExit, match="3"), graceful_interrupt(make_trainer()):
        raise SystemExit(3)
