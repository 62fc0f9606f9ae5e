"""What the updates of all agents share."""

from __future__ import annotations

import math
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Adam, Optimizer
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


def check_gradients(module: nn.Module) -> None:
    """Check the gradients before a step.

    Raises:
        NonFiniteError: naming the first that is NaN or infinite. The optimizer is not stepped.
    """
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    if name := _first_non_finite(gradients):
        raise NonFiniteError(
            f"the gradient of {name} is NaN or infinite; expected finite numbers. The optimizer "
            "was not stepped. Try a smaller learning rate, or check the network and the loss."
        )


def check_parameters(module: nn.Module) -> None:
    """Check the parameters after an iteration's updates.

    Where gradients are not clipped, a bad one is found here: their norm would take up to 4 % of
    an update's time, where it is not needed anyway.

    Raises:
        NonFiniteError: naming the first that is NaN or infinite.
    """
    if name := _first_non_finite(dict(module.named_parameters())):
        raise NonFiniteError(
            f"the parameter {name} became NaN or infinite in this iteration's updates; expected "
            "finite numbers. Nothing of it is saved: go on from the last checkpoint, with a "
            "smaller learning rate."
        )


def _first_non_finite(tensors: dict[str, Tensor]) -> str | None:
    """Name the first tensor that holds NaN or inf; the joint norm of finite ones tells at once."""
    if math.isfinite(get_total_norm([tensor.detach() for tensor in tensors.values()])):
        return None
    bad = (name for name, tensor in tensors.items() if not tensor.isfinite().all())
    return next(bad, None)  # none of them, if only the norm is too large for a number


def clip_norm(module: nn.Module, optimizer: Optimizer, max_norm: float) -> None:
    """Scale the gradients down to a joint norm of `max_norm`, if theirs is larger.

    Raises:
        NonFiniteError: if one is NaN or infinite. The optimizer is not stepped.
    """
    groups = optimizer.param_groups
    parameters = [p for group in groups for p in group["params"] if p.grad is not None]
    norm = get_total_norm([p.grad for p in parameters])
    if not norm <= max_norm:  # mostly it is, and scaling by 1 would cost as much as the norm
        if not math.isfinite(norm):  # NaN compares with nothing
            check_gradients(module)
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
