"""What the updates of all agents share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from lightning_rl.errors import NonFiniteError, ShapeError


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


def can_fuse(trainer: Trainer) -> bool:
    """Tell whether Adam may be fused, which saves a third of a CPU update.

    With mixed precision it may not: Lightning can't clip the gradients then.
    """
    return "mixed" not in str(trainer.precision)


def check_gradients(module: LightningModule, optimizer: Any) -> None:
    """Check the gradients before a step of a module in training.

    With `precision="16-mixed"`, large ones are expected now and then: the scaler leaves such a step
    out and scales less. They are refused when it has come below 1.

    Raises:
        NonFiniteError: naming the first that is NaN or infinite. The optimizer is not stepped.
    """
    if not _all_finite(_gradients(optimizer)):
        scaler = getattr(module.trainer.precision_plugin, "scaler", None)
        if scaler is None or scaler.get_scale() < 1.0:
            _refuse_gradients(module)


def _gradients(optimizer: Any) -> list[Tensor]:
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return [p.grad for p in parameters if p.grad is not None]


def _refuse_gradients(module: nn.Module) -> None:
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    if name := _first_non_finite(gradients):
        raise NonFiniteError(
            f"the gradient of {name} is NaN or infinite; expected finite numbers. The optimizer "
            "was not stepped. Try a smaller learning rate, or check the network and the loss."
        )


AFTER_UPDATES = (
    "It became so in this iteration's updates, of which nothing is saved: go on from the last "
    "checkpoint, with a smaller learning rate."
)


def check_parameters(module: nn.Module, advice: str = AFTER_UPDATES) -> None:
    """Check the parameters, after an iteration's updates or before they are used.

    Raises:
        NonFiniteError: naming the first that is NaN or infinite.
    """
    named = {name: p for name, p in module.named_parameters() if not is_lazy(p)}
    if not _all_finite(list(named.values())) and (name := _first_non_finite(named)):
        raise NonFiniteError(
            f"the parameter {name} is NaN or infinite; expected finite numbers. {advice}"
        )


def _all_finite(tensors: list[Tensor]) -> bool:
    """Tell whether the sum of all numbers is finite, which a single NaN or infinity spoils.

    One sum over all of them takes a sixth of the time of their norm.
    """
    devices: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        devices.setdefault(tensor.device, []).append(tensor.detach().reshape(-1))
    return all(math.isfinite(torch.cat(parts).sum()) for parts in devices.values())


def _first_non_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """Name the first tensor that holds NaN or inf: none if only their sum is too large."""
    bad = (name for name, tensor in tensors.items() if not tensor.isfinite().all())
    return next(bad, None)


def clip_norm(module: Any, optimizer: Any, max_norm: float | None) -> None:
    """Scale the gradients down to a joint norm of `max_norm`, if theirs is larger.

    None leaves them as they are, but checks them all the same.

    Raises:
        NonFiniteError: if one is NaN or infinite. The optimizer is not stepped.
    """
    if max_norm is None:
        check_gradients(module, optimizer)
        return
    groups = optimizer.param_groups
    parameters = [p for group in groups for p in group["params"] if p.grad is not None]
    norm = get_total_norm([p.grad for p in parameters])
    if not norm <= max_norm:  # mostly it is, and scaling by 1 would cost as much as the norm
        if not math.isfinite(norm):  # NaN compares with nothing
            _refuse_gradients(module)
        clip_grads_with_norm_(parameters, max_norm, norm)


def has_stopped_early(trainer: Any) -> bool:
    """Tell whether an `EarlyStopping` of the trainer has lost its patience already."""
    stoppings = [c for c in trainer.callbacks if isinstance(c, EarlyStopping)]
    return any(stopping.wait_count >= stopping.patience for stopping in stoppings)


def annealed_adam(
    module: LightningModule, learning_rate: float, weight_decay: float = 0.0, anneal: bool = True
) -> Any:
    """Make Adam for a module in training, its learning rate annealed to 0 at the run's end.

    Args:
        module: whose parameters are trained, by its `trainer`.
        learning_rate: the first one.
        weight_decay: L2 penalty within Adam.
        anneal: linearly, where the length of the run is known.

    Returns:
        What `configure_optimizers` may return.
    """
    fused = can_fuse(module.trainer)
    optimizer = Adam(module.parameters(), learning_rate, weight_decay=weight_decay, fused=fused)
    steps = module.trainer.estimated_stepping_batches
    if not anneal or not 0 < steps < math.inf:
        return optimizer
    scheduler = LambdaLR(optimizer, lambda step: max(1.0 - step / steps, 0.0))
    return [optimizer], [{"scheduler": scheduler, "interval": "step"}]
