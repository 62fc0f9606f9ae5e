"""Films of dreams: what a world model of percepts expects, drawn by the eye it sees with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorWrapper
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lightning_rl.errors import ConfigError, SpaceError, StateError
from lightning_rl.notebook.recording import EpisodeRecord
from lightning_rl.threads import torch_threads
from lightning_rl.worlds.dream_env import DreamEnv
from lightning_rl.worlds.eye import Eye
from lightning_rl.worlds.percepts import action_numbers, join_percepts
from lightning_rl.worlds.world_model import Prediction, WorldModel

Array = NDArray[Any]
PANEL, CAPTION = 160, 20  # pixel rows and columns of a picture, and rows of the words above it
FILM_FPS = 15  # slow enough to see where dreams part
DIMMED = 0.35  # of its brightness has a dream that is over


class DrawnDreamEnv(VectorWrapper):
    """A dream of percepts that can be watched: `EpisodePlayer(agent, DrawnDreamEnv(dream, eye))`.

    Args:
        dream: of percepts; with one sub-environment for an `EpisodePlayer`.
        eye: which the percepts are of.

    Raises:
        SpaceError: if the dream's observations are too short for percepts of this eye.
        StateError: if the eye was not trained.
    """

    def __init__(self, dream: DreamEnv, eye: Eye) -> None:
        super().__init__(dream)
        if dream.network.num_observed <= 2 * eye.config.num_codes:
            raise SpaceError(
                f"got a dream of {dream.single_observation_space}; expected percepts of this eye: "
                f"twice its {eye.config.num_codes} codes, and the last action."
            )
        self.network = eye.built()
        self.network.check_trained()
        self.metadata = {**dream.metadata, "render_modes": ["rgb_array"], "render_fps": 50}
        self._percepts: Array | None = None

    @property
    def render_mode(self) -> str:  # type: ignore[override]  # which Gymnasium's wrapper also is
        """Pictures as arrays."""
        return "rgb_array"

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Any]]:
        """Start N new dreams."""
        self._percepts, infos = self.env.reset(seed=seed, options=options)
        return self._percepts.copy(), infos

    def step(self, actions: Any) -> tuple[Array, Array, Array, Array, dict[str, Any]]:
        """Dream one step of each."""
        self._percepts, *rest = self.env.step(actions)
        return self._percepts.copy(), *rest

    def render(self) -> tuple[Array, ...]:
        """Draw what is dreamt now: N pictures (R, R', 3) uint8."""
        if self._percepts is None:
            raise StateError("the dream has not begun; call reset() before render().")
        codes = torch.from_numpy(self._percepts[:, : self.network.num_codes])
        return tuple(np.asarray(enlarge(picture)) for picture in self.network.draw(codes).numpy())


def enlarge(picture: Array) -> Image.Image:
    """Make a small picture (H, W, C) uint8 large enough to look at, in RGB."""
    height, width = picture.shape[:2]
    small = Image.fromarray(picture if picture.shape[-1] == 3 else picture[..., 0]).convert("RGB")
    return small.resize((PANEL * width // height, PANEL), Image.Resampling.BICUBIC)


@torch_threads(1)
def film_dream(
    model: WorldModel,
    eye: Eye,
    episode: dict[str, Tensor],
    start: int = 1,
    num_steps: int | None = None,
    members: Sequence[int] | None = None,
    known_range: tuple[Array, Array] | None = None,
) -> EpisodeRecord:
    """Show what happened above, and below what members of the model dream from the same start.

    They dream open loop: of the episode they are given one percept and the actions, no further
    picture. A dream that is over, as the model expects an end or knows no more, stays and dims.

    Args:
        model: a world model of percepts.
        eye: which the percepts are of.
        episode: L env steps in pictures, such as `result.pictures.episode(3)`.
        start: the env step from which they dream; from 1 on it is known how things move.
        num_steps: k, how far. Default: to the episode's end.
        members: which of the ensemble, side by side. Default: the two that end farthest apart.
        known_range: as `DreamEnv` takes it, for ending dreams; such as `result.dream.known_range`.

    Returns:
        A film of k + 1 frames, to be saved with `save("film.gif")` (or `.mp4`) or watched in an
        `EpisodePlayer`; its contact sheet is shown in a notebook.

    Raises:
        ConfigError: if the episode has no such steps, or the ensemble no such members.
        ShapeError: if the episode is none of pictures for this eye.
    """
    last = _last_step(episode, start, num_steps)
    prediction = dream_on(model, eye, episode, start, last)
    chosen = farthest_apart(prediction) if members is None else tuple(members)
    if not chosen or not set(chosen) <= set(range(model.network.num_members)):
        raise ConfigError(
            f"members={chosen}; expected numbers from 0 to {model.network.num_members - 1}."
        )
    shown = pictures_of(episode)[start : last + 1]
    rows = [[_panel(f"real, step {start + t}", shown[t].numpy()) for t in range(len(shown))]]
    for member in chosen:
        path = prediction.observations[member, 0]  # (k, D)
        end = _first_end(path.numpy(), prediction.terminated[member, 0].numpy(), known_range)
        codes = torch.cat([eye.see(shown[:1]), path[:, : eye.config.num_codes]])
        drawn = eye.draw(codes).numpy()
        name = f"dreamt, member {member}"
        rows.append([_panel(name, drawn[min(t, end)], t > end) for t in range(len(shown))])
    frames = np.stack([_arrange(panels) for panels in zip(*rows, strict=True)])
    return EpisodeRecord(
        frames,
        episode["actions"][start:last].numpy(),
        episode["rewards"][start:last].numpy().astype(np.float64),
        bool(episode["terminated"][last - 1]),
        bool(episode["truncated"][last - 1]),
        fps=FILM_FPS,
    )


def _last_step(episode: dict[str, Tensor], start: int, num_steps: int | None) -> int:
    length = len(episode["rewards"])
    last = length if num_steps is None else start + num_steps
    if not 0 <= start < last <= length:
        raise ConfigError(
            f"start={start}, num_steps={num_steps} of an episode of {length} env steps; expected "
            "steps within it."
        )
    return last


def pictures_of(episode: dict[str, Tensor]) -> Tensor:
    """Give all pictures of an episode of L env steps, (L + 1, H, W, C)."""
    return torch.cat([episode["observations"], episode["next_observations"][-1:]])


def dream_on(
    model: WorldModel, eye: Eye, episode: dict[str, Tensor], start: int, last: int
) -> Prediction:
    """Let each member dream on from env step `start` of an episode in pictures, with its actions.

    Returns:
        Of one window of `last - start` steps; the observations are percepts.
    """
    at = [max(start - 1, 0), start]
    codes = eye.see(pictures_of(episode)[at]).cpu().numpy()
    done = action_numbers(episode["actions"][at[:1]].numpy(), model.action_space)
    change_std = float(eye.network.change_std)
    percept = join_percepts(codes[1:], codes[:1], done, np.array([start == 0]), change_std)
    actions = episode["actions"][None, start:last]
    return model.predict(torch.from_numpy(percept), actions)


def farthest_apart(prediction: Prediction) -> tuple[int, ...]:
    """Find the two members whose first window ends farthest apart."""
    ends = prediction.observations[:, 0, -1]  # (E, D)
    apart = torch.cdist(ends, ends)
    one, other = divmod(int(apart.argmax()), len(ends))
    return (one, other) if one != other else (one,)


def _first_end(path: Array, terminated: Array, known_range: tuple[Array, Array] | None) -> int:
    """Find the frame at which a dream (k, D) is over; k if it is not."""
    over = terminated > 0.5
    if known_range is not None:
        low, high = known_range
        over = over | ((path < low) | (path > high)).any(-1)
    return int(over.argmax()) + 1 if over.any() else len(path)


def _panel(name: str, picture: Array, over: bool = False) -> Image.Image:
    """Put a name above a picture, which is dimmed if it is over."""
    large = enlarge(picture)
    panel = Image.new("RGB", (large.width + 4, large.height + CAPTION), "white")
    panel.paste(large.point(lambda grey: round(grey * (DIMMED if over else 1.0))), (2, CAPTION))
    words = f"{name}: over" if over else name
    ImageDraw.Draw(panel).text((4, 2), words, fill="black", font=ImageFont.load_default(12))
    return panel


def _arrange(panels: Sequence[Image.Image]) -> Array:
    """Put the first panel above, in the middle, and the others below, side by side."""
    real, *dreamt = panels
    width, height = real.size
    frame = Image.new("RGB", (width * len(dreamt), 2 * height), "white")
    frame.paste(real, ((frame.width - width) // 2, 0))
    for place, panel in enumerate(dreamt):
        frame.paste(panel, (place * width, height))
    return np.asarray(frame)
