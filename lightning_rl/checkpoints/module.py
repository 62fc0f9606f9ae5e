"""A LightningModule whose checkpoints are safe files, under any trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from lightning.pytorch import LightningModule
from lightning.pytorch.plugins import TorchCheckpointIO

from lightning_rl.checkpoints.safe_file import SafeCheckpointIO, open_checkpoint, read_checkpoint
from lightning_rl.errors import ConfigError

PROCESSES_KEY = "lightning_rl_processes"  # in a checkpoint of a training in several


class CheckpointedModule(LightningModule):
    """Base of agents and world models: what they save and load goes through `SafeCheckpointIO`."""

    def setup(self, stage: str) -> None:
        """Put safe files in the place of Lightning's. Overriding needs `super()`."""
        strategy: Any = self.trainer.strategy
        if type(strategy.checkpoint_io) is TorchCheckpointIO:  # else it is the user's choice
            strategy.checkpoint_io = SafeCheckpointIO()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note how many processes train together. Overriding needs `super()`."""
        if self.trainer.world_size > 1:
            checkpoint[PROCESSES_KEY] = self.trainer.world_size

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check, where training goes on, that it is in as many processes. Needs `super()`.

        Raises:
            ConfigError: if it is not: each has environments, data and random numbers of its own.
        """
        try:
            own = self.trainer.world_size if self.trainer.training else None
        except RuntimeError:  # without a trainer
            return
        saved = checkpoint.get(PROCESSES_KEY, 1)
        if own not in (None, saved):
            raise ConfigError(
                f"the checkpoint was written by a training in {saved} processes; this trainer has "
                f"{own}. Expected as many (devices times num_nodes), so that each goes on with its "
                f"own environments and data. To train its weights further in another number, load "
                f"them with {type(self).__name__}.load_from_checkpoint, and fit without ckpt_path."
            )

    @classmethod
    def load_from_checkpoint(
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a module from a checkpoint; nothing is unpickled.

        Args:
            checkpoint_path: a file, or the URL of one.
            map_location: as in `torch.load`. Default: the CPU.
            hparams_file: as in Lightning.
            strict: as in Lightning.
            weights_only: True, whatever is given.
            **kwargs: arguments of the constructor, in place of those saved.

        Raises:
            CheckpointError: if there is no such file, or it is damaged, or holds other things than
                tensors and plain values.
        """
        with open_checkpoint(checkpoint_path) as file:
            read_checkpoint(file, checkpoint_path, "meta")  # its sizes, before any is allocated
            file.seek(0)
            kwargs["_instantiator"] = None  # else the file names what is imported to make things
            return super().load_from_checkpoint(
                file, map_location or "cpu", hparams_file, strict, weights_only=True, **kwargs
            )
