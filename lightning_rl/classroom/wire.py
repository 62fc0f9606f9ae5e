"""Values on their way to or from an answer's process: text with raw numbers behind, no pickle."""

from __future__ import annotations

import json
import math
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from lightning_rl.errors import LightningRLError

MAX_BYTES = 64 * 2**20  # of one message
DTYPES = {
    name: getattr(torch, name)
    for name in (
        "float32",
        "float64",
        "float16",
        "int64",
        "int32",
        "int16",
        "int8",
        "uint8",
        "bool",
    )
}
NESTS = (list, tuple, dict)
NAMES = {dtype: name for name, dtype in DTYPES.items()}
LENGTH = struct.Struct(">QQ")  # of the text, of all


class WireError(ValueError):
    """A message is too long, is not one, or can't be made of a value."""


def pack(value: Any, handle: Callable[[Any], int] | None = None) -> bytes:
    """Make a message of numbers, texts, tensors, arrays, None, and lists, tuples, dicts of those.

    Args:
        value: what to send.
        handle: keeps anything else, and gives its number; without it that is an error.

    Raises:
        WireError: if it can't be sent.

    Example:
        >>> unpack(pack({"a": (1, torch.ones(2))}))
        {'a': (1, tensor([1., 1.]))}
    """
    parts: list[bytes] = []
    try:
        text = json.dumps(_tree(value, parts, handle)).encode()
    except (LightningRLError, WireError):  # which say what is wrong; the former are of `handle`
        raise
    except (RecursionError, ValueError) as error:
        raise WireError(f"a value can't be sent: {error}") from error
    message = b"".join([text, *parts])
    if len(message) > MAX_BYTES:
        raise WireError(f"a value has {len(message)} bytes; expected at most {MAX_BYTES}")
    return LENGTH.pack(len(text), len(message)) + message


def _tree(value: Any, parts: list[bytes], handle: Callable[[Any], int] | None) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, np.generic):
        return _tree(value.item(), parts, handle)
    if type(value) in (list, tuple):
        return {type(value).__name__: [_tree(one, parts, handle) for one in value]}
    if type(value) is dict:
        pairs = [
            [_tree(key, parts, handle), _tree(one, parts, handle)] for key, one in value.items()
        ]
        return {"dict": pairs}
    if isinstance(value, torch.Tensor | np.ndarray):
        return _array(value, parts)
    if handle is None:
        raise WireError(f"a {type(value).__name__} can't be sent to an answer")
    return {"handle": handle(value)}


def _array(value: Any, parts: list[bytes]) -> dict[str, Any]:
    grad = isinstance(value, torch.Tensor) and value.requires_grad
    kind = "tensor" if isinstance(value, torch.Tensor) else "array"
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else value
    if str(array.dtype) not in DTYPES:
        raise WireError(f"numbers of type {array.dtype} can't be sent; known: {sorted(DTYPES)}")
    parts.append(array.tobytes())
    return {kind: [str(array.dtype), list(array.shape), grad]}


def unpack(message: bytes, handle: Callable[[int], Any] | None = None) -> Any:
    """Read a message back.

    Raises:
        WireError: if it is none.
    """
    if len(message) < LENGTH.size:
        raise WireError("a message without its head")
    text, total = LENGTH.unpack(message[: LENGTH.size])
    body = memoryview(message)[LENGTH.size :]
    if len(body) != total or text > total:
        raise WireError("a message of another length than it says")
    try:
        return _Reader(body[text:], handle).read(json.loads(bytes(body[:text])))
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise WireError(f"not a message: {type(error).__name__}") from error


class _Reader:
    """Reads a tree, and takes its numbers from the bytes behind it."""

    def __init__(self, rest: memoryview, handle: Callable[[int], Any] | None) -> None:
        self.rest, self.handle = rest, handle

    def read(self, tree: Any) -> Any:
        if not isinstance(tree, dict):
            if isinstance(tree, list):
                raise TypeError("a bare list")
            return tree
        ((kind, told),) = tree.items()
        if kind in ("list", "tuple"):
            values = [self.read(one) for one in told]
            return values if kind == "list" else tuple(values)
        if kind == "dict":
            return {self.read(key): self.read(one) for key, one in told}
        if kind == "handle" and self.handle is not None:
            return self.handle(int(told))
        return self._numbers(kind, *told)

    def _numbers(self, kind: str, dtype: str, shape: list[int], grad: bool) -> Any:
        name = NAMES[DTYPES[dtype]]
        if any(type(size) is not int or size < 0 for size in shape):
            raise ValueError("a shape")
        size = math.prod(shape) * np.dtype(name).itemsize
        array = np.frombuffer(self.rest[:size], dtype=name).reshape(shape).copy()
        self.rest = self.rest[size:]
        if kind == "array":
            return array
        tensor = torch.from_numpy(array)
        return tensor.requires_grad_() if grad and tensor.is_floating_point() else tensor


def leaves(value: Any) -> list[torch.Tensor]:
    """Give the tensors within a value that have a gradient, in order."""
    if isinstance(value, torch.Tensor):
        return [value] if value.requires_grad else []
    parts = value.values() if type(value) is dict else value
    return [leaf for part in parts for leaf in leaves(part)] if type(value) in NESTS else []


def send(link: socket.socket, message: bytes) -> None:
    """Send a message; the socket's timeout holds for all of it.

    Raises:
        OSError: if nobody is there any more, TimeoutError among them.
    """
    link.sendall(message)


def receive(link: socket.socket, until: float | None = None) -> bytes:
    """Wait for a message.

    Args:
        link: a connected socket.
        until: the time on `time.monotonic()` when waiting ends.

    Raises:
        TimeoutError: if it did not come in time.
        EOFError: if the other side is gone.
        WireError: if it is too long.
    """
    head = _receive(link, LENGTH.size, until)
    total = LENGTH.unpack(head)[1]
    if total > MAX_BYTES:
        raise WireError(f"an answer has {total} bytes; expected at most {MAX_BYTES}")
    return head + _receive(link, total, until)


def _receive(link: socket.socket, size: int, until: float | None) -> bytes:
    got = bytearray()
    while len(got) < size:
        if until is not None:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            link.settimeout(left)
        part = link.recv(min(size - len(got), 2**20))
        if not part:
            raise EOFError
        got += part
    return bytes(got)
