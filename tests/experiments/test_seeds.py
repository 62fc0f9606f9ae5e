"""Several seeds in processes: the same runs as one by one, and clear words if one fails."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import nbformat
import numpy as np
import pytest
import torch
from nbclient import NotebookClient

from lightning_rl import AgentTrainer, LiveReturns, PPOAgent, PPOConfig, plot_returns
from lightning_rl.errors import ConfigError, RunError
from lightning_rl.experiments import SeedRuns, fit_seeds, seeds
from lightning_rl.experiments.processes import Event
from tests.experiments.tasks_here import tasks_here

SMALL = PPOConfig(rollout_steps=128, batch_size=128, update_epochs=1)
OPTIONS: dict[str, Any] = {"max_env_steps": 512, "num_envs": 4, "episodes": 2}
make_small = partial(PPOAgent, config=SMALL)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> SeedRuns:
    folder = tmp_path_factory.mktemp("seeds")
    return fit_seeds(make_small, "CartPole-v1", [3, 1, 2], directory=folder, **OPTIONS)


def test_each_seed_is_the_run_that_a_trainer_makes(runs: SeedRuns, tmp_path: Path) -> None:
    assert [run.seed for run in runs] == [3, 1, 2]
    agent = make_small()
    trainer = AgentTrainer(
        max_env_steps=512, num_envs=4, seed=1, default_root_dir=tmp_path, logger=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(agent, "CartPole-v1")
    run = runs[1]
    assert run.env_steps == agent.env_steps
    for column in ("env_step", "episode_return", "episode_length"):
        assert run.episodes[column].tolist() == agent.episodes[column].tolist()
    assert run.checkpoint is not None
    saved = torch.load(run.checkpoint, weights_only=True)["state_dict"]
    for name, value in agent.state_dict().items():
        assert torch.equal(saved[name], value)


def test_a_table_and_a_picture_tell_what_all_of_them_reach(runs: SeedRuns) -> None:
    assert runs.returns.shape == (3,)
    assert len(runs.table().splitlines()) == 5
    assert "3 of PPOAgent on CartPole-v1" in repr(runs)
    (curve,) = plot_returns(runs).axes[0].get_lines()
    assert curve.get_label() == "mean (3 runs)"
    checkpoint = runs[0].checkpoint
    assert checkpoint is not None
    kept = json.loads((checkpoint.parent / "run.json").read_text())
    assert np.mean(kept["returns"]) == runs.returns[0]


def test_a_folder_with_such_a_run_is_not_written_again(runs: SeedRuns) -> None:
    checkpoint = runs[0].checkpoint
    assert checkpoint is not None
    with pytest.raises(ConfigError, match="holds a run already"):
        fit_seeds(make_small, "CartPole-v1", [3], directory=checkpoint.parents[1], **OPTIONS)


def test_runs_that_have_ended_are_taken_over_and_the_others_made(runs: SeedRuns) -> None:
    checkpoint = runs[0].checkpoint
    assert checkpoint is not None
    folder = checkpoint.parents[1]
    (folder / "seed_1" / "run.json").unlink()  # as if it had been interrupted
    before = (folder / "seed_3" / "agent.ckpt").stat().st_mtime_ns
    again = fit_seeds(
        make_small, "CartPole-v1", [3, 1], directory=folder, resume=True, processes=1, **OPTIONS
    )
    assert (folder / "seed_3" / "agent.ckpt").stat().st_mtime_ns == before
    assert [run.seed for run in again] == [3, 1]
    assert again.returns.tolist() == runs.returns[:2].tolist()
    with pytest.raises(ConfigError, match=r"holds a run of .*'512'.*; expected .*'1024'"):
        fit_seeds(
            make_small, "CartPole-v1", [3], directory=folder, resume=True,
            **OPTIONS | {"max_env_steps": 1024},
        )  # fmt: skip


@pytest.mark.parametrize(
    ("make_agent", "seeds", "options", "said"),
    [
        (make_small(), [0], {}, "a class or a function"),
        (make_small, [], {}, "at least one"),
        (make_small, [1, 1], {}, "none of them twice"),
        (make_small, [0], {"seed": 1}, "expected seeds"),
        (make_small, [0], {"callbacks": (i for i in ())}, "can't be sent"),
    ],
)
def test_what_can_not_be_run_is_refused_before_anything_is(
    make_agent: Any, seeds: list[int], options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        fit_seeds(make_agent, "CartPole-v1", seeds, **OPTIONS, **options)


class DeadlyEnv(gym.Wrapper):
    """Ends its process."""

    def step(self, action: Any) -> Any:
        os._exit(7)


def test_seeds_that_fail_are_named_with_what_has_happened() -> None:
    with pytest.raises(RunError, match=r"seed 5 has failed: EnvError: no environment"):
        fit_seeds(make_small, "Nowhere-v1", [5], **OPTIONS)
    with pytest.raises(RunError, match=r"seed 6 has failed: its process ended with exit code 7"):
        fit_seeds(make_small, lambda: DeadlyEnv(gym.make("CartPole-v1")), [6], **OPTIONS)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the runs in this process."""
    monkeypatch.setattr(seeds, "run_in_processes", tasks_here)


@pytest.mark.usefixtures("here")
def test_a_function_that_makes_no_agent_is_named_with_the_seed() -> None:
    make: Any = dict
    with pytest.raises(RunError, match="seed 5 has failed: ConfigError: make_agent returned dict"):
        fit_seeds(make, "CartPole-v1", [5], **OPTIONS)


def fit_and_draw(tmp_path: Path) -> None:
    live = LiveReturns(path=str(tmp_path / "live.png"))
    runs = fit_seeds(make_small, "CartPole-v1", [0, 1], live=live, **OPTIONS)
    assert [run.label for run in live.runs] == ["PPOAgent", "PPOAgent"]
    for drawn, run in zip(live.runs, runs, strict=True):
        assert drawn.episodes["env_step"].tolist() == run.episodes["env_step"].tolist()
    assert (tmp_path / "live.png").stat().st_size > 0


@pytest.mark.usefixtures("here")
def test_a_picture_shows_each_seed_and_then_what_all_of_them_reach(tmp_path: Path) -> None:
    fit_and_draw(tmp_path)


@pytest.mark.usefixtures("here")
def test_runs_that_nobody_is_to_see_leave_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runs = fit_seeds(make_small, "CartPole-v1", [0], live=False, **OPTIONS)
    assert runs[0].checkpoint is None
    assert list(tmp_path.iterdir()) == []


def test_a_warning_of_several_runs_is_passed_on_once_with_the_seed(
    runs: SeedRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = runs[0].checkpoint
    assert checkpoint is not None
    run = json.loads((checkpoint.parent / "run.json").read_text())
    said = [(0, "look out"), (1, "look out"), (1, "mind the gap")]
    events = [Event(task, "warning", text) for task, text in said]
    events += [Event(task, "result", run) for task in (0, 1)]
    monkeypatch.setattr(seeds, "run_in_processes", lambda tasks, processes: iter(events))
    with pytest.warns(UserWarning, match="seed") as caught:
        fit_seeds(make_small, "CartPole-v1", [3, 4], **OPTIONS)
    assert [str(one.message) for one in caught] == ["seed 3: look out", "seed 4: mind the gap"]


@pytest.mark.slow
def test_so_does_the_picture_of_seeds_in_processes(tmp_path: Path) -> None:
    fit_and_draw(tmp_path)


@pytest.mark.slow
def test_a_notebook_shows_one_picture_with_a_curve_a_seed(tmp_path: Path) -> None:
    code = (
        "from lightning_rl import PPOAgent\n"
        "from lightning_rl.experiments import fit_seeds\n"
        "def make_agent():  # of this notebook alone\n"
        "    return PPOAgent()\n"
        "runs = fit_seeds(make_agent, 'CartPole-v1', range(2), episodes=2, max_env_steps=8192)"
    )
    cells = [nbformat.v4.new_code_cell(code), nbformat.v4.new_code_cell("runs")]
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", shutdown_kernel="immediate"
    )
    client.execute(env=os.environ | {"OMP_NUM_THREADS": "1"})
    fit, shown = notebook.cells
    pictures = [output for output in fit.outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 1
    assert {output.output_type for output in fit.outputs} <= {"display_data", "stream"}
    errors = [output.text for output in fit.outputs if output.get("name") == "stderr"]
    assert not errors
    assert "2 of PPOAgent on CartPole-v1" in shown.outputs[0]["data"]["text/plain"]
