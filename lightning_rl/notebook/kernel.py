"""The notebook's kernel: is there one?"""

from __future__ import annotations

import sys
from typing import Any


def kernel_shell() -> Any:
    """Give IPython's shell if this code runs in a Jupyter kernel, else None."""
    ipython = sys.modules.get("IPython")  # a kernel has imported it; a script need not
    shell = None if ipython is None else ipython.get_ipython()
    return None if getattr(shell, "kernel", None) is None else shell


def in_notebook() -> bool:
    """Tell whether this code runs in a notebook: a terminal's IPython shows no pictures.

    Example:
        >>> in_notebook()
        False
    """
    return kernel_shell() is not None
