"""Promises about resuming and repeating: same budget, same bits.

Everything that promises something about another process is done by this file, run as a script.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from torch import Tensor, nn

from lightning_rl import (
    ActorCriticNetwork,
    AgentTrainer,
    DQNAgent,
    DQNConfig,
    EnvDataLoader,
    PPOAgent,
    PPOConfig,
    ReinforceAgent,
    evaluate,
)
from lightning_rl.errors import StateError

LIGHTNINGS_WARNING = ".isinstance.treespec"  # Lightning 2.6 calls what torch 2.13 deprecates
pytestmark = pytest.mark.filterwarnings(f"ignore:{LIGHTNINGS_WARNING}:FutureWarning")

ITERATIONS_OF_AN_EPOCH = 3
MAX_ENV_STEPS = 1000  # 8 full iterations and a short one; annealing must know where it was


class DropoutNetwork(ActorCriticNetwork):
    """Draws from torch's own random numbers in every pass."""

    def forward(self, observations: Any) -> tuple[Tensor, Tensor]:
        return super().forward(nn.functional.dropout(observations, 0.1, self.training))


def short_pendulum() -> gym.Env:
    return gym.make("Pendulum-v1", max_episode_steps=30)


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "normalised": {"normalize_observations": True, "normalize_rewards": True},
    "dropout": {"network": DropoutNetwork},
    "continuous": {"env": short_pendulum, "normalize_rewards": True},
}
MOMENTS = {  # when a checkpoint is written, and how many iterations were done by then
    "in mid-epoch": 2,
    "after an epoch's last iteration": 3,
    "at the end of an epoch": 3,
    "in mid-epoch, later": 5,
}


class SaveAtAllMoments(Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        for moment, iterations in MOMENTS.items():
            if trainer.global_step == iterations and "end of" not in moment:
                trainer.save_checkpoint(self.folder / f"{moment}.ckpt")

    def on_train_epoch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == ITERATIONS_OF_AN_EPOCH:
            trainer.save_checkpoint(self.folder / "at the end of an epoch.ckpt")


def make_agent(case: str) -> PPOAgent:
    settings = dict(CASES[case])
    network = settings.pop("network", ActorCriticNetwork)()
    settings.pop("env", None)
    return PPOAgent(network, PPOConfig(128, 64, 2, anneal_clip_range=True, **settings))


def make_trainer(folder: str | Path, **options: Any) -> AgentTrainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    defaults = {"max_env_steps": MAX_ENV_STEPS, "num_envs": 8, "seed": 0, "accelerator": "cpu"}
    more = {"default_root_dir": folder, "enable_checkpointing": False, "log_every_n_steps": 1}
    return AgentTrainer(**{**quiet, **defaults, **more, **options})


def train(case: str, folder: Path, ckpt_path: str | None = None) -> None:
    """Train to the end, writing all checkpoints and `end.ckpt`."""
    torch.manual_seed(1)
    options = {"limit_train_batches": ITERATIONS_OF_AN_EPOCH}
    trainer = make_trainer(folder, callbacks=[SaveAtAllMoments(folder)], **options)
    trainer.fit(make_agent(case), CASES[case].get("env", "CartPole-v1"), ckpt_path=ckpt_path)
    trainer.save_checkpoint(folder / "end.ckpt")


def digest(module: nn.Module) -> str:
    arrays = [p.detach().numpy().tobytes() for p in module.parameters()]
    return hashlib.sha256(b"".join(arrays)).hexdigest()


AGENTS: dict[str, Callable[[], Any]] = {
    "ppo": lambda: PPOAgent(config=PPOConfig(128, 64, 2)),
    "reinforce": lambda: ReinforceAgent(config={"rollout_steps": 256}),
}


def digest_after_training(name: str, seed: int) -> str:
    agent = AGENTS[name]()
    make_trainer(".", max_env_steps=300, seed=seed).fit(agent, "CartPole-v1")
    return digest(agent)


# ---- the other process -----------------------------------------------------------------------


def random_state() -> list[Any]:
    numpy_state = np.random.get_state(legacy=False)  # noqa: NPY002 (the global one, on purpose)
    state = [torch.get_rng_state().tolist(), str(numpy_state), random.getstate()]
    return [*state, [str(f) for f in warnings.filters], torch.get_num_threads()]


def work(jobs: dict[str, Any]) -> dict[str, str]:
    """Do in a new process what it was started for: resume runs, and repeat runs."""
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", LIGHTNINGS_WARNING)
    for case, folder, ckpt_path in jobs["resume"]:
        train(case, Path(folder), ckpt_path)
    return {name: digest_after_training(name, seed=0) for name in jobs["repeat"]}


def run_in_new_process(jobs: dict[str, Any], hash_seed: int) -> dict[str, str]:
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(
        [sys.executable, __file__, json.dumps(jobs)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    digests: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return digests


if __name__ == "__main__":
    print(json.dumps(work(json.loads(sys.argv[1]))))


# ---- resuming --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Train every case here without a stop; resume it from every checkpoint in a new process."""
    folder = tmp_path_factory.mktemp("runs")
    jobs: dict[str, Any] = {"resume": [], "repeat": list(AGENTS)}
    for case in CASES:
        straight = folder / case
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", LIGHTNINGS_WARNING)
            train(case, straight)
        for moment in MOMENTS:
            resumed = folder / f"{case} {moment}"
            jobs["resume"].append((case, str(resumed), str(straight / f"{moment}.ckpt")))
    return {"folder": folder, "digests": run_in_new_process(jobs, hash_seed=1)}


def without_wall_time(checkpoint: dict[str, Any]) -> dict[str, Any]:
    del checkpoint["lightning_rl"]["episodes"]["seconds"]
    del checkpoint["callbacks"], checkpoint["loops"]  # they say where files are, and of restarts
    return checkpoint


def differences(left: Any, right: Any, where: str = "") -> list[str]:
    """Say where two checkpoints differ in as much as one bit."""
    if type(left) is not type(right):
        return [f"{where}: {type(left)} and {type(right)}"]
    if isinstance(left, dict):
        if left.keys() != right.keys():
            return [f"{where}: {left.keys()} and {right.keys()}"]
        return [d for key in left for d in differences(left[key], right[key], f"{where}/{key}")]
    if isinstance(left, list | tuple):
        if len(left) != len(right):
            return [f"{where}: {len(left)} and {len(right)} items"]
        pairs = enumerate(zip(left, right, strict=True))
        return [d for i, (a, b) in pairs for d in differences(a, b, f"{where}/{i}")]
    same = torch.equal(left, right) if isinstance(left, Tensor) else left == right
    return [] if same else [f"{where}: {left} and {right}"]


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_ends_with_the_same_bits(
    runs: dict[str, Any], case: str, moment: str
) -> None:
    straight, resumed = (
        torch.load(runs["folder"] / name / "end.ckpt", weights_only=True)
        for name in (case, f"{case} {moment}")
    )
    assert straight["lightning_rl"]["env_steps"] >= MAX_ENV_STEPS
    assert len(straight["lightning_rl"]["episodes"]["env_step"]) > 1
    assert differences(without_wall_time(straight), without_wall_time(resumed)) == []


def test_the_comparison_above_covers_all_that_a_run_is_made_of(runs: dict[str, Any]) -> None:
    end = torch.load(runs["folder"] / "normalised" / "end.ckpt", weights_only=True)
    compared = without_wall_time(end)
    assert {"state_dict", "optimizer_states", "lr_schedulers", "global_step"} <= compared.keys()
    assert {"generator", "process_random", "env", "runner", "episodes", "extra", "env_steps"} <= (
        compared["lightning_rl"].keys()
    )
    assert compared["lightning_rl"]["env"] is not None
    other = torch.load(runs["folder"] / "plain" / "end.ckpt", weights_only=True)
    assert differences(compared["state_dict"], other["state_dict"]) != []


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_checkpoints_are_of_the_moment_they_claim(runs: dict[str, Any], moment: str) -> None:
    saved = torch.load(runs["folder"] / "plain" / f"{moment}.ckpt", weights_only=True)
    assert saved["global_step"] == MOMENTS[moment]
    assert 0 < saved["lightning_rl"]["env_steps"] < MAX_ENV_STEPS


class LockedEnv(gym.Env):
    """A walk that ends at random, with a part that can't be saved."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,))
    action_space = spaces.Discrete(2)

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.position = np.zeros(1, dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.position = self.np_random.normal(size=1).astype(np.float32)
        return self.position, {}

    def step(self, action: Any) -> Any:
        self.position = self.position + np.float32(self.np_random.normal() + action)
        ended = bool(self.np_random.random() < 0.1)
        return self.position, float(self.position[0]), ended, False, {}


def test_without_the_environments_state_a_resume_warns_once_and_is_repeatable(
    tmp_path: Path,
) -> None:
    first = make_trainer(tmp_path, max_env_steps=256)
    first.fit(make_agent("plain"), LockedEnv)
    first.save_checkpoint(tmp_path / "saved.ckpt")
    digests = []
    for seed in (0, 0, 7):  # the seed that counts is the saved run's
        agent = make_agent("plain")
        trainer = make_trainer(tmp_path, max_env_steps=512, seed=seed)
        with pytest.warns(UserWarning, match=r"new episodes.*LockedEnv.lock can't be saved") as w:
            trainer.fit(agent, LockedEnv, ckpt_path=tmp_path / "saved.ckpt")
        assert sum("can't be saved" in str(warning.message) for warning in w) == 1
        assert agent.env_steps >= 512
        digests.append(digest(agent))
    assert len(set(digests)) == 1


def test_a_resume_with_environments_in_other_processes_says_in_one_sentence_that_it_differs(
    tmp_path: Path,
) -> None:
    run = {"num_envs": 2, "vectorization": "async"}
    first = make_trainer(tmp_path, max_env_steps=128, **run)
    first.fit(make_agent("plain"), "CartPole-v1")
    first.save_checkpoint(tmp_path / "saved.ckpt")
    digests = []
    for _ in "ab":
        agent, trainer = make_agent("plain"), make_trainer(tmp_path, max_env_steps=256, **run)
        sentence = (
            "^The run goes on with new episodes, so it will differ from one that was never "
            r"stopped: an AsyncVectorEnv keeps its state in other processes\.$"
        )
        with pytest.warns(UserWarning, match=sentence):
            trainer.fit(agent, "CartPole-v1", ckpt_path=tmp_path / "saved.ckpt")
        digests.append(digest(agent))
    assert len(set(digests)) == 1


# ---- what is in the files --------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:LearningRateMonitor counts iterations")
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_every_file_a_trainer_writes_loads_without_unpickling(
    tmp_path: Path, precision: Any
) -> None:
    folder = tmp_path / "checkpoints"
    callbacks = [
        ModelCheckpoint(folder, monitor="val_episode_return", save_last=True, save_top_k=2),
        ModelCheckpoint(folder, filename="each {step}", every_n_train_steps=1, save_top_k=-1),
        EarlyStopping("episode_return", mode="max", patience=100),
        LearningRateMonitor(),
    ]
    trainer = make_trainer(
        tmp_path, callbacks=callbacks, enable_checkpointing=True, logger=True, precision=precision,
        max_time="00:01:00:00", max_env_steps=500, evaluate_every_env_steps=256,
        evaluation_episodes=2,
    )  # fmt: skip
    trainer.fit(make_agent("normalised"), "CartPole-v1")
    paths = list(folder.glob("*.ckpt"))
    assert len(paths) >= 6
    for path in paths:
        assert torch.load(path, weights_only=True)["lightning_rl"]["env_steps"] > 0


@pytest.mark.parametrize("case", ["plain", "normalised", "continuous"])
def test_a_saved_agent_needs_nothing_but_its_file(runs: dict[str, Any], case: str) -> None:
    env = CASES[case].get("env", "CartPole-v1")
    path = runs["folder"] / case / "end.ckpt"
    trainer = make_trainer(runs["folder"], max_env_steps=128)
    trained = make_agent(case)
    trainer.fit(trained, env)
    untrained_result = evaluate(trained, env, episodes=3)
    trainer.predict(trained, env, ckpt_path=path)  # puts the saved weights into `trained`

    loaded = PPOAgent.load_from_checkpoint(path)
    assert digest(loaded) == digest(trained)
    assert loaded.config == trained.config
    result = evaluate(loaded, env, episodes=3)
    assert np.array_equal(result.returns, evaluate(trained, env, episodes=3).returns)
    assert not np.array_equal(result.returns, untrained_result.returns)


def test_an_agent_with_a_network_of_its_own_is_loaded_by_giving_the_network(tmp_path: Path) -> None:
    agent = PPOAgent(ActorCriticNetwork(hidden_sizes=(8,)), PPOConfig(128, 64, 2))
    trainer = make_trainer(tmp_path, max_env_steps=128)
    trainer.fit(agent, "CartPole-v1")
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    loaded = PPOAgent.load_from_checkpoint(
        tmp_path / "saved.ckpt", network=ActorCriticNetwork(hidden_sizes=(8,))
    )
    assert digest(loaded) == digest(agent)


# ---- same seed, same run ---------------------------------------------------------------------


@pytest.mark.parametrize("name", AGENTS)
def test_the_same_seed_gives_the_same_bits_again(name: str) -> None:
    assert digest_after_training(name, seed=0) == digest_after_training(name, seed=0)


@pytest.mark.parametrize("name", AGENTS)
def test_another_seed_gives_other_bits(name: str) -> None:
    assert digest_after_training(name, seed=0) != digest_after_training(name, seed=1)


def test_the_same_seed_gives_the_same_bits_in_other_processes(runs: dict[str, Any]) -> None:
    here = {name: digest_after_training(name, seed=0) for name in AGENTS}
    jobs = {"resume": [], "repeat": list(AGENTS)}
    assert runs["digests"] == here
    assert run_in_new_process(jobs, hash_seed=2) == here


def test_seed_everything_fixes_a_trainer_without_a_seed() -> None:
    digests = []
    for seed in (3, 3, 4):
        seed_everything(seed, verbose=False)
        agent = make_agent("plain")
        make_trainer(".", seed=None, max_env_steps=128).fit(agent, "CartPole-v1")
        digests.append(digest(agent))
    assert digests[0] == digests[1] != digests[2]


def test_evaluation_does_not_change_training() -> None:
    digests = []
    for options in ({}, {"evaluate_every_env_steps": 256, "evaluation_episodes": 3}):
        agent = make_agent("normalised")
        make_trainer(".", **options).fit(agent, "CartPole-v1")
        digests.append(digest(agent))
    assert digests[0] == digests[1]


# ---- no hidden global state ------------------------------------------------------------------


def test_importing_leaves_random_numbers_and_warnings_alone() -> None:
    code = """
import random, warnings
import gymnasium, lightning.pytorch, numpy, torch
def state():
    return (torch.get_rng_state().tolist(), str(numpy.random.get_state()), random.getstate(),
            list(warnings.filters), torch.get_num_threads(), set(gymnasium.registry))
before = state()
import lightning_rl
assert state() == before
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", AGENTS)
def test_building_training_and_playing_leave_random_numbers_alone(
    name: str, tmp_path: Path
) -> None:
    before = random_state()
    agent = AGENTS[name]()
    assert random_state() == before
    EnvDataLoader(agent, "CartPole-v1", seed=3)
    assert random_state() == before
    trainer = make_trainer(tmp_path, max_env_steps=128)
    trainer.fit(agent, "CartPole-v1")
    trainer.test(agent, "CartPole-v1", verbose=False)
    evaluate(agent, "CartPole-v1", episodes=2)
    assert random_state() == before


def test_loading_leaves_random_numbers_alone(runs: dict[str, Any]) -> None:
    before = random_state()
    PPOAgent.load_from_checkpoint(runs["folder"] / "plain" / "end.ckpt")
    assert random_state() == before


FINISHED: dict[str, Callable[[], Any]] = {
    "PPO": lambda: PPOAgent(config=PPOConfig(128, 64, 1, anneal_learning_rate=False)),
    "REINFORCE": ReinforceAgent,
    "DQN": lambda: DQNAgent(config=DQNConfig(learning_starts=128, rollout_steps=128)),
}


def resumed_at_its_end(name: str, folder: Path, options: Any, more: Any) -> tuple[Any, Any]:
    """An agent whose run has ended, and one that resumed there with more options."""
    ended, resumed = FINISHED[name](), FINISHED[name]()
    trainer = make_trainer(folder, **options())
    trainer.fit(ended, "CartPole-v1")
    trainer.save_checkpoint(folder / "end.ckpt", weights_only=False)
    trainer = make_trainer(folder, **options() | more)
    trainer.fit(resumed, "CartPole-v1", ckpt_path=folder / "end.ckpt")
    return ended, resumed


@pytest.mark.parametrize("name", FINISHED)
def test_a_run_that_has_used_up_its_budget_trains_no_more(name: str, tmp_path: Path) -> None:
    ended, resumed = resumed_at_its_end(name, tmp_path, dict, {})
    assert resumed.env_steps == ended.env_steps
    assert digest(resumed) == digest(ended)


def test_with_a_larger_budget_it_goes_on(tmp_path: Path) -> None:
    ended, resumed = resumed_at_its_end("PPO", tmp_path, dict, {"max_env_steps": 2000})
    assert ended.env_steps < 2000 <= resumed.env_steps < 2000 + 8


def test_a_run_that_was_stopped_early_trains_no_more(tmp_path: Path) -> None:
    def options() -> dict[str, Any]:
        stopping = EarlyStopping("learning_rate", patience=1, mode="max")
        limits = {"limit_train_batches": 1, "max_env_steps": 100_000}
        return {"callbacks": [stopping], **limits}

    ended, resumed = resumed_at_its_end("PPO", tmp_path, options, {})
    assert resumed.env_steps == ended.env_steps < 100_000
    assert digest(resumed) == digest(ended)


def test_a_checkpoint_of_another_module_is_refused() -> None:
    agent = PPOAgent()
    with pytest.raises(StateError, match="no agent's state"):
        agent.on_load_checkpoint({"state_dict": {}})
