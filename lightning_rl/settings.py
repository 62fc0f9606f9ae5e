"""Settings: numbers as people pass them become plain ones, or are refused by their name.

A sweep gives numpy's scalars, arithmetic gives 1e4 for a count, YAML reads `3e-4` as text. What is
exactly a number is taken for it, so that a config holds plain Python only and its checkpoint can be
loaded without unpickling.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from types import NoneType
from typing import Any, Self, get_args, get_type_hints

from lightning_rl.errors import ConfigError, check_counts
from lightning_rl.tuned import tuned_run

LOCAL = "local"  # marks a setting's field, see `local_path`
TRUTHS = {"true": True, "false": False, 1: True, 0: False}


def whole_number(name: str, value: Any) -> int:
    """Take a whole number: an int, a numpy integer, 1e4, or one of them as text.

    Raises:
        ConfigError: naming the setting, if the value is no whole number.

    Example:
        >>> whole_number("rollout_steps", 1e4), whole_number("batch_size", "256")
        (10000, 256)
    """
    number = _number(value)
    if number is None or (isinstance(number, float) and not number.is_integer()):
        raise ConfigError(f"{name}={value!r}; expected a whole number, such as 1000.")
    return int(number)


def count(name: str, value: Any) -> int:
    """Take a whole number that is at least 1."""
    number = whole_number(name, value)
    check_counts(**{name: number})
    return number


def given_count(name: str, value: Any) -> int | None:
    """Take a count, but let None stand for what was not given."""
    return None if value is None else count(name, value)


def seed_number(value: Any) -> int:
    """Take a seed: a whole number, 0 or more."""
    number = whole_number("seed", value)
    if number < 0:
        raise ConfigError(f"seed={number}; expected 0 or more.")
    return number


def real_number(name: str, value: Any) -> float:
    """Take a number: a float, an int, one of numpy's, or one of them as text.

    Raises:
        ConfigError: naming the setting, if the value is no number.

    Example:
        >>> real_number("learning_rate", "3e-4")
        0.0003
    """
    number = _number(value)
    if number is None:
        raise ConfigError(f"{name}={value!r}; expected a number.")
    return float(number)


def truth(name: str, value: Any) -> bool:
    """Take True or False: a bool, a numpy bool, 0 or 1, or the words `true` and `false`.

    Raises:
        ConfigError: naming the setting, for all else; `bool("false")` would be True.
    """
    value = _unwrapped(value)
    known = TRUTHS.get(value.lower() if isinstance(value, str) else value)
    if known is None:
        raise ConfigError(f"{name}={value!r}; expected True or False.")
    return known


def _unwrapped(value: Any) -> Any:
    """Give the plain value of a numpy scalar, or of an array or tensor without axes."""
    has_no_axes = getattr(value, "ndim", None) == 0
    return value.item() if has_no_axes else value


def _number(value: Any) -> int | float | None:
    value = _unwrapped(value)
    if isinstance(value, str):
        for kind in (int, float):
            try:
                return kind(value)
            except ValueError:
                continue
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if is_number else None


def local_path() -> Any:
    """Make the field of a path: None by default, and never taken from a checkpoint."""
    return field(default=None, metadata={LOCAL: True})


@dataclass(frozen=True)
class Settings:
    """Base class of all configs: each field is made the plain value that its annotation names."""

    def __post_init__(self) -> None:
        """Take the numbers. A config that checks more does so after this.

        Raises:
            ConfigError: naming the setting that is no such number.
        """
        kinds = get_type_hints(type(self))
        for name in [one.name for one in fields(self)]:
            plain = as_annotated(name, kinds[name], getattr(self, name))
            object.__setattr__(self, name, plain)

    @classmethod
    def for_env(cls, env: str) -> Self:
        """Give the settings that are proven for an environment (`lightning_rl.tuned`).

        Args:
            env: its name.

        Raises:
            ConfigError: if there are none, naming those there are.

        Example:
            >>> from lightning_rl import PPOConfig
            >>> PPOConfig.for_env("LunarLander-v3").gamma
            0.999
        """
        return cls(**tuned_run(cls.__name__, env).settings)

    def require_counts(self, *names: str) -> None:
        """Check that settings are at least 1."""
        check_counts(**{name: getattr(self, name) for name in names})

    def require_positive(self, *names: str) -> None:
        """Check that settings, where they are not None, are above 0."""
        for name in names:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name}={value}; expected a number above 0.")

    def require_not_negative(self, *names: str) -> None:
        """Check that settings are 0 or more."""
        for name in names:
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name}={getattr(self, name)}; expected 0 or more.")

    def require_fractions(self, *names: str) -> None:
        """Check that settings are in [0, 1]."""
        for name in names:
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name}={getattr(self, name)}; expected a number in [0, 1].")


def as_annotated(name: str, kind: Any, value: Any) -> Any:
    """Make a setting's value plain, as its annotation says: `int`, `float | None`, ..."""
    kinds = get_args(kind) or (kind,)
    if value is None and NoneType in kinds:
        return None
    if bool in kinds:
        return truth(name, value)
    if kinds == (int, ...):  # tuple[int, ...]
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{name}={value!r}; expected a tuple of whole numbers.")
        return tuple(whole_number(name, part) for part in value)
    if int in kinds:
        return whole_number(name, value)
    if float in kinds:
        return real_number(name, value)
    return os.fspath(value) if isinstance(value, os.PathLike) else value
