"""Who closes: the package what it made, the user what the user gave."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

import pytest
from counting_env import CountingEnv
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

from lightning_rl.envs.closing import close_env, close_made
from lightning_rl.envs.vectorize import make_vector_env


class Door(CountingEnv):
    """Tells whether it was closed."""

    def __init__(self) -> None:
        super().__init__([3])
        self.is_open = True

    def close(self) -> None:
        self.is_open = False


def test_what_a_function_made_is_closed() -> None:
    env: Any = make_vector_env(Door, 2)
    close_made(env, Door)
    assert [sub_env.is_open for sub_env in env.envs] == [False, False]


@pytest.mark.parametrize("wrap", [lambda env: env, lambda env: SyncVectorEnv([lambda: env])])
def test_what_the_user_made_stays_open(wrap: Any) -> None:
    door = Door()
    close_made(make_vector_env(wrap(door), 1), wrap(door))
    assert door.is_open


def test_of_a_list_only_what_was_made_here_is_closed() -> None:
    given = Door()
    env: Any = make_vector_env([given, Door], 1)
    close_made(env, [given, Door])
    assert [sub_env.is_open for sub_env in env.envs] == [True, False]


@pytest.mark.parametrize("is_killed", [False, True])
def test_workers_end_even_if_one_of_them_is_gone(is_killed: bool) -> None:
    env = AsyncVectorEnv([Door, Door])
    if is_killed:
        os.kill(env.processes[1].pid, 9)
        env.processes[1].join()
    close_env(env)
    close_env(env)
    assert env.closed
    assert multiprocessing.active_children() == []
