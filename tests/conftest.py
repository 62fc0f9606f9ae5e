"""One torch thread: the networks are small, and threads that wait for each other cost minutes."""

from types import SimpleNamespace
from typing import Any

import IPython
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Pretend to be a notebook; give what is displayed."""
    shell = SimpleNamespace(kernel=object())
    displayed: list[Any] = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    monkeypatch.setattr(IPython.display, "display", displayed.append)
    return displayed
