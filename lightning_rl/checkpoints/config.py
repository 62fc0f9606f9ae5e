"""Configs, made again from the plain values that a checkpoint holds."""

from __future__ import annotations

import warnings
from dataclasses import fields
from typing import Any, TypeVar, cast

from lightning_rl.errors import ConfigError
from lightning_rl.settings import LOCAL

Config = TypeVar("Config")


def config_from(kind: type[Config], given: Config | dict[str, Any]) -> Config:
    """Give a config as it is, or make it from a dict, as `load_from_checkpoint` gets it.

    Args:
        kind: the dataclass of the config.
        given: a config, or its fields by name; those left out have their defaults, as have paths,
            with a warning: a file names them, maybe a stranger's.

    Raises:
        ConfigError: if there are other names among them, such as those of another agent.
    """
    if not isinstance(given, dict):
        return given
    paths = [f.name for f in fields(cast(Any, kind)) if f.metadata.get(LOCAL) and given.get(f.name)]
    if paths:
        named = ", ".join(f"{name}={given[name]!r}" for name in paths)
        warnings.warn(
            f"{named} is left out: a checkpoint may not say where to write. Give config=... with "
            "the folder, if that is where to go on.",
            stacklevel=3,
        )
        given = {name: value for name, value in given.items() if name not in paths}
    known = [field.name for field in fields(cast(Any, kind))]
    if unknown := sorted(set(given) - set(known)):
        raise ConfigError(
            f"{kind.__name__} has no settings {unknown}; expected some of {', '.join(known)}. If "
            "they are a checkpoint's, load it with the class that was trained."
        )
    return kind(**given)
