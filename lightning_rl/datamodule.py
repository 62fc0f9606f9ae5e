"""An environment that comes in a LightningDataModule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

from lightning.pytorch import LightningDataModule
from lightning.pytorch.utilities.model_helpers import is_overridden

from lightning_rl.loader import EnvDataLoader


def has_validation_data(datamodule: LightningDataModule | None) -> bool:
    """Tell whether a datamodule says what to validate on."""
    return datamodule is not None and is_overridden("val_dataloader", datamodule)


@contextmanager
def early_loaders(
    datamodule: LightningDataModule, make: Callable[[Any, Any], tuple[Any, Any]]
) -> Iterator[None]:
    """Let a datamodule make its loaders as soon as it is set up.

    Lightning asks for them only after it has made the optimizers, but an agent's network takes its
    sizes from the environment.

    Args:
        datamodule: its `train_dataloader` and `val_dataloader` may return environments.
        make: makes the two loaders of what they return, of None where there is no validation.
    """
    module: Any = datamodule
    setup, train, validation = module.setup, module.train_dataloader, module.val_dataloader
    validates = has_validation_data(module)
    loaders: list[Any] = []

    @wraps(setup)
    def early_setup(stage: str) -> None:
        setup(stage)
        loaders[:] = make(train(), validation() if validates else None)

    @wraps(train)
    def kept_train() -> Any:  # a plain loader may be made anew each epoch
        return loaders[0] if isinstance(loaders[0], EnvDataLoader) else train()

    own = {"setup": early_setup, "train_dataloader": kept_train}
    vars(module).update(own, val_dataloader=lambda: loaders[1])
    try:
        yield
    finally:
        for name in (*own, "val_dataloader"):
            del vars(module)[name]
