"""Draw the course's diagrams.

    python tutorials/figures/draw.py  # writes the .svg files into this folder

The moving pictures beside them are recorded by record.py.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Rectangle

FOLDER = Path(__file__).parent
BLUE, ORANGE, GREEN, GREY = "#0072B2", "#D55E00", "#009E73", "#666666"
REPRODUCIBLE = {"svg.hashsalt": "lightning_rl", "font.size": 11}


def canvas(width: float, height: float) -> tuple[Figure, Any]:
    """Make an empty figure whose axes count inches; white, so that it can be read in the dark."""
    figure = Figure(figsize=(width, height), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.set_axis_off()
    return figure, axes


def box(axes: Any, x: float, y: float, text: str, color: str, width: float = 1.7) -> None:
    """Draw a rounded box about (x, y)."""
    style = "round,pad=0,rounding_size=0.12"
    corner, height = (x - width / 2, y - 0.4), 0.8
    axes.add_patch(FancyBboxPatch(corner, width, height, boxstyle=style, fc=color, ec=color))
    axes.text(x, y, text, color="white", ha="center", va="center", weight="bold")


def arrow(axes: Any, start: Any, end: Any, color: str = "black", **style: Any) -> None:
    """Draw an arrow; `rad` bends it."""
    bend = f"arc3,rad={style.pop('rad', 0)}"
    axes.add_patch(
        FancyArrowPatch(
            start, end, arrowstyle="-|>", mutation_scale=14, lw=1.6, color=color,
            connectionstyle=bend, shrinkA=0, shrinkB=0, **style,
        )
    )  # fmt: skip


def pole(axes: Any, x: float, y: float, degrees: float, color: str = BLUE) -> None:
    """Draw a cart with its pole, which leans to the right by so many degrees."""
    axes.plot([x - 0.38, x + 0.38], [y, y], color="#AAAAAA", lw=1)
    axes.add_patch(Rectangle((x - 0.16, y), 0.32, 0.14, color="black"))
    lean = math.radians(degrees)
    top = (x + 0.55 * math.sin(lean), y + 0.14 + 0.55 * math.cos(lean))
    axes.plot([x, top[0]], [y + 0.14, top[1]], color=color, lw=4, solid_capstyle="round")


def loop() -> Figure:
    """Agent and environment, each giving to the other."""
    figure, axes = canvas(6.4, 2.5)
    box(axes, 1.2, 1.25, "agent", BLUE)
    box(axes, 5.2, 1.25, "environment", ORANGE)
    arrow(axes, (1.2, 1.72), (5.2, 1.72), rad=-0.25)
    arrow(axes, (5.2, 0.78), (1.2, 0.78), rad=-0.25)
    axes.text(3.2, 2.28, "action: push left or right", ha="center")
    axes.text(3.2, 0.13, "observation: four numbers     reward: 1", ha="center")
    pole(axes, 3.2, 0.95, 8)
    return figure


def rows() -> Figure:
    """A transition, an episode's end, and the reset row after it."""
    figure, axes = canvas(8.0, 2.75)
    leans = {8: 8.0, 9: 11.0, 10: 15.0, 11: 0.0, 12: 2.0}
    axes.add_patch(Rectangle((4.33, 0.62), 0.94, 0.95, color="#EEEEEE"))
    for number, (row, degrees) in enumerate(leans.items()):
        pole(axes, 0.8 + 1.6 * number, 1.55, degrees, ORANGE if degrees > 12 else BLUE)
        if number < 4:
            is_reset = row == 10
            color = GREY if is_reset else "black"
            middle = 1.6 + 1.6 * number
            arrow(axes, (middle - 0.33, 1.3), (middle + 0.33, 1.3), color,
                  linestyle="--" if is_reset else "-")  # fmt: skip
            axes.text(middle, 1.02, f"row {row}", ha="center", color=color)
            reward = "reward 0" if is_reset else "reward 1"
            axes.text(middle, 0.78, reward, ha="center", color=color)
    axes.text(4.0, 2.47, "the pole has fallen", ha="center", color=ORANGE)
    axes.text(6.4, 2.47, "a new episode", ha="center", color=BLUE)
    axes.text(4.8, 0.38, "reset row", ha="center", weight="bold", color=GREY)
    axes.text(4.8, 0.13, "its action is ignored", ha="center", color=GREY)
    axes.plot([0.45, 0.45, 2.75, 2.75], [0.66, 0.56, 0.56, 0.66], color="black", lw=1)
    axes.text(1.6, 0.33, "a transition:", ha="center", weight="bold")
    axes.text(1.6, 0.08, "observation, action, reward, next", ha="center", fontsize=10)
    return figure


def actor_critic() -> Figure:
    """Who tells whom what: the critic's judgement moves the actor."""
    figure, axes = canvas(7.2, 2.9)
    box(axes, 3.6, 2.3, "actor  π(a | s)", BLUE, 1.9)
    box(axes, 3.6, 0.6, "critic  V(s)", GREEN, 1.9)
    box(axes, 6.2, 1.45, "environment", ORANGE, 1.6)
    axes.text(0.75, 1.45, "observation s", ha="center", va="center")
    arrow(axes, (1.3, 1.65), (2.6, 2.3))
    arrow(axes, (1.3, 1.25), (2.6, 0.6))
    arrow(axes, (4.6, 2.3), (6.2, 1.9), rad=-0.2)
    arrow(axes, (6.2, 1.0), (4.6, 0.6), rad=-0.2)
    arrow(axes, (3.6, 1.05), (3.6, 1.85), GREEN, linestyle="--")
    axes.text(5.5, 2.5, "action", ha="center")
    axes.text(5.75, 0.42, "reward, next s", ha="center")
    axes.text(3.48, 1.45, "better than\nexpected?", ha="right", va="center", color=GREEN)
    axes.text(3.72, 1.45, "advantage A", ha="left", va="center", color=GREEN)
    return figure


def two_states() -> Figure:
    """The world of TwoStateEnv: each arrow an action, with its reward."""
    figure, axes = canvas(5.6, 1.9)
    for x, name, color in ((1.8, "0", GREY), (3.8, "1", BLUE)):
        axes.add_patch(Circle((x, 0.95), 0.36, color=color))
        axes.text(x, 0.95, name, color="white", ha="center", va="center", weight="bold")
    arrow(axes, (2.08, 1.2), (3.52, 1.2), rad=-0.3)
    arrow(axes, (3.52, 0.7), (2.08, 0.7), rad=-0.3)
    arrow(axes, (1.48, 1.12), (1.48, 0.78), rad=2.2)
    arrow(axes, (4.12, 0.78), (4.12, 1.12), rad=2.2)
    axes.text(2.8, 1.58, "−0.5", ha="center", color=ORANGE)
    axes.text(2.8, 0.22, "0", ha="center")
    axes.text(0.82, 0.95, "0", ha="center", va="center")
    axes.text(4.88, 0.95, "+1", ha="center", va="center", color=GREEN)
    return figure


def dream() -> Figure:
    """Real steps make a model; the agent learns in the model alone, and is then tried for real."""
    figure, axes = canvas(8.2, 2.9)
    box(axes, 1.2, 1.65, "environment", ORANGE)
    box(axes, 4.3, 1.65, "world model", GREEN)
    box(axes, 7.1, 1.65, "agent", BLUE, 1.5)
    arrow(axes, (2.1, 1.65), (3.4, 1.65))
    axes.text(2.75, 1.78, "10,000\nrandom steps", ha="center", fontsize=9)
    arrow(axes, (4.6, 2.1), (6.8, 2.1), rad=-0.3)
    arrow(axes, (6.8, 1.2), (4.6, 1.2), rad=-0.3)
    axes.text(5.7, 2.55, "dreamt observation, reward", ha="center", fontsize=10)
    axes.text(5.7, 0.93, "action", ha="center", fontsize=10)
    axes.text(5.72, 1.65, "65,536\ndream steps", ha="center", va="center", fontsize=9)
    arrow(axes, (7.3, 1.2), (1.2, 1.2), GREY, rad=-0.24, linestyle="--")
    axes.text(4.3, 0.13, "only in the end: the real pole", ha="center", color=GREY, fontsize=10)
    return figure


COURSE = (
    ("Lightning", "#4A8FBF", ("01\na classifier of digits", "02\none trainer, two worlds")),
    ("learn by doing", BLUE, ("03\nREINFORCE", "04\nactor-critic", "05\nPPO")),
    ("do it well", "#00805D", ("06\nsilent bugs", "07\nreplay, DQN", "08\ncontinuous actions")),
    (
        "dream",
        ORANGE,
        ("09\na world model", "10\nacting in the dream", "11, 12\ndreams in pictures"),
    ),
    ("go further", GREY, ("13\nwhat Lightning gives you",)),
)


def course() -> Figure:
    """The way through the notebooks, a row for each theme."""
    figure, axes = canvas(8.2, 3.9)
    for row, (theme, color, notebooks) in enumerate(COURSE):
        y = 3.5 - 0.78 * row
        axes.text(0.15, y, theme, va="center", style="italic")
        for column, text in enumerate(notebooks):
            x = 2.6 + 2.15 * column
            style = "round,pad=0,rounding_size=0.1"
            axes.add_patch(
                FancyBboxPatch((x - 0.95, y - 0.27), 1.9, 0.54, boxstyle=style, fc=color, ec=color)
            )
            axes.text(x, y, text, color="white", ha="center", va="center", fontsize=9)
            if column:
                arrow(axes, (x - 1.2, y), (x - 0.95, y), GREY)
        if row:
            arrow(axes, (2.6, y + 0.51), (2.6, y + 0.27), GREY)
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "map": course,
    "loop": loop,
    "rows": rows,
    "actor_critic": actor_critic,
    "two_states": two_states,
    "dream": dream,
}


def main(folder: Path = FOLDER) -> int:
    """Write all of them."""
    for name, draw in FIGURES.items():
        with rc_context(REPRODUCIBLE):
            figure = draw()
            FigureCanvasSVG(figure).print_svg(str(folder / f"{name}.svg"), metadata={"Date": None})
    return 0


if __name__ == "__main__":
    sys.exit(main())
