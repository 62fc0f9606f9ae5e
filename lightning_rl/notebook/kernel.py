"""The notebook's kernel: is there one?"""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

LEFT = "Interrupted: the cell was left, and the cells that were to follow were not run."
_PROCESS = os.getpid()  # of the kernel; a copy of it, as `ddp_notebook` makes, reaches no notebook
_here = threading.local()  # a training in the background is beside the cells


def kernel_shell() -> Any:
    """Give IPython's shell if this code runs in a Jupyter kernel, else None."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it; a script need not
    shell = None if ipython is None else ipython.get_ipython()
    is_kernel = getattr(shell, "kernel", None) is not None and os.getpid() == _PROCESS
    return shell if is_kernel else None


def in_notebook() -> bool:
    """Tell whether this code runs in a notebook: a terminal's IPython shows no pictures.

    Example:
        >>> in_notebook()
        False
    """
    return kernel_shell() is not None


def cell_id() -> str:
    """Name the execution of a cell that this code is a part of."""
    return str(kernel_shell().get_parent()["header"]["msg_id"])


def cell_memory() -> dict[str, Any]:
    """Give what the trainings of one execution of a cell share; empty when it begins."""
    cell = cell_id()
    if getattr(_here, "cell", None) != cell:
        _here.cell, _here.memory = cell, {}
    memory: dict[str, Any] = _here.memory
    return memory


class CellLeft(KeyboardInterrupt):
    """Ends a cell and those that were to follow it, as an interrupt does."""


def leaving() -> KeyboardInterrupt:
    """Give what to raise where the user wants to leave a cell: a line says so, not a traceback.

    Where the user handles exceptions in a way of their own, it is shown in that way.
    """
    shell = kernel_shell()
    if getattr(shell, "custom_exceptions", None) not in ((), (CellLeft,)):
        return KeyboardInterrupt(LEFT)
    shell.set_custom_exc((CellLeft,), _say_left)
    return CellLeft(LEFT)


def _say_left(shell: Any, kind: Any, error: Any, traceback: Any, tb_offset: Any = None) -> None:
    shell.set_custom_exc((), None)
    print(error)
