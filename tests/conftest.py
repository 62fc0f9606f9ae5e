"""One torch thread: the networks are small, and threads that wait for each other cost minutes."""

from collections import defaultdict
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import IPython
import pytest
import torch

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let CI, which has half an hour, prove with one seed what is otherwise proven with several."""
    parser.addoption("--seeds", type=int, metavar="N", help="each slow proof's first N seeds alone")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the further seeds, if a number was given."""
    number, seeds_of, left_out = config.getoption("seeds"), defaultdict[Any, list[int]](list), []
    for item in items if number else ():
        parameters = getattr(item, "callspec", SimpleNamespace(params={})).params
        if "seed" in parameters and item.get_closest_marker("slow"):
            seeds = seeds_of[item.path, getattr(item, "originalname", item.name)]
            if parameters["seed"] not in seeds:
                seeds.append(parameters["seed"])
            if seeds.index(parameters["seed"]) >= number:
                left_out.append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture
def first_seeds(pytestconfig: pytest.Config) -> Callable[[range], range]:
    """Give the seeds of a slow proof that is about several at once: all, or the first `--seeds`."""
    return lambda seeds: seeds[: pytestconfig.getoption("seeds")]


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
