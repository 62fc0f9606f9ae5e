"""Probe environments: each has a known right answer, which one kind of mistake misses."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import Space, spaces

from lightning_rl.errors import SpaceError


class _ProbeEnv(gym.Env):
    """Pays 1 a step and observes nothing, in episodes of `length` env steps, then truncated."""

    def __init__(self, length: int, observation_space: Space, action_space: Space) -> None:
        self.length, self.t, self.first_episode, self.episode = length, 0, 0, -1
        self.observation_space, self.action_space = observation_space, action_space

    def _begin(self) -> None:
        pass

    def _observe(self) -> Any:
        return np.zeros(1, dtype=np.float32)

    def _pay(self, action: Any) -> float:
        return 1.0

    def _terminates(self) -> bool:
        return False

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.t, self.episode = 0, self.episode + 1 if seed is None else self.first_episode
        self._begin()
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        reward, terminates = self._pay(action), self._terminates()
        self.t += 1
        ended = self.t >= self.length
        return self._observe(), reward, ended and terminates, ended and not terminates, {}


class ConstantRewardEnv(_ProbeEnv):
    """Pays 1 for ever, truncated every `length` env steps. Proves the bootstrap at truncation.

    There is nothing to observe, (1,) zeros, so one number is the value: V = 1 / (1 - γ). An agent
    that takes truncation for termination learns less: 1 / (1 - γ (1 - 1/length)) if λ = 0.

    Example:
        >>> env = ConstantRewardEnv(length=2)
        >>> observation, _ = env.reset()
        >>> [env.step(0)[1:4] for _ in range(2)]  # reward, terminated, truncated
        [(1.0, False, False), (1.0, False, True)]
    """

    def __init__(self, length: int = 8) -> None:
        super().__init__(length, spaces.Box(-1, 1, (1,)), spaces.Discrete(2))


class DelayedRewardEnv(_ProbeEnv):
    """Pays 1 in the last of `length` env steps. Proves discounting, and no bootstrap at an end.

    The observation is the step t, so the value depends on it: V(t) = γ^(length - 1 - t). Then the
    episode is terminated. With `length=1`, it is the simplest environment there is: V = 1.

    Example:
        >>> env = DelayedRewardEnv(length=2)
        >>> observation, _ = env.reset()
        >>> [env.step(0)[:3] for _ in range(2)]  # observation, reward, terminated
        [(1, 0.0, False), (2, 1.0, True)]
    """

    def __init__(self, length: int = 3) -> None:
        super().__init__(length, spaces.Discrete(length + 1), spaces.Discrete(2))

    def _observe(self) -> int:
        return self.t

    def _pay(self, action: Any) -> float:
        return float(self.t == self.length - 1)

    def _terminates(self) -> bool:
        return True


class IdentityEnv(_ProbeEnv):
    """Pays 1 if the action equals the observation. Proves that actions of every kind are learned.

    Observations are drawn anew in each step. The best return is `length`, where a time limit
    truncates; random actions get length/n for Discrete(n). A Box action is paid 1 - mean |d|, for
    its distance d to the observation in parts of the range.

    Args:
        space: of observations and actions: Discrete, MultiDiscrete, MultiBinary or a bounded Box.
        length: env steps of an episode.

    Raises:
        SpaceError: if the space is of another kind, or has no bounds.

    Example:
        >>> env = IdentityEnv(spaces.MultiDiscrete([3, 2]))
        >>> observation, _ = env.reset(seed=0)
        >>> env.step(observation)[1]
        1.0
    """

    def __init__(self, space: Space = spaces.Discrete(2), length: int = 8) -> None:
        bounded = isinstance(space, spaces.Box) and space.is_bounded()
        finite = (spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)
        if not bounded and not isinstance(space, finite):
            raise SpaceError(f"got {space}; expected Discrete, Multi* or a Box with bounds.")
        super().__init__(length, copy.deepcopy(space), copy.deepcopy(space))

    def _observe(self) -> Any:
        self.action_space.seed(int(self.np_random.integers(2**31)))  # np_random is all the state
        self.target = self.action_space.sample()
        return self.target

    def _pay(self, action: Any) -> float:
        space = self.action_space
        if isinstance(space, spaces.Box):
            return 1.0 - float(np.mean(np.abs(action - self.target) / (space.high - space.low)))
        return float(np.array_equal(action, self.target))


class TwoStateEnv(_ProbeEnv):
    """The action is the next state; the way to the good one costs. Proves that actions see ahead.

    An episode starts in state 0. To stay there pays 0, to go to state 1 pays -0.5, to stay there
    1, to go back 0. For γ > 1/3 the best is to go to 1: V(1) = 1 / (1 - γ), V(0) = γ V(1) - 0.5,
    return length - 1.5. Without foresight an agent stays in 0, return 0. An episode is truncated
    after `length` env steps.

    Example:
        >>> env = TwoStateEnv(length=3)
        >>> observation, _ = env.reset()
        >>> [env.step(1)[1] for _ in range(3)]
        [-0.5, 1.0, 1.0]
    """

    def __init__(self, length: int = 8) -> None:
        super().__init__(length, spaces.Discrete(2), spaces.Discrete(2))

    def _begin(self) -> None:
        self.state = 0

    def _observe(self) -> int:
        return self.state

    def _pay(self, action: Any) -> float:
        came_from, self.state = self.state, int(action)
        return ((0.0, -0.5), (0.0, 1.0))[came_from][self.state]


class CountingEnv(_ProbeEnv):
    """Observes (episode, step), the step from 0. Proves where each row of a buffer comes from.

    The reward is the number of the step it leads to: n env steps return n (n + 1) / 2.

    Args:
        lengths: env steps of the episodes, over and over. Default: each drawn from 1 to 6.
        truncation: chance that an episode's end is a truncation; else it is a termination.
        first_episode: the number of the first one, and of the first after a seeded reset.

    Example:
        >>> env = CountingEnv(lengths=[1, 2])
        >>> [env.reset()[0].tolist(), env.step(0)[0].tolist(), env.reset()[0].tolist()]
        [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    """

    def __init__(
        self, lengths: Sequence[int] = (), truncation: float = 0.0, first_episode: int = 0
    ) -> None:
        super().__init__(0, spaces.Box(0, 2**24, (2,)), spaces.Discrete(2))
        self.lengths, self.truncation = tuple(lengths), truncation
        self.first_episode, self.episode = first_episode, first_episode - 1

    def _begin(self) -> None:
        drawn = int(self.np_random.integers(1, 7))
        index = (self.episode - self.first_episode) % max(1, len(self.lengths))
        self.length = self.lengths[index] if self.lengths else drawn
        self.truncates = bool(self.np_random.random() < self.truncation)

    def _observe(self) -> Any:
        return np.array([self.episode, self.t], dtype=np.float32)

    def _pay(self, action: Any) -> float:
        return float(self.t + 1)

    def _terminates(self) -> bool:
        return not self.truncates
