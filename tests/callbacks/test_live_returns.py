"""The live plot: what it draws, when, and where."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from uuid import uuid4

import gymnasium as gym
import IPython
import IPython.display
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning.pytorch.callbacks import Callback
from small_runs import AtIteration

from lightning_rl import AgentTrainer, EnvStepProgressBar, PPOAgent, PPOConfig
from lightning_rl.callbacks import live_returns as live_module
from lightning_rl.callbacks.controls import Controls
from lightning_rl.callbacks.live_returns import (
    DRAWING_SHARE,
    FIRST_FRAMES,
    DrawingBudget,
    LiveReturns,
    expected_env_steps,
    reward_threshold,
)
from lightning_rl.envs.vectorize import make_vector_env
from lightning_rl.errors import ConfigError
from lightning_rl.notebook.curves import OF_EPISODES

pytestmark = pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning")  # Lightning's

QUIET: dict[str, Any] = {
    "logger": False, "enable_checkpointing": False, "enable_model_summary": False,
}  # fmt: skip
SMALL = PPOConfig(rollout_steps=128, batch_size=128, update_epochs=1)


class Notebook:
    """Stands in for a notebook: keeps what is displayed, by the cell that is run."""

    def __init__(self) -> None:
        self.name, self.cell = uuid4(), "cell 1"
        self.first: dict[str, list[Any]] = {}
        self.updates: dict[str, list[Any]] = {}
        self.kernel = self.events = self  # what tells a kernel's shell from a terminal's
        self.ends: list[Any] = []  # what is called when a cell has ended

    def get_parent(self) -> Any:
        return {"header": {"msg_id": f"{self.name}, {self.cell}"}}

    def register(self, event: str, call: Any) -> None:
        assert event == "post_run_cell"
        self.ends.append(call)

    def unregister(self, event: str, call: Any) -> None:
        self.ends.remove(call)

    def begin_cell(self, name: str) -> None:
        for call in list(self.ends):
            call(None)
        self.cell = name

    def display(self, shown: Any, display_id: bool = False, **options: Any) -> Any:
        cell = self.cell
        self.first.setdefault(cell, []).append(shown)
        updates = self.updates.setdefault(cell, [])
        return SimpleNamespace(update=lambda bundle, **options: updates.append(bundle))


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    notebook = Notebook()
    monkeypatch.setattr(IPython, "get_ipython", lambda: notebook)
    monkeypatch.setattr(IPython.display, "display", notebook.display)
    return notebook


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Seconds that pass only when a test says so."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(live_module.time, "perf_counter", lambda: clock.now)
    return clock


def fit(*callbacks: Callback, steps: int = 512, seed: int = 0, **options: Any) -> AgentTrainer:
    trainer = AgentTrainer(
        max_env_steps=steps, seed=seed, callbacks=list(callbacks), logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        **options,
    )  # fmt: skip
    trainer.fit(PPOAgent(config=SMALL), "CartPole-v1")
    return trainer


# ---- the budget ------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.floats(1e-3, 0.3), min_size=1), st.floats(1.0, 60.0), st.floats(0.05, 1.0))
def test_all_frames_together_take_at_most_their_share_of_the_time(
    costs: list[float], run: float, iteration: float
) -> None:
    """Only the first frames, and the one that the last but one paid for, may go beyond."""
    now = 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live_module.time, "perf_counter", lambda: now)
        budget = DrawingBudget()
        frames = cycle(costs)
        while now < run:
            now += iteration
            if budget.is_due():
                with budget.drawing():
                    now += next(frames)
    assert budget.spent <= 3 * (DRAWING_SHARE * now + FIRST_FRAMES) + max(costs)


@pytest.mark.parametrize("iteration", [0.01, 0.05, 0.1])
def test_cheap_frames_come_at_least_four_times_a_second(
    clock: SimpleNamespace, iteration: float
) -> None:
    budget, frames = DrawingBudget(), 0
    while clock.now < 10.0:
        clock.now += iteration
        if budget.is_due():
            frames += 1
            with budget.drawing():
                clock.now += 0.006
    assert 30 <= frames <= 50
    assert frames >= 40 or iteration > 0.04  # a frame comes after a whole iteration


@pytest.mark.parametrize("cost", [0.006, 0.02])
def test_the_curve_is_never_half_a_second_old_at_a_twentieth_of_the_time(
    clock: SimpleNamespace, cost: float
) -> None:
    budget, last, longest = DrawingBudget(), 0.0, 0.0
    while clock.now < 60.0:
        clock.now += 0.05
        if budget.is_due():
            longest, last = max(longest, clock.now - last), clock.now
            with budget.drawing():
                clock.now += cost
    assert longest <= 0.5
    assert budget.spent <= 0.05 * clock.now + FIRST_FRAMES


def test_a_long_pause_earns_no_burst_of_frames(clock: SimpleNamespace) -> None:
    budget = DrawingBudget()
    clock.now = 3600.0
    assert budget.is_due()
    with budget.drawing():
        clock.now += 0.006
    clock.now += 0.19
    assert not budget.is_due()


def test_the_last_picture_of_a_stopped_run_ends_where_it_was_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    live = LiveReturns(path=str(tmp_path / "returns.svg"))
    fit(live, AtIteration(2, lambda agent: setattr(agent.trainer, "should_stop", True)), steps=9999)
    assert live._picture is not None
    (low, high) = live._picture.figure.axes[0].get_xlim()
    assert low == 0.0
    assert high < 600


# ---- in a notebook ---------------------------------------------------------------------------


def test_a_script_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LiveReturns, "draw", lambda self: pytest.fail("drew in a script"))
    live = LiveReturns()
    fit(live)
    assert live.runs == []


def test_a_terminals_ipython_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace())
    live = LiveReturns()
    fit(live)
    assert live.runs == []


def test_a_script_writes_a_file_where_asked(tmp_path: Path) -> None:
    fit(LiveReturns(path=str(tmp_path / "returns.png")))
    assert (tmp_path / "returns.png").read_bytes().startswith(b"\x89PNG")


def test_the_trainer_shows_returns_and_buttons_by_itself_and_only_while_it_fits(
    notebook: Notebook,
) -> None:
    trainer = fit()
    picture, buttons = notebook.first["cell 1"]
    assert picture["image/png"].startswith(b"\x89PNG")
    assert type(buttons).__name__ == "VBox"
    assert notebook.updates["cell 1"][-1].keys() == picture.keys()
    assert not any(isinstance(c, LiveReturns | Controls) for c in trainer.callbacks)


def test_live_can_be_switched_off(notebook: Notebook) -> None:
    fit(live=False)
    assert notebook.first == {}


def test_a_users_own_live_plot_is_not_doubled(notebook: Notebook) -> None:
    live = LiveReturns(panels=["entropy"])
    fit(live)
    assert [type(shown).__name__ for shown in notebook.first["cell 1"]] == ["dict", "VBox"]
    assert len(live.runs) == 1


def test_several_runs_in_a_cell_share_a_picture_and_a_new_cell_gets_its_own(
    notebook: Notebook,
) -> None:
    live = LiveReturns()
    fit(live, Controls(), seed=0)
    fit(live, Controls(), seed=1)
    notebook.cell = "cell 2"
    fit(live, Controls(), seed=2)
    pictures = {cell: sum("image/png" in s for s in shown if isinstance(s, dict))
                for cell, shown in notebook.first.items()}  # fmt: skip
    assert pictures == {"cell 1": 1, "cell 2": 1}
    assert len(live.runs) == 3


def test_the_trainings_of_a_cell_share_a_picture_without_being_told(notebook: Notebook) -> None:
    for seed in range(2):
        fit(seed=seed)
    picture, _ = notebook.first["cell 1"]
    assert "image/png" in picture
    notebook.begin_cell("cell 2")
    assert notebook.updates["cell 1"][-1].keys() == {"text/plain"}
    fit()
    assert len(notebook.first["cell 2"]) == 2


def test_another_environment_in_the_same_cell_begins_another_picture(notebook: Notebook) -> None:
    def train(env: str) -> LiveReturns:
        trainer = AgentTrainer(max_env_steps=128, num_envs=1, enable_progress_bar=False, **QUIET)
        trainer.fit(PPOAgent(config=SMALL), env)
        return LiveReturns.of_cell()

    cartpole = train("CartPole-v1")
    assert (len(cartpole.runs), cartpole.target) == (1, 475.0)
    acrobot = train("Acrobot-v1")
    assert (len(acrobot.runs), acrobot.target) == (1, -100.0)
    shown = [s for s in notebook.first["cell 1"] if isinstance(s, dict) and "image/png" in s]
    assert len(shown) == 2


def test_agents_of_other_settings_are_no_seeds(tmp_path: Path) -> None:
    live = LiveReturns(path=str(tmp_path / "returns.png"))
    for rate in (1e-3, 1e-2, 1e-2):
        agent = PPOAgent(config=replace(SMALL, learning_rate=rate))
        AgentTrainer(max_env_steps=256, callbacks=[live], quiet=True).fit(agent, "CartPole-v1")
    other = "PPOAgent, learning_rate=0.01"
    assert [run.label for run in live.runs] == ["PPOAgent", other, other]


def test_the_bar_of_an_evaluation_does_not_come_and_go_while_training() -> None:
    shown: list[tuple[str, bool]] = []

    class Bar(EnvStepProgressBar):
        def init_validation_tqdm(self) -> Any:
            bar = super().init_validation_tqdm()
            shown.append((self.trainer.state.fn, not bar.disable))
            return bar

    trainer = AgentTrainer(
        max_env_steps=128, callbacks=[Bar()], logger=False, enable_checkpointing=False,
        enable_model_summary=False, evaluation_episodes=2,
    )  # fmt: skip
    agent = PPOAgent(config=SMALL)
    trainer.fit(agent, "CartPole-v1", "CartPole-v1")
    trainer.validate(agent, "CartPole-v1")
    assert shown == [("fit", False), ("validate", True)]


def test_pyplot_draws_no_live_picture(notebook: Notebook) -> None:
    fit()
    pyplot = sys.modules.get("matplotlib.pyplot")  # torchmetrics imports it
    assert pyplot is None or pyplot.get_fignums() == []


# ---- what is drawn ---------------------------------------------------------------------------


def axes_of(live: LiveReturns) -> Any:
    picture = live._picture
    assert picture is not None
    return picture.figure.axes


def test_seeds_are_drawn_as_one_curve_with_a_band_and_labels_apart(tmp_path: Path) -> None:
    live = LiveReturns(path=str(tmp_path / "returns.svg"), label="default")
    fit(live, seed=0)
    fit(live, seed=1)
    live.label = "other"
    fit(live, seed=2)
    texts = [text.get_text() for text in axes_of(live)[0].get_legend().get_texts()]
    assert sorted(texts) == ["default (2 runs)", "other", "target 475", OF_EPISODES]


def test_an_agent_that_is_trained_further_goes_on_with_its_curve(tmp_path: Path) -> None:
    live, agent = LiveReturns(path=str(tmp_path / "returns.svg")), PPOAgent(config=SMALL)
    for _ in range(2):
        AgentTrainer(
            max_env_steps=256, callbacks=[live], logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        ).fit(agent, "CartPole-v1")  # fmt: skip
    assert len(live.runs) == 1


def test_evaluations_are_marked_at_their_env_step(tmp_path: Path) -> None:
    live = LiveReturns(path=str(tmp_path / "returns.png"))
    trainer = fit(live, evaluate_every_env_steps=256, evaluation_episodes=2)
    (run,) = live.runs
    steps = [step for step, _ in run.evaluations]
    assert steps == sorted(set(steps))
    assert len(steps) >= 2
    assert steps[-1] == trainer.lightning_module.env_steps
    assert run.evaluations[-1][1] == float(trainer.callback_metrics["val_episode_return"])


def test_an_evaluation_that_was_cut_or_is_of_no_training_is_not_marked(tmp_path: Path) -> None:
    class Cut(PPOAgent):
        begun: ClassVar[set[int]] = set()

        def act(self, observations: Any, deterministic: bool = False) -> Any:
            if deterministic:
                self.begun.add(self.env_steps)
                self.stop_asked = len(self.begun) == 2  # in the second evaluation
            return super().act(observations, deterministic)

    live, agent = LiveReturns(path=str(tmp_path / "returns.png")), Cut(config=SMALL)
    trainer = AgentTrainer(
        max_env_steps=256, num_envs=1, evaluate_every_env_steps=128, evaluation_episodes=2,
        callbacks=[live], enable_progress_bar=False, **QUIET,
    )  # fmt: skip
    trainer.fit(agent, "CartPole-v1")
    trainer.validate(agent, "CartPole-v1")
    (run,) = live.runs
    assert len(Cut.begun) == 3
    assert [env_step for env_step, _ in run.evaluations] == [min(Cut.begun)]
    assert all(math.isfinite(value) for _, value in run.evaluations)


def test_an_evaluation_that_logs_no_return_is_not_marked(tmp_path: Path) -> None:
    class Watched(PPOAgent):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", 0.0)

    live = LiveReturns(path=str(tmp_path / "returns.png"))
    trainer = AgentTrainer(
        max_env_steps=128, num_envs=1, callbacks=[live], enable_progress_bar=False, **QUIET
    )
    trainer.fit(Watched(config=SMALL), "CartPole-v1", "CartPole-v1")
    assert "val_loss" in trainer.callback_metrics
    assert live.runs[0].evaluations == []


def test_panels_hold_what_was_logged_against_env_steps(tmp_path: Path) -> None:
    live = LiveReturns(panels=["entropy", "episode_length"], path=str(tmp_path / "returns.png"))
    trainer = fit(live, steps=1024, log_every_n_steps=2)
    (run,) = live.runs
    steps, values = zip(*run.scalars["entropy"], strict=True)
    assert list(steps) == sorted(set(steps))
    assert steps[0] == 256.0  # the first log: two iterations of 128 rows
    assert values[-1] == float(trainer.callback_metrics["entropy"])
    drawn = axes_of(live)[1].get_lines()[0].get_ydata()
    assert drawn.tolist() == list(values)
    assert axes_of(live)[2].get_title() == "episode_length"


def test_a_panel_is_seen_before_any_episode_has_ended(tmp_path: Path) -> None:
    live = LiveReturns(panels="entropy", path=str(tmp_path / "returns.png"))
    fit(live, steps=8, num_envs=8, log_every_n_steps=1)
    returns, panel = axes_of(live)
    (env_step,) = panel.get_lines()[0].get_xdata()
    assert [len(line.get_xdata()) for line in returns.get_lines()] == [0, 2]  # and the target
    assert panel.get_xlim() == returns.get_xlim()
    assert panel.get_xlim()[0] <= 0.0 < env_step <= panel.get_xlim()[1]


def test_a_run_that_fails_leaves_its_returns_on_the_picture(tmp_path: Path) -> None:
    class Failing(PPOAgent):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if len(self.episodes):
                raise ConfigError("on purpose")
            return super().training_step(batch, batch_idx)

    trainer = AgentTrainer(
        callbacks=[LiveReturns(path=str(tmp_path / "returns.png"))], logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    with pytest.raises(ConfigError, match="on purpose"):
        trainer.fit(Failing(config=SMALL), "CartPole-v1")
    assert (tmp_path / "returns.png").is_file()


def test_a_panel_that_is_not_logged_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'entrpy' is not logged; expected one of .*entropy"):
        fit(LiveReturns(panels=["entrpy"], path=str(tmp_path / "returns.png")), steps=10_000)


def test_smoothing_over_no_episode_is_refused() -> None:
    with pytest.raises(ConfigError, match="smooth=0"):
        LiveReturns(smooth=0)


@pytest.mark.parametrize(
    ("options", "end"),
    [
        ({"steps": 512}, 512),
        ({"steps": None, "max_steps": 3}, 3 * 128),
        ({"steps": None, "max_time": "00:00:00:01"}, 0),
    ],
)
def test_the_axis_ends_where_the_run_will(tmp_path: Path, options: Any, end: float) -> None:
    live = LiveReturns(path=str(tmp_path / "returns.png"))
    fit(live, num_envs=1, **options)
    assert live._env_steps == end


def test_an_agent_that_is_trained_further_has_a_longer_axis() -> None:
    agent = PPOAgent(config=SMALL)
    agent.env_steps_at_fit_start, agent.max_env_steps = 500, 1000
    assert expected_env_steps(agent) == 1500


def test_frames_are_jpeg_between_two_pngs(notebook: Notebook, monkeypatch: Any) -> None:
    monkeypatch.setattr(DrawingBudget, "is_due", lambda self: True)
    fit()
    (first,) = [s for s in notebook.first["cell 1"] if isinstance(s, dict)]
    *frames, last = notebook.updates["cell 1"]
    assert first["image/png"].startswith(b"\x89PNG")
    assert frames
    assert all(frame["image/jpeg"].startswith(b"\xff\xd8") for frame in frames)
    assert last["image/png"].startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("env", "threshold"),
    [("CartPole-v1", 475.0), (lambda: gym.make("CartPole-v1"), 475.0), ("Pendulum-v1", None)],
)
def test_the_target_is_the_environments_own(env: Any, threshold: float | None) -> None:
    assert reward_threshold(make_vector_env(env, 2)) == threshold


def test_a_path_in_no_folder_is_refused_before_training(tmp_path: Path) -> None:
    agent = PPOAgent()
    trainer = AgentTrainer(
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        callbacks=[LiveReturns(path=str(tmp_path / "missing" / "run.png"))],
    )  # fmt: skip
    with pytest.raises(ConfigError, match="in no existing folder"):
        trainer.fit(agent, "CartPole-v1")
    assert agent.env_steps == 0
