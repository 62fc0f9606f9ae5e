"""An exported policy plays as the agent does, without this package and without Lightning."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from lightning_rl import (
    DQNAgent,
    EnvDataLoader,
    PPOAgent,
    PPOConfig,
    SACAgent,
)
from lightning_rl.errors import StateError
from lightning_rl.export import export_policy
from lightning_rl.testing.probe_envs import IdentityEnv


class Pictures(IdentityEnv):
    def __init__(self, pixels: tuple[int, ...]) -> None:
        super().__init__(spaces.Discrete(2))
        self.observation_space = spaces.Box(0, 255, pixels, np.uint8)

    def _observe(self) -> Any:
        super()._observe()
        return self.np_random.integers(0, 256, self.observation_space.shape, np.uint8)


CASES: dict[str, tuple[Any, Any]] = {
    "PPO": (PPOAgent, "CartPole-v1"),
    "PPO, normalised": (
        lambda: PPOAgent(config=PPOConfig(normalize_observations=True)), "CartPole-v1"
    ),
    "PPO, Box": (PPOAgent, "Pendulum-v1"),
    "PPO, classes": (PPOAgent, "CliffWalking-v1"),
    "PPO, start": (PPOAgent, lambda: IdentityEnv(spaces.Discrete(3, start=5))),
    "PPO, integers": (PPOAgent, lambda: IdentityEnv(spaces.Box(0, 101, (1,), np.int64))),
    "PPO, images": (PPOAgent, lambda: Pictures(pixels=(36, 40, 3))),
    "DQN": (DQNAgent, "CartPole-v1"),
    "SAC": (SACAgent, "Pendulum-v1"),
}  # fmt: skip


def trained(make: Any, env: Any) -> Any:
    agent = make()
    EnvDataLoader(agent, env, num_envs=1, seed=0)
    if agent.observation_normalizer is not None:
        agent.observation_normalizer.moments.update(np.random.default_rng(0).normal(3, 2, (99, 4)))
    return agent


@pytest.mark.parametrize("case", CASES)
def test_the_program_acts_as_predict_does(case: str) -> None:
    agent = trained(*CASES[case])
    program = export_policy(agent).module()
    agent.observation_space.seed(0)
    for count in (1, 2, 300):  # more images are encoded in parts
        raw = np.stack([agent.observation_space.sample() for _ in range(count)])
        raw = raw.clip(-5, 5) if raw.dtype.kind == "f" else raw
        expected, got = agent.predict(raw), program(torch.from_numpy(raw)).numpy()
        assert got.shape == expected.shape
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_dicts_go_in_by_name() -> None:
    space = spaces.Dict({"a": spaces.Box(-1, 1, (2,)), "b": spaces.Discrete(3)})

    class Env(gym.Env):
        observation_space, action_space = space, spaces.Discrete(2)

        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            return space.sample(), {}

        def step(self, action: Any) -> Any:
            return space.sample(), 0.0, False, True, {}

    agent = trained(PPOAgent, Env)
    batch = {"a": np.zeros((4, 2), np.float32), "b": np.arange(4) % 3}
    tensors = {name: torch.from_numpy(part) for name, part in batch.items()}
    assert export_policy(agent).module()(tensors).tolist() == agent.predict(batch).tolist()


ALONE = """
import sys, torch
sys.modules["lightning"] = sys.modules["lightning_rl"] = None  # neither can be imported
print(torch.export.load(sys.argv[1]).module()(torch.ones(2, 4)).tolist())
"""


def test_a_saved_program_needs_torch_alone(tmp_path: Path) -> None:
    agent = trained(*CASES["PPO, normalised"])
    export_policy(agent, tmp_path / "policy.pt2")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ALONE, str(tmp_path / "policy.pt2")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == str(agent.predict(np.ones((2, 4), np.float32)).tolist())


def test_exporting_leaves_the_agent_as_it_was() -> None:
    agent = trained(*CASES["DQN"])
    agent.train()
    agent.target_network.eval()
    modes = [module.training for module in agent.modules()]
    state = agent.generator.get_state()
    export_policy(agent)
    assert [module.training for module in agent.modules()] == modes
    assert torch.equal(agent.generator.get_state(), state)


def test_an_agent_that_met_no_environment_is_refused() -> None:
    with pytest.raises(StateError, match="not met an environment"):
        export_policy(PPOAgent())
