"""What the actions of well-known environments do, in words."""

from __future__ import annotations

from typing import Any

from gymnasium import spaces

# As the environments' own docstrings say it (Gymnasium 1.x), shortened: from the environment's name
# without its version to what each of its discrete actions does.
ACTION_NAMES = {
    "CartPole": ("push left", "push right"),
    "Acrobot": ("torque -1", "torque 0", "torque 1"),
    "MountainCar": ("accelerate left", "don't accelerate", "accelerate right"),
    "FrozenLake": ("left", "down", "right", "up"),
    "FrozenLake8x8": ("left", "down", "right", "up"),
    "CliffWalking": ("up", "right", "down", "left"),
    "CliffWalkingSlippery": ("up", "right", "down", "left"),
    "Taxi": ("south", "north", "east", "west", "pickup", "drop off"),
    "Blackjack": ("stick", "hit"),
    "LunarLander": ("nothing", "left engine", "main engine", "right engine"),
}


def action_names(env: Any) -> tuple[str, ...]:
    """Give the names of a vector environment's discrete actions, or none where they are not known.

    Example:
        >>> import gymnasium as gym
        >>> action_names(gym.make_vec("CartPole-v1"))
        ('push left', 'push right')
    """
    specs = [getattr(part, "spec", None) for part in (env, *getattr(env.unwrapped, "envs", ()))]
    known = [ACTION_NAMES.get(spec.name, ()) for spec in specs if spec is not None]
    names = next(iter(known), ())
    space = env.single_action_space
    fits = isinstance(space, spaces.Discrete) and space.n == len(names)  # no wrapper changed it
    return names if fits else ()
