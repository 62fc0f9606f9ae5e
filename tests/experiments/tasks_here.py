"""Tasks done in this process, which is fast, where the package does them in others."""

from __future__ import annotations

import json
import traceback
from collections.abc import Iterator, Sequence
from typing import Any

from lightning_rl.experiments.processes import Event, Task


def tasks_here(tasks: Sequence[Task], processes: int | None = None) -> Iterator[Event]:
    """Do one task after the other; give what `run_in_processes` gives."""
    for index, task in enumerate(tasks):
        told: list[Any] = []
        try:
            result = task(told.append)
        except Exception as error:  # a process says it, too
            said = f"{type(error).__name__}: {error}"
            yield Event(index, "error", [said, traceback.format_exc()])
            continue
        for kind, content in [*(("told", one) for one in told), ("result", result)]:
            yield Event(index, kind, json.loads(json.dumps(content)))
