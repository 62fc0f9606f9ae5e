"""An episode that several tests look at."""

import pytest
from painter import Painter, bound

from lightning_rl import PPOAgent
from lightning_rl.notebook.recording import EpisodeRecord, record_episode


@pytest.fixture
def painted() -> EpisodeRecord:
    return record_episode(bound(PPOAgent(), Painter), Painter)
