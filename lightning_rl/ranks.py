"""What the processes (ranks) of one training tell each other."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor

from lightning_rl.errors import ConfigError

Gather = Callable[[NDArray[Any]], NDArray[Any]]  # (...) of this rank -> (R, ...) of all ranks


def alone(array: NDArray[Any]) -> NDArray[Any]:
    """Gather from the only rank there is: (...) -> (1, ...)."""
    return array[None]


class Ranks:
    """All R processes of a training, seen from one of them.

    What is told goes over Lightning's strategy and `torch.distributed`; nothing is unpickled but
    tensors and plain values. Every method must be called by all ranks, in the same order.

    Args:
        trainer: whose processes they are. Default: there is one rank.

    Attributes:
        size: R.
        rank: this one's number, from 0.

    Example:
        >>> ranks = Ranks()
        >>> ranks.size, ranks.rank, ranks.gather(np.zeros(3)).shape
        (1, 0, (1, 3))
    """

    def __init__(self, trainer: Any = None) -> None:
        self.size: int = 1 if trainer is None else trainer.world_size
        self.rank: int = 0 if trainer is None else trainer.global_rank
        self._strategy: Any = None if trainer is None else trainer.strategy

    def gather(self, array: NDArray[Any]) -> NDArray[Any]:
        """Give the arrays, of one shape (...), of all ranks: (R, ...)."""
        if self.size == 1:
            return alone(array)
        parts = self._all(torch.from_numpy(np.ascontiguousarray(array)))
        return np.stack([part.numpy() for part in parts]).reshape(self.size, *array.shape)

    def gather_rows(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Join the rows of all ranks, (n, ...), which may have different n, in the ranks' order."""
        lengths = self.gather(np.array([len(rows)]))[:, 0]
        padded = np.zeros((lengths.max(), *rows.shape[1:]), dtype=rows.dtype)
        padded[: len(rows)] = rows
        parts = zip(self.gather(padded), lengths, strict=True) if len(padded) else ()
        return np.concatenate([part[:length] for part, length in parts] or [rows])

    def gather_plain(self, value: Any, only_first: bool = False) -> list[Any]:
        """Give the values of all ranks: tensors, numbers, text, and lists and dicts of them.

        Args:
            value: of this rank.
            only_first: give them to rank 0 alone, and nothing to the others, which saves memory.
        """
        if self.size == 1:
            return [value]
        packed = _packed(value)
        lengths = self.gather(np.array([len(packed)]))[:, 0]
        padded = torch.nn.functional.pad(packed, (0, int(lengths.max()) - len(packed)))
        parts = self._all(padded, only_first)
        return [_unpacked(part[:n]) for part, n in zip(parts, lengths, strict=False)]

    def means(self, scalars: dict[str, float]) -> dict[str, float]:
        """Average scalars over the ranks that have them."""
        told = self.gather_plain(scalars)
        names = dict.fromkeys(name for one in told for name in one)
        values = {name: [one[name] for one in told if name in one] for name in names}
        return {name: sum(found) / len(found) for name, found in values.items()}

    def broadcast(self, value: Any) -> Any:
        """Give rank 0's value."""
        return value if self.size == 1 else self._strategy.broadcast(value)

    def share(self, total: int) -> range:
        """Give this rank's share of `total` things to do, which differs by one at most."""
        bounds = [total * rank // self.size for rank in (self.rank, self.rank + 1)]
        return range(*bounds)

    def check_alike(self, **facts: str) -> None:
        """Check that all ranks train the same.

        Raises:
            ConfigError: in all of them, naming the first fact that differs, and the rank.
        """
        for rank, other in enumerate(told := self.gather_plain(facts)):
            for name, fact in other.items():
                if fact != told[0][name]:
                    raise ConfigError(
                        f"the processes of this training differ in their {name}: rank 0 has "
                        f"{told[0][name]}, rank {rank} has {fact}; expected the same in all. Each "
                        "process runs the whole script: let none of it depend on the rank."
                    )

    def _all(self, tensor: Tensor, only_first: bool = False) -> list[Tensor]:
        tensor = tensor.to(self._strategy.root_device)
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        if only_first:
            torch.distributed.gather(tensor, parts if self.rank == 0 else None)
        else:
            torch.distributed.all_gather(parts, tensor)
        return [part.cpu() for part in parts] if self.rank == 0 or not only_first else []


def _packed(value: Any) -> Tensor:
    file = io.BytesIO()
    torch.save(value, file)
    return torch.frombuffer(file.getbuffer(), dtype=torch.uint8)


def _unpacked(packed: Tensor) -> Any:
    return torch.load(io.BytesIO(packed.numpy().tobytes()), weights_only=True)
