"""Docstrings, written to be read in the source, as the reStructuredText that Sphinx wants.

They stay as they are in the files: this changes what Sphinx is given, before napoleon reads it.
"""

from __future__ import annotations

import re
from typing import Any

SECTION = re.compile(r"(Args|Returns|Raises|Yields|Attributes|Reference|Note|Example)s?:( .*)?$")
KEPT = re.compile(r"(`+[^`]*`+|(?<![\w*])\*\w[^*]*\*(?![\w*]))")  # code, *emphasis*


def as_restructured_text(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Change the lines of a docstring in place."""
    lines[:] = escape_markup(separate_blocks(lines))


def separate_blocks(lines: list[str]) -> list[str]:
    """Set formulas, sections and examples apart: `Returns: x` is a section, too."""
    out: list[str] = []
    in_section = False
    for line in lines:
        section = SECTION.match(line)
        starts_example = line.startswith(">>>") and out and not out[-1].startswith((">>>", "..."))
        if section or (starts_example and out[-1].strip()):
            out.append("")
        if section:
            in_section = True
            out += [f"{section[1]}:", *([f"    {section[2].strip()}"] if section[2] else [])]
            continue
        in_section = in_section and (not line or line.startswith(" "))
        if line.startswith("    ") and not in_section and out and not out[-1].strip():
            out += ["::", ""]  # an indented paragraph outside of a section is a formula
        out.append(line)
    return out


def escape_markup(lines: list[str]) -> list[str]:
    """Let `|` and `*` of formulas in running text be themselves."""
    out: list[str] = []
    literal = False
    for line in lines:
        literal = line == "::" or (literal and (not line or line.startswith(" ")))
        is_text = not literal and not line.lstrip().startswith((">>>", "...", "*"))
        out.append(_escape(line) if is_text else line)
    return out


def _escape(line: str) -> str:
    pieces = KEPT.split(line)  # every second one is kept as it is
    pieces[::2] = [re.sub(r"([|*])", r"\\\1", piece) for piece in pieces[::2]]
    return "".join(pieces)
