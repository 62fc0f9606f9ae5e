"""Which process of a training is lost, when one is."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from lightning.pytorch import Callback, Trainer
from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]  # it is documented

from lightning_rl.errors import RunError

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 3.0  # a process that is alive tells so within them
POLL_SECONDS = 0.05


class LostRanks(Callback):
    """Names the process that was lost, where the others only find a connection closed.

    Rank 0 keeps a board, a `torch.distributed.TCPStore`. A process that leaves by an error says so
    there. One that loses a connection looks there; if nobody has left, each says that it is alive,
    and who does not is lost. Lightning kills rank 0 within five seconds after the loss of a process
    it has started, so the name is printed at once.

    Attributes:
        message: who was lost, and how; empty if nobody was.
    """

    def __init__(self) -> None:
        self.message = ""
        self._board: TCPStore | None = None

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Open the board, where there are several processes."""
        if trainer.world_size > 1 and self._board is None:
            self._board = open_board(trainer)

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Tell the others of an error of this process; of a lost connection, ask who was lost."""
        if self._board is None:
            return
        rank = trainer.global_rank
        try:
            if not is_lost_connection(exception):
                words = str(exception).partition("\n")[0]
                self._board.set("lost", f"rank {rank} left by {type(exception).__name__}: {words}")
                return
            lost = self._find(self._board, trainer)
        except DistError:  # the board was rank 0's
            lost = "" if rank == 0 else "rank 0 has ended"
        if lost:
            self.message = (
                f"a process of this training was lost: {lost}. What it has printed shows why. The "
                "others end, too; go on from the last checkpoint with as many processes."
            )
            print(self.message, file=sys.stderr, flush=True)

    def _find(self, board: TCPStore, trainer: Any) -> str:
        rank, others = trainer.global_rank, set(range(trainer.world_size)) - {trainer.global_rank}
        board.set(f"alive{rank}", "")
        patience = ANSWER_SECONDS + (rank == 0)  # whose board the others need until then
        ends = time.monotonic() + patience
        while others and time.monotonic() < ends:
            if board.check(["lost"]):
                return board.get("lost").decode()
            for local_rank, code in exit_codes(trainer).items():
                board.set("lost", f"rank {rank + local_rank} has ended with exit code {code}")
            others = {other for other in others if not board.check([f"alive{other}"])}
            time.sleep(POLL_SECONDS)
        named = ", ".join(f"rank {other}" for other in sorted(others))
        return f"{named} has ended, or does not answer" if named else ""


def open_board(trainer: Any) -> TCPStore | None:
    """Open rank 0's board in all processes; None if it can't be reached: then nobody is named."""
    host = trainer.strategy.cluster_environment.main_address
    timeout, board = timedelta(seconds=CONNECT_SECONDS), None
    try:
        if trainer.global_rank == 0:
            board = TCPStore(host, 0, is_master=True, timeout=timeout, wait_for_workers=False)
    except DistError:
        pass
    port = trainer.strategy.broadcast(board.port if board is not None else None)
    try:
        if trainer.global_rank > 0 and port is not None:
            board = TCPStore(host, port, timeout=timeout, wait_for_workers=False)
    except DistError:
        pass
    return board


def is_lost_connection(error: BaseException) -> bool:
    """Tell whether an error is torch.distributed's, about another process."""
    return isinstance(error, DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )


def exit_codes(trainer: Any) -> dict[int, int]:
    """Give the exit codes, by local rank, of processes that Lightning started and that ended."""
    started = getattr(trainer.strategy.launcher, "procs", None) or []
    codes = {i: getattr(process, "poll", lambda: None)() for i, process in enumerate(started, 1)}
    return {local_rank: code for local_rank, code in codes.items() if code is not None}


@contextmanager
def lost_ranks_named(callbacks: list[Any]) -> Iterator[None]:
    """Let a trainer with these callbacks say who was lost.

    Raises:
        RunError: naming the process, where another one was lost.
    """
    lost = LostRanks()
    callbacks.append(lost)
    try:
        yield
    except Exception as error:
        if lost.message:
            raise RunError(lost.message) from error
        raise
    finally:
        callbacks.remove(lost)
