"""Buttons in a notebook: stop a run, pause it, change its settings.

A running cell keeps the notebook's kernel busy. A click on a button still arrives where the
frontend sends it to a thread of its own, as JupyterLab 4.4 and Notebook 7.4 do with ipykernel 7;
elsewhere (ipykernel 6, VS Code, Colab) it waits until the cell has ended. The toolbar's square
interrupts everywhere. Clicks only leave a note; the training reads it between two iterations.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from queue import SimpleQueue
from typing import Any

from lightning.pytorch import Callback, Trainer

from lightning_rl.agent import LightningAgentModule
from lightning_rl.errors import ConfigError
from lightning_rl.notebook.kernel import cell_memory, in_notebook
from lightning_rl.notebook.panel import cell_panel

PAUSE_SECONDS = 0.05  # between two looks at the buttons while paused
SLIDERS = ("learning_rate", "entropy_coef", "clip_range")
SLIDER_RANGES = {"entropy_coef": (0.0, 0.1, 0.001), "clip_range": (0.01, 0.5, 0.01)}
STOP_TOOLTIP = (
    "End the training after this iteration. Does nothing happen? The square in the toolbar "
    "(interrupt the kernel) does the same, everywhere."
)
PAUSE_TOOLTIP = "Wait after this iteration, until it is clicked again."


class Controls(Callback):
    """Buttons to stop and pause a training in a notebook, and sliders for its settings.

    `AgentTrainer` adds one without sliders by itself. Trainings in one cell share the buttons, and
    a line of text takes their place when the cell has ended. Outside a notebook it does nothing.

    Args:
        sliders: settings to change while training, of `"learning_rate"`, `"entropy_coef"` and
            `"clip_range"`. A run in which one was moved can't be repeated from its seed.

    Raises:
        ConfigError: when training starts, if the agent has no such setting.

    Example:
        >>> from lightning_rl import AgentTrainer, PPOAgent
        >>> from lightning_rl.callbacks import Controls
        >>> controls = Controls(sliders=["learning_rate", "entropy_coef"])
        >>> trainer = AgentTrainer(callbacks=[controls])
        >>> trainer.fit(PPOAgent(), "CartPole-v1")  # doctest: +SKIP
    """

    def __init__(self, sliders: Sequence[str] = ()) -> None:
        self.sliders = (sliders,) if isinstance(sliders, str) else tuple(sliders)
        self.widgets: dict[str, Any] = {}  # by name, while a notebook shows them
        self._stop = threading.Event()
        self._pause = threading.Event()
        self._moves: SimpleQueue[tuple[str, float]] = SimpleQueue()
        self._agent: LightningAgentModule | None = None  # that is training
        self._made: dict[str, Any] = {}  # the widgets, which a cell's next training shows again
        self._rows: list[Any] = []  # as they are shown

    @classmethod
    def of_cell(cls) -> Controls:
        """Give the buttons that the trainings of this cell share, each after the other."""
        memory = cell_memory()
        controls: Controls | None = memory.get("controls")
        if controls is None or controls.widgets:  # they are those of a training that still runs
            controls = memory["controls"] = cls()
        return controls

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Show the buttons."""
        check_settings(pl_module, self.sliders)
        if not in_notebook() or not trainer.is_global_zero:
            return
        self._agent = pl_module
        if self.sliders or not self._rows or cell_panel().row("controls") != self._rows:
            self._made = self._make_widgets(pl_module)
            self._rows = _rows(self._made)
        self._made["pause"].value = False
        self._stop, self._pause, self._moves = threading.Event(), threading.Event(), SimpleQueue()
        self.widgets = self._made
        for widget in self.widgets.values():
            widget.disabled = False
            answer_from_its_own_thread(widget)
        cell_panel().put("controls", self._rows)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *_: Any) -> None:
        """Do what was asked for since the last iteration."""
        if not self.widgets:
            return
        if self._pause.is_set():
            self._wait(trainer)
        while not self._moves.empty():
            change_setting(pl_module, *self._moves.get())
        if self._stop.is_set():
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Stop if that was asked for during an evaluation."""
        if self.widgets and self._stop.is_set():
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Switch the buttons off: they have nothing to stop any more."""
        if self.widgets:
            pl_module.stop_asked = False
        for widget in self.widgets.values():
            widget.disabled = True
        self.widgets, self._agent = {}, None

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Switch the buttons off."""
        self.on_train_end(trainer, pl_module)

    def _wait(self, trainer: Trainer) -> None:
        button = self.widgets["pause"]
        button.description, button.icon = "Resume", "play"
        while self._pause.is_set() and not trainer.should_stop and not self._stop.is_set():
            self._stop.wait(PAUSE_SECONDS)
        button.description, button.icon = "Pause", "pause"

    def _make_widgets(self, agent: Any) -> dict[str, Any]:
        import ipywidgets  # type: ignore[import-untyped]  # slow to import, for notebooks only

        stop = ipywidgets.Button(description="Stop", icon="stop", tooltip=STOP_TOOLTIP)
        stop.on_click(lambda _: self._ask_to_stop())
        pause = ipywidgets.ToggleButton(description="Pause", icon="pause", tooltip=PAUSE_TOOLTIP)
        pause.observe(lambda change: _set(self._pause, change["new"]), "value")
        widgets = {"stop": stop, "pause": pause}
        for name in self.sliders:
            slider = _make_slider(name, getattr(agent.config, name))
            slider.observe(self._note_move, "value")
            widgets[name] = slider
        for name, widget in widgets.items():
            widget.add_class(f"lightning-rl-{name.replace('_', '-')}")
        return widgets

    def _ask_to_stop(self) -> None:
        self._stop.set()
        if self._agent is not None:
            self._agent.stop_asked = True  # an evaluation need not play to its end

    def _note_move(self, change: Any) -> None:
        self._moves.put((change["owner"].description, change["new"]))


def answer_from_its_own_thread(widget: Any) -> None:
    """Let clicks on a widget arrive while a cell runs, with ipykernel 7.4 as with 7.0 to 7.3.

    ipykernel 7.4.0 sends a click to the thread that last changed the widget, which here is the
    one that trains. There is no public way yet to say otherwise; other versions don't know the name
    and are left alone.
    """
    if hasattr(widget.comm, "_reply_subshell_for"):
        widget.comm._reply_subshell_for = lambda data, default: default


def _set(event: threading.Event, value: bool) -> None:
    if value:
        event.set()
    else:
        event.clear()


def _make_slider(name: str, value: float) -> Any:
    import ipywidgets

    common = {"value": value, "description": name, "continuous_update": False}
    common["style"] = {"description_width": "initial"}
    if name == "learning_rate":
        exponent = math.log10(value)
        limits = {"min": min(-6.0, exponent), "max": max(-1.0, exponent)}
        return ipywidgets.FloatLogSlider(readout_format=".1e", **limits, **common)
    low, high, step = SLIDER_RANGES[name]
    limits = {"min": min(low, value), "max": max(high, value), "step": step}
    return ipywidgets.FloatSlider(readout_format=".3f", **limits, **common)


def _rows(widgets: dict[str, Any]) -> list[Any]:
    import ipywidgets

    buttons = [widgets[name] for name in ("stop", "pause")]
    sliders = [widget for name, widget in widgets.items() if name in SLIDERS]
    return [ipywidgets.HBox(buttons), *sliders]


def change_setting(agent: LightningAgentModule, name: str, value: float) -> None:
    """Change a setting of an agent that is training; what is annealed goes on being annealed.

    Call it between two updates, such as in a callback's `on_train_batch_end`. A checkpoint saved
    afterwards has the new setting.

    Args:
        agent: with a `config` dataclass.
        name: `"learning_rate"` (its start, where it is annealed; all learning rates of the agent
            are scaled alike), `"entropy_coef"` or `"clip_range"`.
        value: the new value.

    Raises:
        ConfigError: if the agent has no such setting, or its config refuses the value.
    """
    check_settings(agent, [name])
    holder: Any = agent  # the base class knows no config
    before = getattr(holder.config, name)
    holder.config = replace(holder.config, **{name: value})
    if "config" in agent.hparams:
        agent.hparams["config"] = asdict(holder.config)
    if name == "learning_rate":
        _scale_learning_rates(agent.trainer, value / before)
    elif name == "clip_range":
        holder.clip_range *= value / before


def check_settings(agent: LightningAgentModule, names: Sequence[str]) -> None:
    """Check that an agent has these settings, and that they may be changed while it trains.

    Raises:
        ConfigError: naming the first that may not.
    """
    possible = [name for name in SLIDERS if hasattr(getattr(agent, "config", None), name)]
    for name in names:
        if name not in possible:
            raise ConfigError(
                f"{type(agent).__name__} has no setting {name!r} that can be changed while it "
                f"trains; expected one of {possible}."
            )


def _scale_learning_rates(trainer: Trainer, factor: float) -> None:
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group["lr"] *= factor
    for scheduler in [config.scheduler for config in trainer.lr_scheduler_configs]:
        if hasattr(scheduler, "base_lrs"):  # what a schedule multiplies
            scheduler.base_lrs = [rate * factor for rate in scheduler.base_lrs]
