"""Files of settings for the command line: plain values by name, of which nothing is imported.

jsonargparse would read such files itself, but takes a `class_path` in one, or even the file's own
name, for something to import. So the options that name files are replaced by what the files say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from lightning_rl.errors import ConfigError
from lightning_rl.regular_files import read_small

FILE_OPTIONS = {"--config": "--", "--settings": "--settings.", "--agent": "--agent."}
FILE_BYTES = 2**16
# No module to import an environment from, nor a path out of the current folder.
HARMLESS = re.compile(r"(?!.*\.\.)\w[\w./ +-]*", re.ASCII)


def without_files(args: list[str]) -> list[str]:
    """Replace each option that names a file of settings by the settings in it.

    Args:
        args: of the command line: `--config FILE`, `--settings FILE`, `--agent FILE` among them.
            FILE is one of YAML or JSON, or their text itself.

    Raises:
        ConfigError: if a file can't be read, or says anything but settings by name.

    Example:
        >>> without_files(["ppo", "--settings", "{gamma: 0.9}"])
        ['ppo', '--settings.gamma=0.9']
    """
    given, plain = iter(args), []
    for arg in given:
        begun, is_joined, value = arg.partition("=")
        option = next((full for full in FILE_OPTIONS if full.startswith(begun)), None)
        if option is None or len(begun) < 3:  # "--conf" is taken for "--config", "--" is not
            plain.append(arg)
            continue
        source = value if is_joined else next(given, "")
        plain += _options(FILE_OPTIONS[option], _read(source), source)
    return plain


def _read(source: str) -> Any:
    try:
        text = source if "{" in source else read_small(Path(source).resolve(), FILE_BYTES)
        return yaml.safe_load(text)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise ConfigError(
            f"the settings {source[:100]!r} can't be read: {error}. Give a file of YAML or JSON."
        ) from error


def _options(prefix: str, content: Any, source: str) -> Iterator[str]:
    """Give each setting as an option; those of a part, such as `settings:`, with its name."""
    if not isinstance(content, dict):
        raise _refused(source, repr(content), "such as gamma: 0.99")
    for name, value in content.items():
        if not isinstance(name, str) or not name.isidentifier() or name == "class_path":
            raise _refused(source, f"{name!r}", "by their names; nothing is imported")
        if isinstance(value, dict) and f"{prefix}{name}" in FILE_OPTIONS:
            yield from _options(FILE_OPTIONS[f"{prefix}{name}"], value, source)
        else:
            yield f"{prefix}{name}={_text(name, value, source)}"


def _text(name: str, value: Any, source: str) -> str:
    """Write a plain value as the command line has it."""
    if isinstance(value, str) and f"--{name}" not in FILE_OPTIONS:
        if HARMLESS.fullmatch(value):
            return value
        raise _refused(
            source, f"{name}: {value!r}", "without a module or a path elsewhere: type it yourself"
        )
    if value is None or isinstance(value, bool | int | float):
        return "null" if value is None else str(value).lower()
    if isinstance(value, list) and all(type(part) in (int, float) for part in value):
        return str(value)
    raise _refused(source, f"{name}: {value!r}", "of numbers and text")


def _refused(source: str, said: str, expected: str) -> ConfigError:
    return ConfigError(
        f"the settings {source[:100]!r} say {said[:100]}; expected settings {expected}."
    )
