"""Typed errors, whose messages say what was got, what was expected, what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class LightningRLError(Exception):
    """Base of every error this package raises on purpose."""


class ShapeError(LightningRLError, ValueError):
    """A tensor or array has another shape than the contract says."""


class SpaceError(LightningRLError, ValueError):
    """An observation or action space is not supported, or does not match the agent's."""


class EnvError(LightningRLError, RuntimeError):
    """An environment could not be made, raised in `step`, or returned data outside its spaces."""


class ConfigError(LightningRLError, ValueError):
    """A setting is out of its range, or does not fit another one."""


class NonFiniteError(LightningRLError, FloatingPointError):
    """A reward, observation or loss is NaN or infinite. Nothing was learned from it."""


class StateError(LightningRLError, RuntimeError):
    """Something was asked for in the wrong order, such as a test before a fit."""


class DatasetError(LightningRLError, RuntimeError):
    """A stored dataset is missing, damaged or of a newer version, or can't be written."""


class CheckpointError(LightningRLError, RuntimeError):
    """A checkpoint is missing, damaged or unsafe, or can't be written."""


class RunError(LightningRLError, RuntimeError):
    """A run in another process has failed, or its process has died."""


class LockedError(LightningRLError, RuntimeError):
    """A folder is being written by someone else."""


class AssignmentError(LightningRLError, ValueError):
    """An assignment's source, course file or folder is not what a teacher's command needs."""


class SubmissionError(LightningRLError, ValueError):
    """A student's file can't be graded as it was handed in."""


def check_counts(**counts: int) -> None:
    """Check that numbers of things are at least 1.

    Raises:
        ConfigError: naming the first that is not.

    Example:
        >>> check_counts(num_envs=8, batch_size=256)
    """
    for name, count in counts.items():
        if count is None or not count >= 1:
            raise ConfigError(f"{name}={count}; expected at least 1.")


def check_given_counts(**counts: int | None) -> None:
    """Check as `check_counts` does, but let None stand for what was not given."""
    check_counts(**{name: count for name, count in counts.items() if count is not None})


@contextmanager
def needs_extra(extra: str, purpose: str) -> Iterator[None]:
    """Say how to install what is imported within, which is no core dependency.

    Args:
        extra: of this package, which installs it.
        purpose: what it is needed for, in the words of the error.

    Raises:
        ConfigError: naming what is not installed.

    Example:
        >>> with needs_extra("classroom", "to write a gradebook"):
        ...     import json
    """
    try:
        yield
    except ImportError as error:
        raise ConfigError(
            f"{error.name} is not installed; expected it {purpose}. Install it by "
            f'pip install "lightning_rl[{extra}]".'
        ) from error
