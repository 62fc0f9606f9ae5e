"""What a grader may ask of the process of answers."""

from __future__ import annotations

import contextlib
import io
import os
import random
import resource
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from lightning_rl.classroom import child as module
from lightning_rl.classroom.child import Child, described, limit, main, obey, silence
from lightning_rl.classroom.variants import Variant
from lightning_rl.classroom.wire import LENGTH, pack, receive, send, unpack


def ask(link: socket.socket, *question: Any) -> Any:
    send(link, pack(question))
    return unpack(receive(link), lambda number: f"kept {number}")


@contextlib.contextmanager
def asked(*messages: bytes) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give both ends of a line on which a grader has said something, and nothing after it."""
    mine, its = socket.socketpair()
    with mine, its:
        mine.settimeout(10)
        for message in messages:
            send(mine, message)
        mine.shutdown(socket.SHUT_WR)
        yield mine, its


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


def test_a_message_that_is_none_is_told_and_the_next_is_obeyed() -> None:
    no_message = LENGTH.pack(1, 1) + b"{"
    with asked(no_message, pack(("look", "number"))) as (mine, its):
        obey(Child({"number": 3}), its)
        assert unpack(receive(mine)) == ("error", "not a message: JSONDecodeError")
        assert unpack(receive(mine)) == ("ok", ("value", 3))


def test_a_value_that_can_not_be_sent_is_told_as_what_it_is() -> None:
    with asked(pack(("look", "wave"))) as (mine, its):
        obey(Child({"wave": torch.ones(1, dtype=torch.complex64)}), its)
        state, said = unpack(receive(mine))
    assert state == "error"
    assert said.startswith("numbers of type complex64")


def test_what_the_setup_cells_gave_is_what_stays_when_formulas_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(module, "seal", given.extend)
    Child({"gae": len, "number": 3}).seal()
    assert given == [len, 3]


def test_random_numbers_begin_anew_when_asked() -> None:
    child = Child({})
    drawn = []
    for _ in range(2):
        child.seed(3)
        drawn.append([random.random(), np.random.rand(), torch.rand(()).item()])  # noqa: NPY002, S311
    assert drawn[0] == drawn[1]


def limited(monkeypatch: pytest.MonkeyPatch, hard: int) -> list[tuple[int, tuple[int, int]]]:
    """Ask for 100 where `hard` is the most; give the limits that were set."""
    found: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (7, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda *given: found.append(given))
    limit({"CPU": 100, "FSIZE": 100})
    return found


@pytest.mark.parametrize(
    ("hard", "expected"), [(resource.RLIM_INFINITY, 100), (50, 50), (200, 100)]
)
def test_limits_are_for_good_and_never_above_those_of_the_grader(
    hard: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "open", lambda *_: io.StringIO(), raising=False)
    assert limited(monkeypatch, hard) == [
        (resource.RLIMIT_CPU, (expected, expected)),
        (resource.RLIMIT_FSIZE, (expected, expected)),
    ]


def test_limits_hold_where_no_process_can_be_the_first_to_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_proc(path: str, mode: str) -> Any:
        assert path == "/proc/self/oom_score_adj"
        raise FileNotFoundError(path)

    monkeypatch.setattr(module, "open", no_proc, raising=False)
    assert len(limited(monkeypatch, 50)) == 2


@pytest.fixture
def descriptors() -> Iterator[None]:
    """Put standard input, output and errors back, which a process of answers never does."""
    kept = [os.dup(place) for place in (0, 1, 2)]
    yield
    for place, one in enumerate(kept):
        os.dup2(one, place)
        os.close(one)


@pytest.mark.usefixtures("descriptors")
def test_the_line_to_the_grader_is_standard_input_and_nothing_else_is_heard(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with asked(b"hello") as (_, its):
        os.dup2(its.fileno(), 0)
        with silence() as link:
            assert os.read(0, 5) == b""
            os.write(1, b"loud")
            os.write(2, b"louder")
            assert link.recv(5) == b"hello"
    assert capfd.readouterr() == ("", "")


def test_a_process_has_the_students_names_and_limits_before_its_first_cell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = {"assignment": "0_small", "student": "amy", "key": "a key", "limits": {"CPU": 9}}
    questions = [
        ("cell", "<q1>", "import __main__\nmine = __main__.student\nseed = variant.seed"),
        ("look", "mine"),
        ("look", "seed"),
    ]
    limits: list[dict[str, int]] = []
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setattr(module, "limit", limits.append)
    with asked(pack(start), *map(pack, questions)) as (mine, its):
        monkeypatch.setattr(module, "silence", lambda: its)
        main()
        assert limits == [{"CPU": 9}]
        seed = Variant("a key", "0_small", "amy").seed
        for value in (None, None, ("value", "amy"), ("value", seed)):
            assert unpack(receive(mine)) == ("ok", value)
