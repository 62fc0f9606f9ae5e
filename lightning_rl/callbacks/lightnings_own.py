"""Lightning's own callbacks, where counting env steps changes what they can do."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from lightning.pytorch.callbacks import (
    BatchSizeFinder,
    Callback,
    DeviceStatsMonitor,
    EarlyStopping,
    LearningRateFinder,
    LearningRateMonitor,
    ModelCheckpoint,
    OnExceptionCheckpoint,
    RichProgressBar,
    StochasticWeightAveraging,
)

from lightning_rl.errors import ConfigError

EPISODE_METRICS = ("episode_return", "episode_length")

REFUSED: dict[type[Callback], str] = {
    LearningRateFinder: (
        "The learning rate finder looks for the fastest fall of a loss, but an agent's loss need "
        "not fall while it learns. Set learning_rate in the agent's config, and compare returns "
        "over several seeds."
    ),
    BatchSizeFinder: (
        "The batch size finder fills the memory, but an agent's minibatches are cut from its "
        "rollout or buffer. Set batch_size in the agent's config."
    ),
    OnExceptionCheckpoint: (
        "OnExceptionCheckpoint saves amid an iteration, from which no resume is exact. Leave it "
        "out: an interrupt saves at the iteration's end, and ModelCheckpoint after every epoch, or "
        "with every_n_train_steps after so many iterations."
    ),
}
COUNTS_EPOCHS = (
    "StochasticWeightAveraging counts epochs, and this run has a budget of env steps and no last "
    "epoch. Expected AgentTrainer(max_epochs=...), or lightning.pytorch.callbacks.WeightAveraging, "
    "which needs none."
)
NO_BOUNDARY = (
    "save_on_exception saves nothing of an agent: an exception comes amid an iteration, from which "
    "no resume is exact. An interrupt saves at the iteration's end by itself; for other exceptions "
    "there is the last checkpoint: give every_n_train_steps (iterations) to have it more often."
)
MISLEADING: dict[type[Callback], str] = {
    LearningRateMonitor: (
        "LearningRateMonitor counts iterations, where all else is logged at env steps. Leave it "
        "out: an agent logs its learning_rate by itself."
    ),
    DeviceStatsMonitor: (
        "DeviceStatsMonitor counts iterations, where all else is logged at env steps: do not read "
        "its figures at the same x-axis, or log them to another logger."
    ),
    RichProgressBar: (
        "RichProgressBar counts epochs, of which a budget of env steps has no number. Leave it "
        "out: AgentTrainer's own bar counts env steps and shows the return."
    ),
}


def check_callbacks(callbacks: list[Callback], evaluates: bool, has_last_epoch: bool) -> None:
    """Say before a run which of Lightning's callbacks can't do what they are meant for.

    Args:
        callbacks: the trainer's.
        evaluates: whether `fit` evaluates the agent.
        has_last_epoch: whether `max_epochs`, `max_steps` or `max_time` limits the run.

    Raises:
        ConfigError: if one could not work.

    Example:
        >>> check_callbacks([EarlyStopping("val_episode_return")], False, False)
        Traceback (most recent call last):
        ...
        lightning_rl.errors.ConfigError: EarlyStopping monitors 'val_episode_return', but fit ...
    """
    for callback in callbacks:
        for kind, reason in REFUSED.items():
            if isinstance(callback, kind):
                raise ConfigError(reason)
        if isinstance(callback, StochasticWeightAveraging) and not has_last_epoch:
            raise ConfigError(COUNTS_EPOCHS)
        monitor = getattr(callback, "monitor", None) or ""
        if monitor.startswith("val_episode") and not evaluates:
            raise ConfigError(
                f"{type(callback).__name__} monitors {monitor!r}, but fit does not evaluate. "
                "Expected AgentTrainer(evaluate_every_env_steps=...), or fit(agent, env, eval_env)."
            )
        for kind, hint in MISLEADING.items():
            if type(callback) is kind:
                warnings.warn(hint, stacklevel=3)


@contextmanager
def adapted(callbacks: list[Callback]) -> Iterator[None]:
    """Let Lightning's callbacks suit an agent, and be as they were afterwards.

    `EarlyStopping` waits for the first episode's end, before which there is no return, and
    `ModelCheckpoint` saves nothing at an exception.
    """
    with ExitStack() as stack:
        for callback in callbacks:
            if isinstance(callback, EarlyStopping) and callback.monitor in EPISODE_METRICS:
                stack.callback(setattr, callback, "strict", callback.strict)
                callback.strict = False
            if isinstance(callback, ModelCheckpoint) and callback.save_on_exception:
                warnings.warn(NO_BOUNDARY, stacklevel=3)
                stack.callback(setattr, callback, "save_on_exception", True)
                callback.save_on_exception = False
        yield
