"""The progress bar of a whole run, in env steps."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch.callbacks import TQDMProgressBar

from lightning_rl.agent import LightningAgentModule
from lightning_rl.callbacks.last_line import mean_return
from lightning_rl.notebook.kernel import in_notebook
from lightning_rl.notebook.panel import cell_panel

REFRESH_SECONDS = 0.1  # between two drawings in a terminal
UNIT = " env steps"
NOTEBOOK_SECONDS = 0.5  # each is two messages, which whoever reads late must keep


class EnvStepProgressBar(TQDMProgressBar):
    """One progress bar for the whole run, in env steps, with the mean return and the speed.

    It works in a terminal and in Jupyter, where trainings in one cell share one bar, and a line of
    text takes its place when the cell has ended (`LastLine`). With a module that is not an agent
    it is Lightning's `TQDMProgressBar`. The return is the mean of the last 100 training episodes.

    Args:
        refresh_rate: 0 switches it off; otherwise it is drawn at most ten times a second, in a
            notebook twice.
    """

    def __init__(self, refresh_rate: int = 1) -> None:
        super().__init__(refresh_rate)
        self._drawn = 0.0  # seconds, when the bar was last drawn
        self._pause = REFRESH_SECONDS

    def init_train_tqdm(self) -> Any:
        """Make the bar; for an agent in a notebook within the cell's panel."""
        agent = self.trainer.lightning_module
        if self.is_disabled or not (isinstance(agent, LightningAgentModule) and in_notebook()):
            return super().init_train_tqdm()
        # What changes all the time stands on the right: a text for each side is a message.
        bar_format = self.BAR_FORMAT.replace("{l_bar}{bar}|", "{desc}|{bar}|{percentage:3.0f}%")
        total = agent.max_env_steps
        about = {"total": total, "desc": "Training: ", "unit": UNIT}
        bar = notebook_bar(**about, smoothing=0, bar_format=bar_format)
        cell_panel().put("bar", [bar.container])
        self._pause = NOTEBOOK_SECONDS
        return bar

    def on_train_epoch_start(self, trainer: Any, pl_module: Any = None, *_: Any) -> None:
        """Begin the bar in the first epoch; later ones go on with it."""
        if not isinstance(pl_module, LightningAgentModule):
            super().on_train_epoch_start(trainer, pl_module)
        elif self.train_progress_bar.n == 0:
            bar = self.train_progress_bar
            bar.unit = UNIT
            bar.reset(pl_module.max_env_steps)
            bar.initial = bar.n = pl_module.env_steps - pl_module.env_steps_at_fit_start
            before = pl_module.env_steps_at_fit_start
            bar.set_description(f"Training on from {before:,}" if before else "Training")

    def init_validation_tqdm(self) -> Any:
        """Make the bar of an evaluation; hidden within `fit`, where it would come and go.

        In a notebook that would move whatever is below.
        """
        trains = self.trainer.state.fn == "fit"
        hides = trains and isinstance(self.trainer.lightning_module, LightningAgentModule)
        if not (hides and self.is_enabled):
            return super().init_validation_tqdm()
        self.disable()
        bar = super().init_validation_tqdm()
        self.enable()
        return bar

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw the bar, if enough time has passed."""
        if not isinstance(pl_module, LightningAgentModule):
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        elif time.perf_counter() - self._drawn > self._pause:
            self._draw(pl_module)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        """Leave the bar alone: an epoch's end means nothing to it."""
        if not isinstance(pl_module, LightningAgentModule):
            super().on_train_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: Any, pl_module: Any = None, *_: Any) -> None:
        """Draw the last state and close the bar."""
        if isinstance(pl_module, LightningAgentModule):
            self._draw(pl_module)
        super().on_train_end(trainer, pl_module)

    def _draw(self, agent: LightningAgentModule) -> None:
        bar = self.train_progress_bar
        if not bar.disable:
            bar.n = agent.env_steps - agent.env_steps_at_fit_start
            if agent.max_env_steps is not None:  # an overshoot would wipe the bar's total
                bar.total = max(agent.max_env_steps, bar.n)
            bar.set_postfix_str(mean_return(agent))
        self._drawn = time.perf_counter()


def notebook_bar(**options: Any) -> Any:
    """Make a bar of widgets that shows nothing by itself: its `container` is to be displayed.

    It has the widgets of this cell's bar, where there is one, so that the trainings of a cell do
    not send a frontend new ones each.

    Args:
        **options: of `tqdm`.
    """
    from tqdm import notebook  # type: ignore[import-untyped]  # needs widgets

    class Bar(notebook.tqdm):  # type: ignore[misc]  # untyped
        """Of one colour: not red when it ends early, as a training that is stopped does."""

        @staticmethod
        def status_printer(file: Any, total: Any = None, *options: Any) -> Any:
            shown = cell_panel().row("bar")
            if not shown or not total:
                return notebook.tqdm.status_printer(file, total, *options)
            shown[0].children[1].max = total
            return shown[0]

        def display(self, *args: Any, bar_style: str | None = None, **more: Any) -> None:
            super().display(*args, **more)

    return Bar(display=False, dynamic_ncols=True, leave=True, **options)
