"""Worker processes that fail: the sub-environment is named, within a timeout, and none is left."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from typing import Any

import gymnasium as gym
import pytest
from broken_env import FAILING_STEP, Breaking
from counting_env import zeros
from gymnasium.vector import AsyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import RecordEpisodeStatistics

from lightning_rl import AgentTrainer, PPOAgent
from lightning_rl.envs import workers
from lightning_rl.envs.runner import EnvRunner
from lightning_rl.envs.vectorize import make_vector_env
from lightning_rl.envs.workers import check_start
from lightning_rl.errors import ConfigError, EnvError

# Gymnasium warns of what a worker raised, with its traceback.
pytestmark = pytest.mark.filterwarnings("ignore:.*(Received the|Traceback|Raising the last)")

WORDS = {
    "raises": "raised KeyError",
    "killed": r"lost its process \(exit code -9\)",
    "ends": r"lost its process \(exit code 3\)",
    "hangs": r"did not answer in time \(env_timeout\)",
}


def breaking(how: str, context: str = "fork") -> VectorEnv:
    return AsyncVectorEnv([Breaking, lambda: Breaking(how), Breaking], context=context)


def step_until_it_fails(env: VectorEnv) -> None:
    runner = EnvRunner(env, timeout=0.5)
    runner.reset(seed=5)
    for _ in range(FAILING_STEP):
        runner.step(zeros(env))


@pytest.mark.parametrize("wrap", [lambda env: env, RecordEpisodeStatistics])
@pytest.mark.parametrize("how", WORDS)
def test_a_worker_that_fails_is_named_with_its_seed_and_none_is_left(how: str, wrap: Any) -> None:
    message = f"sub-environment 1 {WORDS[how]} in step 3.* It was reset with seed 6"
    with pytest.raises(EnvError, match=message):
        step_until_it_fails(wrap(breaking(how)))
    assert multiprocessing.active_children() == []


@pytest.mark.slow
@pytest.mark.parametrize("context", ["spawn", "forkserver"])
@pytest.mark.parametrize("how", WORDS)
def test_so_it_is_however_processes_are_started(how: str, context: str) -> None:
    with pytest.raises(EnvError, match=f"sub-environment 1 {WORDS[how]} in step 3"):
        step_until_it_fails(breaking(how, context))
    assert multiprocessing.active_children() == []


def test_a_worker_that_can_not_be_made_is_named_and_none_is_left(capfd: Any) -> None:
    message = "sub-environment 1 lost its process .exit code 1. when the AsyncVectorEnv was made"
    with pytest.raises(EnvError, match=message):
        make_vector_env(lambda: breaking("unmade"), 1)
    assert "no licence" in capfd.readouterr().err
    assert multiprocessing.active_children() == []


@pytest.mark.slow
def test_processes_that_are_not_forked_are_told_to_use_a_main_guard(capfd: Any) -> None:
    with pytest.raises(EnvError, match='under `if __name__ == "__main__":`'):
        make_vector_env(lambda: AsyncVectorEnv([Breaking, Unmade], context="spawn"), 1)
    assert multiprocessing.active_children() == []


class Unmade(Breaking):
    """Can be made in the process that imported it, not in a new one."""

    def __init__(self) -> None:
        super().__init__("unmade")


def test_an_error_that_is_no_workers_stays_what_it_is() -> None:
    def make() -> Any:
        raise KeyError("my own mistake")

    with pytest.raises(KeyError, match="my own mistake"):
        make_vector_env(make, 1)


def test_an_error_before_any_worker_was_started_stays_what_it_is() -> None:
    with pytest.raises(KeyError, match="no licence"):  # of the first, made here to see its spaces
        make_vector_env(lambda: AsyncVectorEnv([Unmade, Breaking]), 1)
    assert multiprocessing.active_children() == []


def test_a_script_without_a_main_guard_is_told_of_it() -> None:
    class Unguarded(AsyncVectorEnv):
        """Fails as a new process does that imports a script which makes the environment."""

        def __init__(self) -> None:
            self.context = "spawn"
            raise RuntimeError("a process was started before the end of its bootstrapping phase")

    message = r"can't be started while a script is being imported.*under `if __name__ == "
    with pytest.raises(EnvError, match=message):
        make_vector_env(Unguarded, 1)


def test_a_worker_that_ignores_being_told_to_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "EXIT_SECONDS", 0.1)
    with pytest.raises(EnvError, match=f"sub-environment 1 {WORDS['hangs']} in step 3"):
        step_until_it_fails(breaking("is deaf"))
    assert multiprocessing.active_children() == []


def test_waiting_may_be_unlimited() -> None:
    env = AsyncVectorEnv([Breaking])
    EnvRunner(env, timeout=None).reset(seed=0)
    env.step_async(zeros(env))
    assert len(env.step_wait()) == 5
    env.close()


@pytest.mark.parametrize("strategy", ["ddp_notebook", "ddp_fork_find_unused_parameters_true"])
def test_workers_do_not_follow_into_a_copy_of_the_process(strategy: str) -> None:
    env = gym.make_vec("CartPole-v1", num_envs=1, vectorization_mode="async")
    with pytest.raises(ConfigError, match=f"strategy='{strategy}' copies this process"):
        check_start(env, strategy)
    check_start(env, "ddp")  # whose processes run the script anew
    env.close()
    check_start(gym.make_vec("CartPole-v1", num_envs=1), strategy)


def test_no_environment_is_sent_to_spawned_processes() -> None:
    with pytest.raises(ConfigError, match="expected 'ddp' in a script, or 'ddp_notebook'"):
        AgentTrainer(strategy="ddp_spawn", accelerator="cpu", devices=2, quiet=True).fit(
            PPOAgent(), "CartPole-v1"
        )


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_go_on_at_an_interrupt_which_a_terminal_sends_to_all(context: str) -> None:
    env = AsyncVectorEnv([Breaking, Breaking], context=context)
    runner = EnvRunner(env)
    runner.reset(seed=0)
    runner.step(zeros(env))
    for worker in multiprocessing.active_children():
        os.kill(worker.pid or 0, signal.SIGINT)
    time.sleep(0.1)
    runner.step(zeros(env))
    env.close()
    assert multiprocessing.active_children() == []
