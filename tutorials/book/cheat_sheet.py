"""Draw the cheat sheet: the API on one page.

    python tutorials/book/cheat_sheet.py  # writes cheat_sheet.pdf and .png into _static

All code on it is run by a test, from the first box to the last, in one namespace.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

FOLDER = Path(__file__).parent / "_static"
WIDTH, HEIGHT = 11.69, 8.27  # inches: A4, landscape
LINE = 0.145  # inches
MARGIN = 0.35
BLUE, GREEN, ORANGE, GREY = "#0072b2", "#00794f", "#a84f00", "#444444"


class Box(NamedTuple):
    """A part of the sheet."""

    title: str
    colour: str
    text: str
    is_code: bool = True


COLUMNS = [
    [
        Box("Train", BLUE, """\
from lightning_rl import *

env = "CartPole-v1"  # or an Env, VectorEnv, function
agent = PPOAgent()
trainer = AgentTrainer(max_env_steps=65_536, seed=0)
trainer.fit(agent, env)"""),
        Box("Evaluate: greedy, in a separate environment", BLUE, """\
trainer.test(agent, env)
evaluate(agent, env, episodes=100).mean
AgentTrainer(evaluate_every_env_steps=5_000)"""),
        Box("Act", BLUE, """\
import gymnasium
observation, _ = gymnasium.make(env).reset()
agent.predict(observation)  # what env.step takes
agent.predict([observation] * 3)  # or a batch"""),
        Box("See", BLUE, """\
plot_returns({"PPO": agent}, target=475)
EpisodePlayer(agent, env)
record_episode(agent, env).save("episode.gif")
AgentTrainer(callbacks=[LiveReturns(), Doctor()])"""),
        Box("Keep, load, go on", BLUE, """\
trainer.save_checkpoint("agent.ckpt")
agent = PPOAgent.load_from_checkpoint("agent.ckpt")
trainer = AgentTrainer(max_env_steps=70_000, seed=0)
trainer.fit(agent, env, ckpt_path="agent.ckpt")
from lightning_rl.export import export_policy
export_policy(agent, "policy.pt2")"""),
        Box("On the command line", GREY, """\
python -m lightning_rl ppo --env Acrobot-v1
python -m lightning_rl ppo --settings.gamma 0.99
python -m lightning_rl dream --pixels""", is_code=False),
    ],
    [
        Box("Agents", GREEN, """\
               learns from          actions
ReinforceAgent the last rollout     any
PPOAgent       the last rollout     any
DQNAgent       a replay buffer      Discrete
SACAgent       a replay buffer      Box""", is_code=False),
        Box("Settings", GREEN, """\
PPOAgent(config=PPOConfig(gamma=0.99))
PPOAgent(config={"gamma": 0.99})
PPOAgent(config=PPOConfig.for_env("Acrobot-v1"))
DQNConfig(buffer_capacity=50_000, n_steps=3)"""),
        Box("Your own network", GREEN, """\
import torch
class MyNetwork(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(4, 3)
    def forward(self, observations):  # (B, 4)
        out = self.body(observations)
        return out[:, :2], out[:, 2]  # (B, P), (B,)
PPOAgent(MyNetwork())"""),
        Box("Your own agent: three methods", GREEN, """\
class MyAgent(LightningAgentModule):
    def act(self, observations, deterministic=False):
        ...  # (N, ...) -> actions (N, ...), dict
    def training_step(self, batch, batch_idx):
        ...  # the loss of a minibatch
    def configure_optimizers(self):
        ...
from lightning_rl.testing import check_agent
check_agent(PPOAgent(), env)"""),
        Box("Your own environment", GREEN, """\
from lightning_rl.testing import check_env
check_env(env)"""),
    ],
    [
        Box("A world model, and its dream", ORANGE, """\
steps = make_random_trajectory(env, "steps", 10_000)
from lightning_rl.worlds import train_world_model
model = train_world_model(steps)
dream = DreamEnv(model, starts=steps, known_range=0.8)
AgentTrainer(max_env_steps=4_096).fit(PPOAgent(), dream)
# or all of it: learn_in_dream(env)"""),
        Box("What fit does, again and again", ORANGE, """\
iteration = rollout + updates          a Lightning batch
  rollout     N sub-environments step, rows (T, N, ...)
  advantages  GAE; a time limit is bootstrapped
  sample      update_epochs x minibatches (B, ...)
  step        training_step, clip, optimizer.step()
epoch = iterations with 10,000 rows    a checkpoint
budget = max_env_steps                 then fit returns""", is_code=False),
        Box("What is logged, by env steps", ORANGE, """\
episode_return      mean of the last 100 episodes
approx_kl           0.003 to 0.03 while it learns
clip_fraction       0.05 to 0.3
entropy             falls slowly, not at once
explained_variance  rises towards 1
val_episode_return  greedy, separate environment""", is_code=False),
        Box("Words", ORANGE, """\
env step    one step of one sub-environment
reset row   Gymnasium's step for a reset: never counted
terminated  a real end: no value after it
truncated   cut, as by a time limit: a value after it
return      undiscounted sum of an episode's rewards""", is_code=False),
    ],
]  # fmt: skip


def draw() -> Figure:
    """Give the sheet as a figure of one page."""
    figure = Figure((WIDTH, HEIGHT))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    axes.axis("off")
    title = "lightning_rl: trainer.fit(agent, env)"
    axes.text(MARGIN, HEIGHT - MARGIN, title, fontsize=15, weight="bold", va="center")
    width = (WIDTH - MARGIN) / len(COLUMNS) - 0.15
    for index, boxes in enumerate(COLUMNS):
        top = HEIGHT - 2 * MARGIN
        for box in boxes:
            top = _draw_box(axes, box, MARGIN + index * (width + 0.15), top, width)
    return figure


def _draw_box(axes, box: Box, left: float, top: float, width: float) -> float:  # type: ignore[no-untyped-def]
    """Draw a box below `top` and give where the next one begins."""
    height = LINE * (box.text.count("\n") + 1) + 0.42
    frame = FancyBboxPatch(
        (left, top - height), width, height, boxstyle="round,pad=0,rounding_size=0.06",
        facecolor="#f6f8fa", edgecolor=box.colour,
    )  # fmt: skip
    axes.add_patch(frame)
    axes.text(left + 0.1, top - 0.08, box.title, color=box.colour, weight="bold", va="top")
    axes.text(
        left + 0.1, top - 0.32, box.text, family="monospace", fontsize=7.3, va="top",
        linespacing=1.38,
    )  # fmt: skip
    return top - height - 0.12


def main() -> int:
    """Write the sheet, as a page to print and as a picture."""
    rcParams["font.size"] = 9.5
    figure = draw()
    figure.savefig(FOLDER / "cheat_sheet.pdf", metadata={"CreationDate": None})
    figure.savefig(FOLDER / "cheat_sheet.png", dpi=150)
    return 0


if __name__ == "__main__":
    sys.exit(main())
