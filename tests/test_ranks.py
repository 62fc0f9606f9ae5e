"""Promises about what processes tell each other; test_ddp has them for two real ones."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lightning_rl.ranks import Ranks


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize("total", [0, 1, 5, 100])
def test_all_is_done_once_in_shares_that_differ_by_one_at_most(size: int, total: int) -> None:
    trainers = [SimpleNamespace(world_size=size, global_rank=r, strategy=None) for r in range(size)]
    shares = [Ranks(trainer).share(total) for trainer in trainers]
    assert [done for share in shares for done in share] == list(range(total))
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1


def test_one_process_hears_itself() -> None:
    ranks = Ranks()
    rows = np.zeros((0, 4))
    assert ranks.gather_rows(rows).shape == (0, 4)
    assert ranks.gather_rows(rows + 1).tolist() == []
    assert ranks.gather(np.array(3)).tolist() == [3]
    assert ranks.gather_plain({"a": 1}, only_first=True) == [{"a": 1}]
    assert ranks.means({"loss": 0.5}) == {"loss": 0.5}
    assert ranks.broadcast("seed") == "seed"
    ranks.check_alike(agent="PPOAgent")
