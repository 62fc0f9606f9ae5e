"""Action spaces of every kind, for the tests beside it."""

from __future__ import annotations

import pytest
from gymnasium import Space, spaces

ACTION_SPACES: dict[str, Space] = {
    "discrete": spaces.Discrete(3),
    "discrete_from_5": spaces.Discrete(3, start=5),
    "multi_discrete": spaces.MultiDiscrete([3, 2]),
    "multi_binary": spaces.MultiBinary(3),
    "box": spaces.Box(-1, 1, (2,)),
}

each_action_space = pytest.mark.parametrize("space", ACTION_SPACES.values(), ids=ACTION_SPACES)
