"""What a grader may ask of the process of answers."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
import torch

from lightning_rl.classroom.child import Child, described, obey
from lightning_rl.classroom.wire import pack, receive, send, unpack


def ask(link: socket.socket, *question: Any) -> Any:
    send(link, pack(question))
    return unpack(receive(link), lambda number: f"kept {number}")


def test_cells_names_calls_and_gradients() -> None:
    child = Child({})
    child.cell("<q1>", "%magic\ndef double(x):\n    return 2 * x\nnumber = 3")
    assert child.look("double") == ("function", None)
    assert child.look("number") == ("value", 3)
    assert child.look("no") == ("missing", None)
    given = torch.ones(2, requires_grad=True)
    assert child.call("double", 1, [given], {}).tolist() == [2.0, 2.0]
    (gradient,) = child.backward(1, [torch.ones(2)])
    assert gradient.tolist() == [2.0, 2.0]


def test_whatever_an_answer_raises_is_its_own_failure() -> None:
    mine, its = socket.socketpair()
    child = Child({"leave": lambda: exit(3), "thing": object()})
    thread = threading.Thread(target=obey, args=(child, its))
    thread.start()
    with mine:
        assert ask(mine, "cell", "<q1>", "1 / 0") == (
            "error",
            "ZeroDivisionError: division by zero (line 1 of <q1>)",
        )
        assert ask(mine, "call", "leave", 1, [], {})[0] == "error"
        assert ask(mine, "rm", "-rf")[0] == "error"
        assert ask(mine, "look", "thing") == ("ok", ("value", "kept 0"))
    thread.join(10)
    assert not thread.is_alive()
    its.close()


def test_an_error_is_one_line_of_bounded_length() -> None:
    with pytest.raises(ValueError, match="x") as caught:
        raise ValueError("x" * 10_000)
    assert len(described(caught.value)) < 600
