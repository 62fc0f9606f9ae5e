"""Stop, Pause and sliders: a notebook's hold on a run."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_runs import ITERATIONS, SMALL, AtIteration, fit, make_trainer

from lightning_rl import DQNAgent, PPOAgent, PPOConfig
from lightning_rl.callbacks.controls import Controls, change_setting
from lightning_rl.errors import ConfigError, LightningRLError

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # Lightning's


# ---- settings --------------------------------------------------------------------------------


def test_an_annealed_learning_rate_goes_on_from_its_new_start() -> None:
    agent = PPOAgent(config=SMALL)
    rates: list[float] = []

    def note(agent: Any) -> None:
        rates.append(agent.trainer.optimizers[0].param_groups[0]["lr"])

    notes = [AtIteration(iteration, note) for iteration in range(1, ITERATIONS + 1)]
    halve = AtIteration(5, lambda agent: change_setting(agent, "learning_rate", 2.5e-3))
    fit(agent, *notes, halve)
    annealed = [5e-3 * (1 - i / ITERATIONS) for i in range(ITERATIONS)]
    halved = [rate / 2 for rate in annealed[5:]]  # the fifth was noted before
    assert rates == pytest.approx(annealed[:5] + halved)


def test_every_learning_rate_of_an_agent_is_scaled_alike() -> None:
    agent = PPOAgent(config=SMALL)
    fit(agent)
    groups = agent.trainer.optimizers[0].param_groups
    groups[0]["lr"] = 4.0
    groups.append(dict(groups[0], lr=2.0))
    change_setting(agent, "learning_rate", 2 * SMALL.learning_rate)
    assert [group["lr"] for group in groups] == [8.0, 4.0]


@settings(deadline=None)
@given(st.floats(0.01, 0.5), st.floats(0.01, 0.5), st.floats(0.01, 1.0))
def test_an_annealed_clip_range_is_scaled_where_it_is(
    before: float, after: float, annealed: float
) -> None:
    agent = PPOAgent(config=PPOConfig(clip_range=before))
    agent.clip_range = before * annealed
    change_setting(agent, "clip_range", after)
    assert agent.clip_range == pytest.approx(after * annealed)
    assert agent.config.clip_range == after


def test_a_learning_rate_that_follows_a_metric_goes_on_from_its_new_value() -> None:
    class Watching(PPOAgent):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=4e-3)
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=99)
            watched = {"scheduler": plateau, "monitor": "loss"}
            return {"optimizer": optimizer, "lr_scheduler": watched}

    halve = AtIteration(2, lambda agent: change_setting(agent, "learning_rate", 2e-3))
    agent = Watching(config=replace(SMALL, learning_rate=4e-3, anneal_learning_rate=False))
    trainer = fit(agent, halve)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(2e-3)


def test_an_agent_that_saves_no_settings_can_have_them_changed_too() -> None:
    class Forgetful(PPOAgent):
        def __init__(self) -> None:
            super().__init__()
            self.hparams.clear()

    agent = Forgetful()
    change_setting(agent, "entropy_coef", 0.01)
    assert agent.config.entropy_coef == 0.01
    assert dict(agent.hparams) == {}


def test_a_changed_setting_is_saved_with_the_agent() -> None:
    agent = PPOAgent()
    change_setting(agent, "entropy_coef", 0.01)
    assert agent.config.entropy_coef == 0.01
    assert PPOAgent(**agent.hparams).config == agent.config


def test_a_setting_outside_its_range_is_refused_and_leaves_the_old_one() -> None:
    agent = PPOAgent()
    with pytest.raises(ConfigError, match="entropy_coef=-1"):
        change_setting(agent, "entropy_coef", -1.0)
    assert agent.config == PPOConfig()


def test_a_setting_the_agent_does_not_have_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"DQNAgent has no setting 'clip_range'.*learning_rate"):
        change_setting(DQNAgent(), "clip_range", 0.1)
    with pytest.raises(ConfigError, match="'gamma'"):
        fit(PPOAgent(config=SMALL), Controls(sliders=["gamma"]))


# ---- buttons ---------------------------------------------------------------------------------


def test_outside_a_notebook_there_are_no_buttons() -> None:
    controls, count = Controls(), AtIteration()
    fit(PPOAgent(config=SMALL), controls, count)
    assert controls.widgets == {}
    assert count.begun == ITERATIONS


def test_stop_ends_the_training_after_the_iteration(notebook: list[Any]) -> None:
    controls = Controls()
    click = AtIteration(3, lambda agent: controls.widgets["stop"].click())
    trainer = fit(PPOAgent(config=SMALL), controls, click)
    assert click.begun == 3
    assert trainer.state.finished
    stop, pause = notebook[0].children[0].children
    assert stop.disabled
    assert pause.disabled


def test_stop_during_an_evaluation_ends_it_and_the_training(notebook: list[Any]) -> None:
    controls = Controls()

    class Clicking(PPOAgent):
        played = 0

        def act(self, observations: Any, deterministic: bool = False) -> Any:
            self.played += deterministic
            if self.played == 3:
                controls.widgets["stop"].click()
            return super().act(observations, deterministic)

    agent = Clicking(config=SMALL)
    trainer = make_trainer(controls, evaluate_every_env_steps=128)
    trainer.fit(agent, "CartPole-v1")
    assert agent.played == 3
    assert trainer.global_step == 1


def test_a_click_that_arrives_when_the_training_has_ended_stops_nothing(
    notebook: list[Any],
) -> None:
    agent, controls, buttons = PPOAgent(config=SMALL), Controls(), []
    fit(agent, controls, AtIteration(1, lambda agent: buttons.append(controls.widgets["stop"])))
    buttons[0].click()
    assert not agent.stop_asked
    count = AtIteration()
    fit(agent, controls, count)
    assert count.begun == ITERATIONS


def test_a_stopped_training_can_be_gone_on_with(notebook: list[Any]) -> None:
    controls = Controls()
    click = AtIteration(3, lambda agent: controls.widgets["stop"].click())
    agent = PPOAgent(config=SMALL)
    fit(agent, controls, click)
    count = AtIteration()
    fit(agent, controls, count)
    assert count.begun == ITERATIONS


def stop_in_iteration(iteration: int) -> Any:
    """Train with the buttons of the cell, and give the one that was clicked."""
    controls, agent, clicked = Controls.of_cell(), PPOAgent(config=SMALL), []

    def click(agent: Any) -> None:
        clicked.append(controls.widgets["stop"])
        clicked[0].click()

    count = AtIteration(iteration, click)
    fit(agent, controls, count)
    assert count.begun == iteration
    assert not agent.stop_asked
    return clicked[0]


def test_the_trainings_of_a_cell_share_buttons_which_stop_the_one_that_runs(
    notebook: list[Any],
) -> None:
    assert stop_in_iteration(3) is stop_in_iteration(5)
    assert len(notebook) == 1


def test_pause_waits_until_it_is_resumed(notebook: list[Any]) -> None:
    controls, paused = Controls(), threading.Event()
    seen: list[str] = []

    def press(agent: Any) -> None:
        pause = controls.widgets["pause"]
        pause.observe(lambda change: paused.set(), "description")
        pause.value = True

    def resume() -> None:
        paused.wait()
        seen.append(f"paused in iteration {count.begun}, {controls.widgets['pause'].description}")
        controls.widgets["pause"].value = False

    count = AtIteration(2, press)
    click = threading.Thread(target=resume)
    click.start()
    fit(PPOAgent(config=SMALL), controls, count)
    click.join()
    assert seen == ["paused in iteration 2, Resume"]
    assert count.begun == ITERATIONS


def test_stop_ends_a_pause_too(notebook: list[Any]) -> None:
    controls = Controls()

    def press(agent: Any) -> None:
        controls.widgets["pause"].value = True
        controls.widgets["stop"].click()

    count = AtIteration(2, press)
    fit(PPOAgent(config=SMALL), controls, count)
    assert count.begun == 2


def test_sliders_change_settings_between_iterations(notebook: list[Any]) -> None:
    names = ["learning_rate", "entropy_coef", "clip_range"]
    controls, agent = Controls(sliders=names), PPOAgent(config=SMALL)
    during: list[PPOConfig] = []

    def move(agent: Any) -> None:
        for name, value in zip(names, (1e-3, 0.05, 0.1), strict=True):
            controls.widgets[name].value = value
        during.append(agent.config)

    fit(agent, controls, AtIteration(2, move))
    assert during == [SMALL]  # in the middle of an iteration nothing changes
    config = agent.config
    assert config.learning_rate == pytest.approx(1e-3)
    assert (config.entropy_coef, config.clip_range) == (0.05, 0.1)


def test_a_sliders_range_holds_the_agents_own_value(notebook: list[Any]) -> None:
    config = PPOConfig(rollout_steps=128, batch_size=128, entropy_coef=0.7)
    fit(PPOAgent(config=config), Controls(sliders=["entropy_coef"]))
    (slider,) = notebook[0].children[1:]
    assert slider.value == 0.7


@pytest.mark.parametrize("rate", [1e-8, 0.5])
def test_a_learning_rates_slider_holds_the_agents_own_value(
    notebook: list[Any], rate: float
) -> None:
    config = PPOConfig(rollout_steps=128, batch_size=128, learning_rate=rate)
    fit(PPOAgent(config=config), Controls(sliders="learning_rate"))
    (slider,) = notebook[0].children[1:]
    assert slider.value == pytest.approx(rate)


def test_the_buttons_are_switched_off_when_training_fails(notebook: list[Any]) -> None:
    def fail(agent: Any) -> None:
        raise LightningRLError("on purpose")

    with pytest.raises(LightningRLError, match="on purpose"):
        fit(PPOAgent(config=SMALL), Controls(), AtIteration(2, fail))
    assert notebook[0].children[0].children[0].disabled
