"""Tuple observations have names, in every step and at every episode's end."""

from __future__ import annotations

from typing import Any

import numpy as np
from counting_env import CountingEnv, zeros
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from lightning_rl.envs.runner import EnvRunner
from lightning_rl.envs.vectorize import make_vector_env


class Pair(CountingEnv):
    """Observes the episode and the step apart."""

    observation_space: Any = spaces.Tuple([spaces.Box(-1, 1e6, (1,)), spaces.Box(-1, 1e6, (1,))])

    def observe(self) -> Any:
        return tuple(np.array([number], np.float32) for number in (self.episode, self.t))


def test_where_only_some_episodes_end_their_last_observations_are_named_too() -> None:
    same_step = AutoresetMode.SAME_STEP
    env = SyncVectorEnv([lambda: Pair([2]), lambda: Pair([5])], autoreset_mode=same_step)
    runner = EnvRunner(make_vector_env(env, 1))
    runner.reset(seed=0)
    for _ in range(2):
        step = runner.step(zeros(env))
    assert {key: part[:, 0].tolist() for key, part in step.observations.items()} == {
        "0": [1.0, 0.0], "1": [0.0, 2.0]
    }  # fmt: skip
    assert step.final_observations == {0: {"0": np.float32([0.0]), "1": np.float32([2.0])}}
