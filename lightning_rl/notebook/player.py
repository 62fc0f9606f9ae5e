"""Watch an agent: scrub through a recorded episode in a notebook."""

from __future__ import annotations

import base64
import json
from functools import cached_property
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from lightning_rl.agent import LightningAgentModule
from lightning_rl.envs.vectorize import EnvLike
from lightning_rl.errors import ConfigError
from lightning_rl.notebook.figures import PALETTE, webp
from lightning_rl.notebook.live_picture import roomy
from lightning_rl.notebook.recording import EpisodeRecord, record_episode

HEIGHT = 300  # pixel rows of a frame that is recorded here
MAX_BYTES = 1_000_000  # of all pictures: they are saved with the notebook
MIN_INTERVAL_MS = 20  # between two frames that are played
TITLES = {  # what a record may know of the policy
    "probabilities": "probability of each action (orange: chosen)",
    "action_values": "Q(s, a) of each action (orange: chosen)",
    "means": "mean action ± standard deviation",
}
HINTS = {  # shown where the mouse rests on a plot
    "probabilities": "How often the agent would take each action here, if it drew its actions.",
    "action_values": "The rewards that the agent expects after each action, later ones discounted.",
    "means": "What the agent would do here, and how far its actions scatter while it trains.",
    "value": "The rewards that the agent expects from here on, later ones discounted.",
    "return so far": "The rewards from the start to here, added up.",
}


class EpisodePlayer:
    """Scrub through an episode: the picture, the policy, the value and the return so far.

    In a notebook it is a picture with a slider and a play button, and what the agent thought beside
    it. It needs no kernel: it is still there when a saved notebook is opened again, and works
    where the notebook is trusted. Elsewhere, as on GitHub, the episode's contact sheet is shown.

    Args:
        record: a recorded episode; or an agent, and then `env` too.
        env: what `record_episode` takes.
        **options: of `record_episode`; `height` is 300 pixel rows by default.

    Attributes:
        record: the episode.
        frames: which of its frames are shown: all, or as many as 1 MB of pictures holds, evenly
            spread.

    Raises:
        ConfigError: if an agent is given without an environment.

    Example:
        >>> from lightning_rl import EnvDataLoader, PPOAgent
        >>> agent = PPOAgent()
        >>> _ = EnvDataLoader(agent, "CartPole-v1")  # binds the (untrained) agent
        >>> player = EpisodePlayer(agent, "CartPole-v1", max_steps=5)
        >>> player.html.startswith("<div")  # as a cell's last line it is shown
        True
    """

    def __init__(
        self,
        record: EpisodeRecord | LightningAgentModule,
        env: EnvLike | None = None,
        **options: Any,
    ) -> None:
        if isinstance(record, LightningAgentModule):
            if env is None:
                raise ConfigError(
                    "EpisodePlayer got an agent and no environment; expected "
                    'EpisodePlayer(agent, env), such as "CartPole-v1", or a recorded episode.'
                )
            record = record_episode(record, env, **{"height": HEIGHT, **options})
        self.record = record
        self.frames = affordable(record.frames, MAX_BYTES)

    def __repr__(self) -> str:
        """Say which episode is shown."""
        return f"EpisodePlayer({self.record!r})"

    @cached_property
    def html(self) -> str:
        """The player as a piece of a page: a still picture, and the script that replaces it."""
        still = encoded(webp(self.record.contact_sheet()))
        script = files(__package__).joinpath("player.js").read_text(encoding="utf-8")
        data = json.dumps(played(self.record, self.frames), separators=(",", ":"))
        data = data.replace("</", "<\\/")  # which would end the script, even in a string
        return (
            f'<div class="lightning-rl-player"><img alt="{self!r}" style="max-width: 100%" '
            f'src="data:image/webp;base64,{still}"></div>\n'
            f"<script>\n{script.rstrip()}({data});\n</script>"
        )

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        """Give the player, and a contact sheet for where no page is shown."""
        still = self.record._repr_png_()
        return {"text/html": self.html, "image/png": still, "text/plain": repr(self)}


def affordable(frames: NDArray[np.uint8], max_bytes: int) -> NDArray[np.int64]:
    """Choose evenly spread frames, as many as so many bytes hold when they are encoded."""
    tried = np.linspace(0, len(frames) - 1, 8).astype(int)
    size = np.mean([len(webp(Image.fromarray(frames[index]))) for index in tried])
    stride = int(np.ceil(size * len(frames) / max_bytes))
    return np.unique([*range(0, len(frames), stride), len(frames) - 1])


def played(record: EpisodeRecord, frames: NDArray[np.int64]) -> dict[str, Any]:
    """Give what `player.js` shows of an episode, in plain values: a list entry for each frame."""
    height, width = record.frames.shape[1:3]
    numbers = {"value": record.values, "return so far": record.returns_so_far}
    stride = (len(record.frames) - 1) / max(len(frames) - 1, 1)
    return {
        "pictures": [encoded(webp(Image.fromarray(record.frames[i]))) for i in frames],
        "size": {"width": width, "height": height},
        "captions": [caption(record, i) for i in frames],
        "interval": max(round(1000 * stride / record.fps), MIN_INTERVAL_MS),
        "policy": _policy(record, frames),
        "curves": [_curve(name, v, frames) for name, v in numbers.items() if v is not None],
        "colors": PALETTE[:3],
    }


def caption(record: EpisodeRecord, index: int) -> str:
    """Say what was done at a frame, from 0 to T."""
    if index == len(record):
        end = "a final state" if record.terminated else "cut off"
        return f"env step {index}: the end ({end})"
    action = record.actions[index]
    known = record.action_names and record.actions.ndim == 1
    name = f" ({record.action_names[int(action)]})" if known else ""
    return f"env step {index}: action {np.array2string(action, precision=2)}{name}"


def encoded(picture: bytes) -> str:
    """Write bytes as text that a page can hold."""
    return base64.b64encode(picture).decode()


def _policy(record: EpisodeRecord, frames: NDArray[np.int64]) -> dict[str, Any] | None:
    """Give the bars: their names, limits, and at each frame their heights, and which was taken."""
    kind = next((name for name in TITLES if getattr(record, name) is not None), None)
    if kind is None:
        return None
    heights, spreads = getattr(record, kind)[frames], record.stds
    reach = 0.0 if spreads is None else spreads[frames]
    low, high = roomy([heights - reach, heights + reach], None) or (0.0, 1.0)
    chooses = record.actions.ndim == 1 and kind != "means"  # one action of several
    taken = record.actions.tolist() if chooses else []
    return {
        "title": TITLES[kind],
        "hint": HINTS[kind],
        "names": record.action_names or [str(k) for k in range(heights.shape[1])],
        "heights": plain(heights),
        "spreads": None if spreads is None else plain(spreads[frames]),
        "low": low,
        "high": 1.0 if kind == "probabilities" else high,
        "taken": [taken[i] if i < len(taken) else None for i in frames],
    }


def _curve(name: str, values: NDArray[Any], frames: NDArray[np.int64]) -> dict[str, Any]:
    """Give a curve on an axis that has zero on it, so that small changes look small."""
    low, high = roomy(values, None) or (0.0, 1.0)
    about = {"title": name, "hint": HINTS[name]}
    return {**about, "values": plain(values[frames]), "low": low, "high": high}


def plain(values: NDArray[Any]) -> Any:
    """Round to four digits, as far as a reader looks, and give plain lists.

    Example:
        >>> plain(np.array([1 / 3, 49.8765, -1234.5]))
        [0.3333, 49.88, -1234.0]
    """
    if values.ndim > 1:
        return [plain(row) for row in values]
    return [float(f"{value:.4g}") for value in values]
