"""The scalars of one iteration, averaged over its minibatches."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch import LightningModule
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer
from torchmetrics import Metric

from lightning_rl.errors import NonFiniteError, ShapeError

LOG_SIGNATURE = inspect.signature(LightningModule.log)


def to_array(tensor: Tensor) -> NDArray[Any]:
    """View a tensor as an array (bfloat16, which numpy lacks, becomes float32)."""
    tensor = (tensor.detach() if tensor.requires_grad else tensor).cpu()
    return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def check_loss(loss: Tensor) -> None:
    """Check what `training_step` returned, before it is differentiated.

    Raises:
        ShapeError: if the loss is not a scalar.
        NonFiniteError: if it is NaN or infinite. The optimizer is not stepped.
    """
    if loss.ndim != 0:
        raise ShapeError(
            f"training_step returned a loss of shape {tuple(loss.shape)}; expected a scalar. "
            "Take its mean()."
        )
    if not math.isfinite(loss.item()):
        raise NonFiniteError(
            f"training_step returned a loss of {loss.item()}; expected a finite number. The "
            "optimizer was not stepped. Try a smaller learning rate, or check the loss."
        )


def clip_norm(optimizer: Optimizer, max_norm: float) -> None:
    """Scale the gradients down to a joint norm of `max_norm`, if theirs is larger."""
    groups = optimizer.param_groups
    parameters = [p for group in groups for p in group["params"] if p.grad is not None]
    norm = get_total_norm([p.grad for p in parameters])
    if norm > max_norm:  # mostly it is not, and scaling by 1 would cost as much as the norm
        clip_grads_with_norm_(parameters, max_norm, norm)


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
