"""The phases of one experiment in its logs: collecting, a world model, an agent.

In one run, each phase has a prefix and an x-axis of its own; split, each is a run of one group.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from lightning_rl.callbacks.run_facts import run_facts
from lightning_rl.errors import ConfigError
from lightning_rl.experiments.weights_and_biases import open_run, wandb_logger
from lightning_rl.settings import truth

Kind = Literal["csv", "tensorboard", "wandb"]
KINDS = ("csv", "tensorboard", "wandb")


class PhaseLog:
    """Makes the loggers of an experiment's phases: of one run, or split, a run a phase.

    In one run, `loss` of the phase `agent` is `agent/loss`, and each phase has an x-axis of its
    own, which goes on from round to round: `agent/step`, W&B's step metric of `agent/*`. Split,
    each phase of each round is a run with its plain names: W&B's of one group, with the phase as
    its job type; or a folder beside the others.

    Args:
        kind: "csv", "tensorboard" or "wandb".
        directory: where a new folder is made for this experiment, named `name` and the time.
        name: of the experiment.
        split: a run a phase. Default: one run.
        project: W&B's.
        online: send to W&B as it comes. Default: as `WANDB_MODE` says, and without it offline:
            files are written, which `wandb sync` sends. Without a login it is offline, too.
        **facts: what else to log with every run under `experiment`, such as `seed` and `env`;
            versions and the git revision are.

    Attributes:
        folder: of this experiment's files.

    Raises:
        ConfigError: for another kind, or if its library is not installed.

    Example:
        >>> import tempfile
        >>> with PhaseLog("csv", tempfile.mkdtemp(), seed=0) as log:
        ...     log.phase("collect").log_metrics({"episode_return": 20.0}, step=20)
        ...     log.phase("agent").log_metrics({"loss": 0.5}, step=64)
        >>> print((log.folder / "metrics.csv").read_text().strip())
        agent/loss,collect/episode_return,step
        ,20.0,20
        0.5,,64
    """

    def __init__(
        self,
        kind: Kind,
        directory: str | Path,
        name: str = "experiment",
        split: bool = False,
        project: str = "lightning_rl",
        online: bool | None = None,
        **facts: Any,
    ) -> None:
        if kind not in KINDS:
            raise ConfigError(f"kind={kind!r}; expected one of {', '.join(map(repr, KINDS))}.")
        self.kind, self.split, self.project = kind, truth("split", split), project
        self.online, self.facts = online, facts
        self.folder = new_folder(Path(directory), name)
        self._one: Logger | None = None
        self._phases: dict[str, PhaseLogger] = {}
        self._loggers: list[Logger] = []

    def phase(self, name: str, round_number: int = 0) -> Logger:
        """Give the logger of a phase, for a trainer or for what has none.

        Args:
            name: of the phase, the prefix of its names.
            round_number: how often there was such a phase before.
        """
        if self.split:
            return self._open(
                f"{name}_{round_number}", name, {"phase": name, "round": round_number}
            )
        if self._one is None:
            self._one = self._open("", None, {})
        logger = self._phases.setdefault(name, PhaseLogger(self._one, name))
        logger.begin(round_number)
        return logger

    def _open(self, version: str, job_type: str | None, facts: dict[str, Any]) -> Logger:
        """Begin a run, with what it is made of."""
        parts: dict[str, Any] = {"save_dir": str(self.folder), "version": version}
        logger: Logger
        if self.kind == "csv":
            logger = CSVLogger(name="", **parts)
        elif self.kind == "tensorboard":
            logger = TensorBoardLogger(name="", **parts)
        else:
            group = self.folder.name
            run = open_run(
                self.folder, self.project, version or group, group, job_type, self.online
            )
            logger = wandb_logger(run, self.folder, self.project, has_own_steps=not self.split)
        logger.log_hyperparams({"experiment": run_facts(**self.facts, **facts)})
        self._loggers.append(logger)
        return logger

    def close(self) -> None:
        """Write what is not written yet, and end W&B's runs."""
        for logger in self._loggers:
            logger.save()
            if self.kind == "wandb":
                logger.experiment.finish()  # type: ignore[attr-defined]
        self._loggers, self._phases, self._one = [], {}, None

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it, whatever has happened."""
        self.close()


class PhaseLogger(Logger):
    """A phase's view of a logger that several share: names with a prefix, steps that go on.

    Args:
        logger: of the run.
        name: of the phase.
    """

    def __init__(self, logger: Logger, name: str) -> None:
        super().__init__()
        self.shared, self._name, self._round = logger, name, 0
        self._last, self._before = -1, 0  # steps: logged last, and of the rounds before
        self._is_new_round = False
        self._made_of: dict[str, Any] = {}  # hyperparameters come in parts, and a logger keeps one
        if hasattr(logger, "define_steps"):
            logger.define_steps(name)

    def begin(self, round_number: int) -> None:
        """Go on with a further round, whose steps may start anew."""
        self._is_new_round = self._is_new_round or round_number != self._round
        self._round = round_number

    @property
    def name(self) -> str:
        """The name of the phase."""
        return self._name

    @property
    def version(self) -> int | str | None:
        """The version of the run."""
        return self.shared.version

    @property
    def save_dir(self) -> str | None:
        """Where the run is logged."""
        return self.shared.save_dir

    @property
    def experiment(self) -> Any:
        """What the run's logger writes with."""
        return self.shared.experiment  # type: ignore[attr-defined]

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log scalars, or W&B's media, by the phase's own steps."""
        step = self._continued(self._last + 1 if step is None else step)
        named = {f"{self.name}/{name}": value for name, value in metrics.items()}
        if hasattr(self.shared, "define_steps"):
            self.shared.log_metrics(
                named | {f"{self.name}/step": step, f"{self.name}/round": self._round}
            )
        else:
            self.shared.log_metrics(named, step)

    def _continued(self, step: int) -> int:
        """Put a round's steps behind those of the rounds before, unless it counts on by itself."""
        if self._is_new_round:
            self._before = self._last if step <= self._last else 0
            self._is_new_round = False
        self._last = step + self._before
        return self._last

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log the phase's settings under its name."""
        self._made_of |= dict(params)
        self.shared.log_hyperparams({self.name: self._made_of})

    @rank_zero_only
    def save(self) -> None:
        """Write what is not written yet."""
        self.shared.save()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the phase; the run goes on."""
        self.shared.save()


def new_folder(directory: Path, name: str) -> Path:
    """Make a folder of the time, which nobody else has."""
    stamp = f"{name}_{time.strftime('%Y%m%d_%H%M%S')}"
    number = 0
    while True:
        folder = directory / (f"{stamp}_{number}" if number else stamp)
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def log_episodes(
    logger: Logger, returns: Iterable[float], lengths: Iterable[int], env_step: int = 0
) -> None:
    """Log episodes that no trainer has seen, by the env steps collected until their ends.

    Args:
        logger: of the phase.
        returns: of each episode, in their order; NaN for one that was cut, which is not logged.
        lengths: of each, in env steps.
        env_step: env steps collected before.
    """
    for episode_return, length in zip(returns, lengths, strict=True):
        env_step += int(length)
        if math.isfinite(episode_return):
            scalars = {"episode_return": float(episode_return), "episode_length": float(length)}
            logger.log_metrics(scalars, env_step)
    logger.save()
