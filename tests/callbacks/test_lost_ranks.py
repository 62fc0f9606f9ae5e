"""Promises about who is named when a process is lost; test_ddp kills a real one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from torch.distributed import TCPStore

from lightning_rl.callbacks import lost_ranks
from lightning_rl.callbacks.lost_ranks import LostRanks, lost_ranks_named
from lightning_rl.errors import EnvError, RunError

CLOSED = RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer")


def make_trainer(rank: int, size: int = 3, codes: tuple[int | None, ...] = ()) -> Any:
    procs = [SimpleNamespace(poll=lambda code=code: code) for code in codes]
    strategy = SimpleNamespace(launcher=SimpleNamespace(procs=procs))
    return SimpleNamespace(global_rank=rank, world_size=size, strategy=strategy)


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch) -> list[LostRanks]:
    """Three processes' callbacks, on one board."""
    monkeypatch.setattr(lost_ranks, "ANSWER_SECONDS", 0.2)
    options = {"timeout": timedelta(seconds=5), "wait_for_workers": False}
    board = TCPStore("127.0.0.1", 0, is_master=True, **options)
    boards = [board, *(TCPStore("127.0.0.1", board.port, **options) for _ in range(2))]
    callbacks = [LostRanks() for _ in boards]

    def open_board(trainer: Any) -> TCPStore:
        return boards[trainer.global_rank]

    monkeypatch.setattr(lost_ranks, "open_board", open_board)
    for rank, callback in enumerate(callbacks):
        callback.setup(make_trainer(rank), None, "fit")
    return callbacks


def fail(
    ranks: list[LostRanks], errors: dict[int, Exception], codes: tuple[int | None, ...] = ()
) -> list[str]:
    """Let processes fail, of which rank 0 has started the others; give what they say."""
    with ThreadPoolExecutor() as pool:
        told = [
            pool.submit(ranks[r].on_exception, make_trainer(r, codes=codes[r:]), None, error)
            for r, error in errors.items()
        ]
        for done in told:
            done.result()
    return [rank.message for rank in ranks]


def test_who_left_by_an_error_is_named_with_it(ranks: Any) -> None:
    assert fail(ranks, {2: EnvError("it broke\nhere")}) == ["", "", ""]
    first, second, left = fail(ranks, {0: CLOSED, 1: CLOSED})
    assert "lost: rank 2 left by EnvError: it broke. " in first
    assert (second, left) == (first, "")


def test_who_does_not_answer_is_named(ranks: Any, capsys: pytest.CaptureFixture[str]) -> None:
    first, lost, third = fail(ranks, {0: CLOSED, 2: CLOSED})
    assert "lost: rank 1 has ended, or does not answer. " in first
    assert (third, lost) == (first, "")
    assert first in capsys.readouterr().err  # at once: rank 0 may be killed soon


def test_a_process_that_lightning_has_started_is_named_with_its_exit_code(ranks: Any) -> None:
    first, _, third = fail(ranks, {0: CLOSED, 2: CLOSED}, codes=(-9,))
    assert "lost: rank 1 has ended with exit code -9. " in first
    assert third == first


def test_nobody_is_named_if_all_are_alive(ranks: Any) -> None:
    assert fail(ranks, dict.fromkeys(range(3), CLOSED)) == ["", "", ""]


def test_the_error_is_of_the_packages_own_kind() -> None:
    callbacks: list[Any] = []

    def lose(message: str, error: Exception) -> None:
        with lost_ranks_named(callbacks):
            callbacks[0].message = message
            raise error

    with pytest.raises(RunError, match="rank 1 has ended") as caught:
        lose("rank 1 has ended", CLOSED)
    assert caught.value.__cause__ is CLOSED
    with pytest.raises(EnvError):
        lose("", EnvError("its own"))
    assert callbacks == []


def test_one_process_has_no_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_ranks, "open_board", lambda _: pytest.fail("a board was opened"))
    lost = LostRanks()
    lost.setup(make_trainer(0, size=1), None, "fit")
    lost.on_exception(make_trainer(0, size=1), None, CLOSED)
    assert not lost.message
