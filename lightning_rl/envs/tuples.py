"""Tuple observations, given by name as those of a Dict are."""

from __future__ import annotations

from typing import Any

from gymnasium import Space, spaces
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space


def without_tuple(space: Space) -> Space:
    """Give a Tuple's space as a Dict whose keys are "0", "1", ...; and any other as it is.

    Example:
        >>> without_tuple(spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)]))
        Dict('0': Discrete(2), '1': Discrete(3))
    """
    return spaces.Dict(by_name(space.spaces)) if isinstance(space, spaces.Tuple) else space


def by_name(observations: Any) -> Any:
    """Give a tuple of observations as a dict; and any other as they are."""
    if not isinstance(observations, tuple):
        return observations
    return {str(index): part for index, part in enumerate(observations)}


class NamedTupleObservations(VectorWrapper):
    """Gives Tuple observations, such as Blackjack's, as a dict, which all else can hold.

    Args:
        env: a vector environment whose sub-environments observe a Tuple.
    """

    def __init__(self, env: VectorEnv) -> None:
        super().__init__(env)
        self.single_observation_space = without_tuple(env.single_observation_space)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)

    def reset(
        self, *, seed: Any = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset, and name the observations' parts."""
        observations, infos = self.env.reset(seed=seed, options=options)
        return by_name(observations), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, and name the observations' parts, an ended episode's last ones too."""
        observations, rewards, terminated, truncated, infos = self.env.step(actions)
        final = infos.get("final_obs")
        if final is not None:
            for index, observation in enumerate(final):
                final[index] = by_name(observation)
        return by_name(observations), rewards, terminated, truncated, infos
