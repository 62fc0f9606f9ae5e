"""The line that says how a training has ended."""

from __future__ import annotations

from typing import Any

import pytest
from lightning.pytorch.demos.boring_classes import BoringModel
from small_runs import SMALL, fit

from lightning_rl import AgentTrainer, PPOAgent
from lightning_rl.callbacks.last_line import LastLine, ending, mean_return
from lightning_rl.notebook.panel import cell_panel

pytestmark = [  # Lightning's
    pytest.mark.filterwarnings("ignore:.isinstance.treespec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The .*dataloader. does not have many workers:UserWarning"),
]

STOPPED = "PPOAgent: stopped at 1,500 env steps; fit again goes on from there."


def trained(env_steps: int, budget: int | None) -> PPOAgent:
    agent = PPOAgent()
    agent.env_steps, agent.max_env_steps = env_steps, budget
    return agent


@pytest.mark.parametrize(
    ("agent", "line"),
    [
        (trained(2000, 2000), "PPOAgent: 2,000 env steps in 1.5 s."),
        (trained(1500, None), "PPOAgent: 1,500 env steps in 1.5 s."),
        (
            trained(1500, 2000),
            "PPOAgent: stopped at 1,500 env steps; fit again goes on from there.",
        ),
    ],
)
def test_the_line_says_whether_a_training_was_stopped(agent: PPOAgent, line: str) -> None:
    assert ending(agent, 1.5) == line


def test_a_further_training_says_what_it_goes_on_from() -> None:
    agent = trained(3500, 2000)
    agent.env_steps_at_fit_start = 1500
    line = ending(agent, 1.5)
    assert line == "PPOAgent: 2,000 env steps after the first 1,500 in 1.5 s."


def test_only_an_agents_training_has_a_last_line(notebook: list[Any]) -> None:
    data = {"limit_train_batches": 2, "limit_val_batches": 0, "max_epochs": 1}
    AgentTrainer(callbacks=[LastLine()], quiet=True, **data).fit(BoringModel())
    assert cell_panel().lines == []
    fit(PPOAgent(config=SMALL))  # whose trainer adds one
    (line,) = cell_panel().lines
    assert line.startswith("PPOAgent: ")


def test_the_line_names_the_error_that_ended_a_training() -> None:
    line = ending(trained(1500, 2000), 1.5, ValueError("x"))
    assert line == "PPOAgent: ended by ValueError at 1,500 env steps."


def test_a_mean_says_of_how_many_episodes_it_is() -> None:
    agent = PPOAgent()
    assert mean_return(agent) == "no episode has ended yet"
    for count in range(1, 103):
        agent.episodes.append(env_step=count, episode_return=count, episode_length=1)
        if count == 1:
            assert mean_return(agent) == "mean return 1.0 of 1 episode"
    assert mean_return(agent) == "mean return 52.5 of 100 episodes"
