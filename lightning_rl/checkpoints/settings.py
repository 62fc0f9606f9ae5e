"""The settings of an agent, from a checkpoint's hyperparameters."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar, cast

from lightning_rl.errors import ConfigError

Settings = TypeVar("Settings")


def settings_from(kind: type[Settings], given: Settings | dict[str, Any]) -> Settings:
    """Give settings as they are, or make them from a dict, as `load_from_checkpoint` gets it.

    Args:
        kind: the dataclass of the settings.
        given: settings, or its fields by name; those left out have their defaults.

    Raises:
        ConfigError: if there are other names among them, such as those of another agent.
    """
    if not isinstance(given, dict):
        return given
    known = {field.name for field in fields(cast(Any, kind))}
    if not set(given) <= known:
        raise ConfigError(
            f"{kind.__name__} has no settings {sorted(set(given) - known)}. If they are a "
            "checkpoint's, load it with the class that was trained."
        )
    return kind(**given)
