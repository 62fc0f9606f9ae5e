"""The process that an answer runs in, which obeys its grader but knows no test."""

from __future__ import annotations

import os
import resource
import socket
import sys
import traceback
from collections import deque
from contextlib import suppress
from types import ModuleType
from typing import Any

import torch

from lightning_rl.classroom.notebooks import without_magic
from lightning_rl.classroom.questions import Session, sitting
from lightning_rl.classroom.sealing import seal
from lightning_rl.classroom.verdicts import seed_all
from lightning_rl.classroom.wire import WireError, leaves, pack, receive, send, unpack

ERROR = 500  # characters of an error
GRAPHS = 1000  # calls whose gradients can still be asked for


class Child:
    """An answer's names, and what a grader may ask of them.

    Args:
        names: the module that cells run in.
    """

    def __init__(self, names: dict[str, Any]) -> None:
        self.names = names
        self.kept: list[Any] = []  # what can't be sent; a handle is a place in it
        self.graphs: deque[tuple[int, list[Any], list[Any]]] = deque(maxlen=GRAPHS)

    def keep(self, value: Any) -> int:
        """Keep a value that can't be sent, and give its number."""
        self.kept.append(value)
        return len(self.kept) - 1

    def cell(self, name: str, source: str) -> None:
        """Run an answer's cell."""
        exec(compile(without_magic(source), name, "exec"), self.names)  # noqa: S102

    def seal(self) -> None:
        """Leave of the package's formulas those alone that the setup cells have given."""
        seal(self.names.values())

    def look(self, name: str) -> Any:
        """Give what a name stands for: whether it is there, can be called, and its plain value."""
        if name not in self.names:
            return ("missing", None)
        value = self.names[name]
        return ("function", None) if callable(value) else ("value", value)

    def call(self, name: str, place: int, arguments: Any, named: Any) -> Any:
        """Call a function; remember how its gradients can be had."""
        inputs = leaves(arguments) + leaves(named)
        value = self.names[name](*arguments, **named)
        self.graphs.append((place, inputs, leaves(value)))
        return value

    def backward(self, place: int, grads: Any) -> Any:
        """Give the gradients of a call's inputs for those of its outputs."""
        inputs, outputs = next((i, o) for p, i, o in self.graphs if p == place)
        return torch.autograd.grad(outputs, inputs, grads, allow_unused=True, retain_graph=True)

    def seed(self, seed: int) -> None:
        """Begin all random numbers anew."""
        seed_all(seed)


def limit(limits: dict[str, int]) -> None:
    """Take resources away for good: seconds of CPU, bytes of memory and files, processes.

    If the machine's memory ends all the same, this process is the first to go.
    """
    with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    for name, value in limits.items():
        kind = getattr(resource, f"RLIMIT_{name}")
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def described(error: BaseException) -> str:
    """Say an error in one line, with the line of the answer it came from."""
    frames = [one for one in traceback.extract_tb(error.__traceback__) if one.filename[:1] == "<"]
    where = f" (line {frames[-1].lineno} of {frames[-1].filename})" if frames else ""
    return f"{type(error).__name__}: {error}"[:ERROR] + where


def obey(child: Child, link: socket.socket) -> None:
    """Do what a grader asks until it hangs up."""
    operations = {
        name: getattr(child, name) for name in ("cell", "seal", "look", "call", "backward", "seed")
    }
    while True:
        try:
            name, *arguments = unpack(receive(link), child.kept.__getitem__)
            reply = pack(("ok", operations[name](*arguments)), child.keep)
        except EOFError:
            return
        except WireError as error:
            reply = pack(("error", str(error)))
        except BaseException as error:  # even SystemExit is only an answer's failure
            reply = pack(("error", described(error)))
        send(link, reply)


def silence() -> socket.socket:
    """Give the line to the grader, which is on standard input; nothing else is read or written."""
    link = socket.socket(fileno=os.dup(0))
    nothing = os.open(os.devnull, os.O_RDWR)
    for place in (0, 1, 2):
        os.dup2(nothing, place)
    return link


def main() -> None:
    """Begin as the grader says, then obey."""
    link = silence()
    start = unpack(receive(link))
    torch.set_num_threads(1)
    module = ModuleType("__main__")
    sys.modules["__main__"] = module
    names = vars(module)
    told = Session(start["assignment"], start["student"], start["key"], started=True)
    names |= {"student": told.student, "variant": told.variant()}  # as in a student's notebook
    limit(start["limits"])
    send(link, pack(("ok", None)))
    with sitting(told):
        obey(Child(names), link)


if __name__ == "__main__":
    main()
