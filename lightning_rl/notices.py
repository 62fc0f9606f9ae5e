"""What Lightning prints around a run, of which a user should see only what asks for an action."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.callbacks import ModelSummary

from lightning_rl.notebook.kernel import cell_memory, in_notebook

LIGHTNING_LOGGERS = ("lightning", "lightning.fabric", "lightning.pytorch")
ASKED_FOR = "lightning.pytorch.callbacks.early_stopping"  # speaks only if `verbose=True`
# Warnings that no user of an agent can act on: of torch about Lightning's own code, of the logger
# that takes another one's place, and of a metric that comes with the first episode's end.
IDLE_WARNINGS = (
    r"Starting from v1\.9\.0, `tensorboardX` has been removed",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    r"`ModelCheckpoint\(monitor='episode_(return|length)'\)` could not find the monitored key",
)
FILES_OF_THE_LAST_FIT = r"Checkpoint directory .* exists and is not empty"


@contextmanager
def quiet_lightning(is_quiet: bool = True, repeated: bool = False) -> Iterator[None]:
    """Keep Lightning's notices and advertisements away; warnings stay, but for idle ones.

    It may be used in a `with`, or as a decorator.

    Args:
        is_quiet: False changes nothing.
        repeated: there was a run before, so the folder of checkpoints need not be empty.

    Example:
        >>> from lightning import Trainer
        >>> with quiet_lightning():
        ...     trainer = Trainer(logger=False)
    """
    if not is_quiet:
        yield
        return
    loggers = [logging.getLogger(name) for name in (ASKED_FOR, *LIGHTNING_LOGGERS)]
    levels = [logger.level for logger in loggers]
    loggers[0].setLevel(loggers[0].getEffectiveLevel())
    for logger in loggers[1:]:
        logger.setLevel(max(logger.level, logging.WARNING))
    try:
        with warnings.catch_warnings():
            for message in (*IDLE_WARNINGS, *[FILES_OF_THE_LAST_FIT][: int(repeated)]):
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


class OneLineSummary(ModelSummary):
    """Says in one line what is trained and how many parameters it has.

    `AgentTrainer` puts it in the place of Lightning's table; `enable_model_summary=False` leaves
    it out, and a `ModelSummary` or `RichModelSummary` among the callbacks is kept.
    """

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Print the line, once for all processes, and for all trainings of a notebook's cell."""
        if trainer.is_global_zero:
            parameters = list(pl_module.parameters())
            count = sum(p.numel() for p in parameters)
            frozen = sum(p.numel() for p in parameters if not p.requires_grad)
            also = f", {frozen:,} of them not trained" if frozen else ""
            line = f"{type(pl_module).__name__}: {count:,} parameters{also}"
            said = cell_memory().setdefault("summaries", []) if in_notebook() else []
            if line not in said:  # by another training of the cell
                said.append(line)
                print(line)
