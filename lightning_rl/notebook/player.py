"""Watch an agent: scrub through a recorded episode in a notebook."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from matplotlib import rcParams
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont, ImageOps

from lightning_rl.agent import LightningAgentModule
from lightning_rl.envs.vectorize import EnvLike
from lightning_rl.errors import ConfigError
from lightning_rl.notebook.figures import PALETTE, png
from lightning_rl.notebook.recording import EpisodeRecord, record_episode

MIN_INTERVAL_MS = 50  # between two frames that are played: drawing one takes a third of it


class EpisodePlayer:
    """Scrub through an episode: the picture, the policy, the value and the return so far.

    In a notebook it is a slider and a play button above a picture; where widgets don't live, as
    on GitHub, the episode's contact sheet is shown. The kernel draws each picture, from the stored
    arrays alone, so it can be used while an agent is trained.

    Args:
        record: a recorded episode; or an agent, and then `env` too.
        env: what `record_episode` takes.
        **options: of `record_episode`.

    Attributes:
        record: the episode.
        slider: the ipywidgets slider; set its `value` to go to a frame.
        picture: the ipywidgets image that shows the frame, as a PNG.
        widget: all of it.

    Raises:
        ConfigError: if an agent is given without an environment.

    Example:
        >>> from lightning_rl import EnvDataLoader, PPOAgent
        >>> agent = PPOAgent()
        >>> _ = EnvDataLoader(agent, "CartPole-v1")  # binds the (untrained) agent
        >>> player = EpisodePlayer(agent, "CartPole-v1", max_steps=5)
        >>> player.slider.value = 5  # the last frame
    """

    def __init__(
        self,
        record: EpisodeRecord | LightningAgentModule,
        env: EnvLike | None = None,
        **options: Any,
    ) -> None:
        import ipywidgets  # type: ignore[import-untyped]  # slow to import, for notebooks only

        if isinstance(record, LightningAgentModule):
            if env is None:
                raise ConfigError(
                    "EpisodePlayer got an agent and no environment; expected "
                    'EpisodePlayer(agent, env), such as "CartPole-v1", or a recorded episode.'
                )
            record = record_episode(record, env, **options)
        self.record = record
        last = len(record)
        self.slider = ipywidgets.IntSlider(0, 0, last, description="env step")
        interval = max(round(1000 / record.fps), MIN_INTERVAL_MS)
        play = ipywidgets.Play(min=0, max=last, interval=interval)
        ipywidgets.jslink((play, "value"), (self.slider, "value"))
        self.painter = EpisodePainter(record)
        self.picture = ipywidgets.Image(format="png", value=png(self.painter.draw(0)))
        self.slider.observe(self._show, names="value")
        self.widget = ipywidgets.VBox([ipywidgets.HBox([play, self.slider]), self.picture])

    def _show(self, change: Any) -> None:
        self.picture.value = png(self.painter.draw(change["new"]))

    def __repr__(self) -> str:
        """Say which episode is shown."""
        return f"EpisodePlayer({self.record!r})"

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Give the widget, with a contact sheet for where no widget lives."""
        view: dict[str, Any] = self.widget._repr_mimebundle_()
        return view | {"text/plain": repr(self), "image/png": self.record._repr_png_()}


class EpisodePainter:
    """An episode as pictures of one layout: frame, policy, value and return so far.

    What stands still is drawn once by matplotlib; what moves is painted onto a copy of it, which
    takes milliseconds and shares nothing, so any thread may draw.

    Args:
        record: an episode of T env steps.
    """

    def __init__(self, record: EpisodeRecord) -> None:
        self.record = record
        figure = Figure(figsize=(8, 3.2), dpi=100)
        grid = figure.add_gridspec(3, 2, hspace=0.6, left=0.0, right=0.98, top=0.92, bottom=0.08)
        panels = [figure.add_subplot(grid[row, 1]) for row in range(3)]
        self.policy, *self.curves = panels
        self.heights: Any = None  # (T + 1, K) of the policy's bars
        self._layout_policy(self.policy)
        numbers = {"value": record.values, "return so far": record.returns_so_far}
        for axes, (title, curve) in zip(self.curves, numbers.items(), strict=True):
            axes.plot([] if curve is None else curve, color=PALETTE[2])
            axes.set_title(title if curve is not None else "no value", fontsize=8)
            axes.set_xlim(0, max(len(record), 1))
        for axes in panels:
            axes.tick_params(labelsize=7)
        picture = io.BytesIO()
        figure.savefig(picture, format="png", dpi=100)
        self.base = Image.open(picture).convert("RGB")
        self.ink = to_hex(rcParams["text.color"])  # black, unless the user chose a dark style

    def _layout_policy(self, axes: Any) -> None:
        record = self.record
        titles = {
            "probabilities": "probability of each action (orange: the chosen one)",
            "action_values": "Q(s, a) of each action (orange: the chosen one)",
            "means": "mean action ± standard deviation",
        }
        name = next((name for name in titles if getattr(record, name) is not None), None)
        if name is None:
            axes.set_title("no policy", fontsize=8)
            return
        self.heights = getattr(record, name)
        stds = 0.0 if record.stds is None else record.stds
        low, high = float((self.heights - stds).min()), float((self.heights + stds).max())
        low, high = (0.0, 1.0) if name == "probabilities" else (min(low, 0.0), max(high, 0.0))
        axes.set(xlim=(-0.6, self.heights.shape[1] - 0.4), ylim=(low, high or 1.0))
        axes.set_xticks(range(self.heights.shape[1]))
        axes.set_title(titles[name], fontsize=8)

    def draw(self, index: int) -> Image.Image:
        """Paint frame `index`, from 0 to T."""
        record, picture = self.record, self.base.copy()
        brush = ImageDraw.Draw(picture)
        frame = ImageOps.contain(Image.fromarray(record.frames[index]), (390, 270))
        picture.paste(frame, (5, 40))
        action = "the end"
        if index < len(record):
            action = f"action {np.array2string(record.actions[index], precision=2)}"
        caption = f"env step {index}: {action}, return so far {record.returns_so_far[index]:.1f}"
        brush.text((5, 12), caption, fill=self.ink, font=ImageFont.load_default(13))
        if self.heights is not None:
            self._paint_policy(brush, index)
        for axes in self.curves:
            ends = [self._pixel(axes, index, y) for y in axes.get_ylim()]
            brush.line(ends, fill=self.ink)
        return picture

    def _paint_policy(self, brush: ImageDraw.ImageDraw, index: int) -> None:
        record = self.record
        chooses = record.actions.ndim == 1 and index < len(record)  # one action of several
        taken = record.actions[index] if chooses else None
        for place, height in enumerate(self.heights[index]):
            corners = [self._pixel(self.policy, place - 0.4, 0.0)]
            corners += [self._pixel(self.policy, place + 0.4, height)]
            xs, ys = zip(*corners, strict=True)
            color = PALETTE[1] if place == taken else PALETTE[0]
            brush.rectangle((min(xs), min(ys), max(xs), max(ys)), fill=color)
            if record.stds is not None:
                reach = record.stds[index, place]
                ends = [self._pixel(self.policy, place, height + r) for r in (-reach, reach)]
                brush.line(ends, fill=self.ink, width=2)

    def _pixel(self, axes: Any, x: float, y: float) -> tuple[int, int]:
        right, up = axes.transData.transform((x, y))
        return round(right), self.base.height - round(up)
