"""Training under Ray Train, which starts lost workers again from the last checkpoint.

Ray is an extra, imported only when it is used.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, Trainer

from lightning_rl.errors import needs_extra

CHECKPOINT = "checkpoint.ckpt"  # as Ray's own callback names it


def library() -> Any:
    """Import `ray.train`, which is an extra.

    Raises:
        ConfigError: if it is not installed.
    """
    with needs_extra("ray", "to train under Ray Train"):
        import ray.train
    return ray.train


class RayReport(Callback):
    """Reports a training to Ray Train after each epoch: its metrics, and a checkpoint.

    It is `ray.train.lightning.RayTrainReportCallback`, but that "step" is the agent's env steps,
    as in every logger, where Ray's counts iterations. The checkpoint is Lightning's, written and
    read back as every checkpoint of an agent, and holds the state of all workers.

    Raises:
        ConfigError: when made, if Ray is not installed.

    Example:
        >>> from lightning_rl import AgentTrainer
        >>> AgentTrainer(callbacks=[RayReport()])  # doctest: +SKIP
    """

    def __init__(self) -> None:
        self._train = library()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Report, in all workers: each waits until the others have, too."""
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        with tempfile.TemporaryDirectory() as folder:
            trainer.save_checkpoint(Path(folder) / CHECKPOINT)  # all workers', by the first
            written = (
                self._train.Checkpoint.from_directory(folder) if trainer.is_global_zero else None
            )
            self._train.report({"epoch": trainer.current_epoch} | metrics, checkpoint=written)


@contextmanager
def last_checkpoint() -> Iterator[Path | None]:
    """Give the checkpoint that a worker shall go on from, for `fit(..., ckpt_path=...)`.

    It is None at the first start, and after a loss of workers the last that was reported.

    Example:
        >>> with last_checkpoint() as path:  # doctest: +SKIP
        ...     trainer.fit(agent, "CartPole-v1", ckpt_path=path)
    """
    reported = library().get_checkpoint()
    if reported is None:
        yield None
        return
    with reported.as_directory() as folder:
        yield Path(folder) / CHECKPOINT
