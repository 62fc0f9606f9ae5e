"""The scalars of one iteration, averaged over its minibatches."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import Metric

LOG_SIGNATURE = inspect.signature(LightningModule.log)


class IterationMetrics:
    """Collects scalars minibatch by minibatch, at the price of a list append each.

    Example:
        >>> metrics = IterationMetrics()
        >>> metrics.add_outputs({"loss": torch.tensor(1.0)})
        >>> metrics.add_outputs({"loss": torch.tensor(3.0)})
        >>> metrics.pop_means()
        [('loss', 2.0, {})]
    """

    def __init__(self) -> None:
        self.is_recording = False
        self._values: dict[str, list[Any]] = {}
        self._options: dict[str, dict[str, Any]] = {}

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Mark the updates of an iteration, in which `self.log` is kept for its mean."""
        self.is_recording = True
        try:
            yield
        finally:
            self.is_recording = False

    def add(self, name: str, value: Any, *args: Any, **options: Any) -> None:
        """Add one value, with the options `LightningModule.log` takes."""
        self._values.setdefault(name, []).append(
            value.detach() if isinstance(value, Tensor) else value
        )
        if args:
            options = LOG_SIGNATURE.bind(None, name, value, *args, **options).arguments
            options = {k: v for k, v in options.items() if k not in ("self", "name", "value")}
        if options:
            self._options[name] = {k: v for k, v in options.items() if k != "batch_size"}

    def add_outputs(self, outputs: Any) -> None:
        """Add what a `training_step` returned: a loss, a dict of scalars, or None to skip."""
        if isinstance(outputs, Tensor):
            outputs = {"loss": outputs}
        for name, value in (outputs or {}).items():
            self.add(name, value)

    def pop_means(self) -> list[tuple[str, Any, dict[str, Any]]]:
        """Give (name, mean, log options) of everything added since the last call."""
        means: list[tuple[str, Any, dict[str, Any]]] = []
        for name, values in self._values.items():
            if isinstance(values[-1], Metric):  # it keeps its own mean, or whatever it measures
                means.append((name, values[-1], self._options.get(name, {})))
                continue
            mean = torch.stack([torch.as_tensor(v, dtype=torch.float32) for v in values]).mean()
            means.append((name, mean.item(), self._options.get(name, {})))
        self._values, self._options = {}, {}
        return means
