"""The wire: what is sent comes back alike, and nothing but plain values does."""

from __future__ import annotations

import pickle
import socket
import time
from typing import Any

import numpy as np
import pytest
import torch

from lightning_rl.classroom import wire
from lightning_rl.classroom.wire import LENGTH, WireError, pack, receive, send, unpack
from lightning_rl.errors import AssignmentError


@pytest.mark.parametrize(
    "value",
    [1, 2.5, "a", None, True, float("inf"), [1, (2, "b")], {"a": {1: None}}, (), [], {}],
)
def test_plain_values_come_back(value: Any) -> None:
    again = unpack(pack(value))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool])
def test_tensors_and_arrays_come_back(dtype: torch.dtype) -> None:
    sent = torch.tensor([[0, 1, 2], [3, 0, 5]]).to(dtype)
    tensor, array = unpack(pack([sent, sent.numpy()]))
    assert torch.equal(tensor, sent)
    assert tensor.dtype == dtype
    assert np.array_equal(array, sent.numpy())
    assert unpack(pack(torch.ones(2, requires_grad=True))).requires_grad


def test_anything_else_is_a_handle_or_an_error() -> None:
    with pytest.raises(WireError, match="a object can't be sent"):
        pack(object())
    assert unpack(pack([object()], lambda value: 3), lambda number: f"kept {number}") == ["kept 3"]
    with pytest.raises(WireError, match="complex64"):
        pack(torch.ones(1, dtype=torch.complex64))


def test_numbers_of_numpy_are_sent_as_pythons_own() -> None:
    sent = [np.float32(2.5), np.int64(3), np.bool_(True), np.str_("a")]
    again = unpack(pack(sent))
    assert again == [2.5, 3, True, "a"]
    assert [type(one) for one in again] == [float, int, bool, str]


def test_what_is_nested_too_deeply_is_an_error() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(WireError, match="a value can't be sent"):
        pack(deep)


def test_an_error_of_who_keeps_a_value_stays_what_it_is() -> None:
    def keep(value: Any) -> int:
        raise AssignmentError("nothing is kept")

    with pytest.raises(AssignmentError, match="nothing is kept"):
        pack([object()], keep)


def message(text: bytes, rest: bytes = b"") -> bytes:
    return LENGTH.pack(len(text), len(text) + len(rest)) + text + rest


@pytest.mark.parametrize(
    "sent",
    [
        message(pickle.dumps([1])),
        message(b"{"),
        message(b"[1]"),
        message(b'{"what": 1}'),
        message(b'{"handle": 1}'),
        message(b'{"tensor": ["float32", [2], false]}', b"1234"),  # too few bytes
        message(b'{"tensor": ["float32", [-1], false]}', b"1234"),
        message(b'{"tensor": ["object", [1], false]}', b"12345678"),
        message(b'{"dict": [[{"list": []}, 1]]}'),  # can't be a key
        message(b"[" * 100_000),
        LENGTH.pack(5, 3) + b"abc",
        LENGTH.pack(1, 9) + b"1",
    ],
)
def test_what_is_no_message_is_an_error(sent: bytes) -> None:
    with pytest.raises(WireError):
        unpack(sent)


def test_a_message_that_is_too_long_is_refused_before_it_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "MAX_BYTES", 1000)
    with pytest.raises(WireError, match="bytes; expected at most 1000"):
        pack(torch.zeros(300))
    one, other = socket.socketpair()
    with one, other:
        send(one, LENGTH.pack(10, 1001))
        with pytest.raises(WireError, match="an answer has"):
            receive(other)


def test_waiting_ends_and_a_side_that_is_gone_is_told() -> None:
    one, other = socket.socketpair()
    with other:
        for seconds in (0.01, 0.0, -1.0):
            with pytest.raises(TimeoutError):
                receive(other, time.monotonic() + seconds)
        one.close()
        with pytest.raises(EOFError):
            receive(other)
