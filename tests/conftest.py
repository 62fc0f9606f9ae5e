"""One torch thread: the networks are small, and threads that wait for each other cost minutes."""

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import IPython
import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Pretend to be a notebook; give what is displayed."""
    displayed: list[Any] = []
    cell = str(uuid4())
    events = SimpleNamespace(register=lambda *_: None, unregister=lambda *_: None)
    shell = SimpleNamespace(
        kernel=object(), events=events, get_parent=lambda: {"header": {"msg_id": cell}}
    )
    handle = SimpleNamespace(update=lambda *_, **options: None)

    def display(shown: Any, **options: Any) -> Any:
        displayed.append(shown)
        return handle

    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    monkeypatch.setattr(IPython.display, "display", display)
    return displayed
