"""Runs of `wandb`, which are written to files unless they are to be sent, where they can be."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger

from lightning_rl.errors import needs_extra

OFFLINE = ("offline", "dryrun")
SAID: set[str] = set()  # in this process


def library() -> Any:
    """Import wandb, which is an extra.

    Raises:
        ConfigError: if it is not installed.
    """
    with needs_extra("wandb", 'for log="wandb", where "csv" needs no extra'):
        import wandb
    return wandb


def mode_of(online: bool | None) -> str:
    """Choose how W&B works: as asked, as `WANDB_MODE` says, else offline; never ask for a key."""
    asked = os.environ.get("WANDB_MODE", "offline") if online is None else None
    mode = asked or ("online" if online else "offline")
    if mode not in (*OFFLINE, "disabled") and not library().login(prompt=False, verify=False):
        _say_once(
            "there is no login for W&B, so it works offline: `wandb login` makes one, and "
            "`wandb sync` then sends what was written."
        )
        return "offline"
    return mode


def _say_once(text: str) -> None:
    if text not in SAID:
        SAID.add(text)
        warnings.warn(text, stacklevel=2)


def open_run(
    folder: Path,
    project: str,
    name: str,
    group: str,
    job_type: str | None = None,
    online: bool | None = None,
) -> Any:
    """Begin a run of W&B beside others of this process.

    Args:
        folder: for its files.
        project: of W&B.
        name: of the run.
        group: of runs that belong together.
        job_type: what this one does in it.
        online: see `PhaseLog`.
    """
    wandb, mode = library(), mode_of(online)
    is_offline = mode in OFFLINE
    settings = wandb.Settings(console="off", silent=is_offline)  # progress bars are no logs
    return wandb.init(
        dir=str(folder), project=project, name=name, group=group, job_type=job_type, mode=mode,
        reinit="create_new", settings=settings,
    )  # fmt: skip


class PhasesWandbLogger(WandbLogger):
    """A run whose phases each have an x-axis: a step metric for the names with its prefix."""

    def define_steps(self, phase: str) -> None:
        """Let `phase/step` be the x-axis of all that begins with `phase/`."""
        self.experiment.define_metric(f"{phase}/step", hidden=True)
        self.experiment.define_metric(f"{phase}/*", step_metric=f"{phase}/step")


def wandb_logger(run: Any, folder: Path, project: str, has_own_steps: bool) -> WandbLogger:
    """Give a run to Lightning; its x-axis is `trainer/global_step`, or that of each phase."""
    options: dict[str, Any] = {"experiment": run, "save_dir": str(folder), "project": project}
    if has_own_steps:
        return PhasesWandbLogger(**options)
    run.define_metric("trainer/global_step")
    run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
    return WandbLogger(**options)
