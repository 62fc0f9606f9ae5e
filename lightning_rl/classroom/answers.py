"""An answer's names as the grader sees them, while they live in another process."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from lightning_rl.classroom.isolation import command, end_all, options, processes_allowed
from lightning_rl.classroom.memory import MemoryWatch
from lightning_rl.classroom.questions import Case, Session
from lightning_rl.classroom.wire import WireError, leaves, pack, receive, send, unpack
from lightning_rl.errors import AssignmentError, SubmissionError

START_SECONDS = 120.0  # to import torch on a busy machine


@dataclass(frozen=True)
class Limits:
    """What an answer may use.

    Args:
        cell_seconds: of a cell, or of a case.
        slowness: how many times its time a training may take on a slower or busier machine.
        total_seconds: of a whole submission; of the processor's time, too.
        addresses: bytes that a process may ask for.
        memory: bytes that all of its processes may hold together.
        file: bytes of a file.
        processes: at a time, threads included.
    """

    cell_seconds: float = 10.0
    slowness: float = 4.0
    total_seconds: float = 300.0
    addresses: int = 6 * 2**30
    memory: int = 4 * 2**30
    file: int = 64 * 2**20
    processes: int = 32


@dataclass(frozen=True)
class Handle:
    """Something that an answer keeps in its process; it can only be handed back."""

    number: int
    process: int


class Answers:
    """The process of a submission's answers: started when needed, ended when it misbehaves.

    Args:
        told: the sitting, of which the process learns the student and the visible key only.
        limits: what the answers may use.
        kind: of walls around it.
    """

    def __init__(self, told: Session, limits: Limits, kind: str) -> None:
        self.told, self.limits, self.kind = told, limits, kind
        self.end = time.monotonic() + limits.total_seconds
        self.until = self.end
        self.cells: list[tuple[str, str, bool]] = []  # those that worked, to begin anew with
        self.problem = ""  # of the last cell that did not
        self.starts = 0
        self.calls = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.watch: MemoryWatch | None = None
        self.link: socket.socket | None = None
        self.folder: tempfile.TemporaryDirectory[str] | None = None

    def run(self, name: str, source: str, trusted: bool = False) -> None:
        """Run a cell; if it fails, remember why.

        Raises:
            AssignmentError: if it is the teacher's own.
        """
        self.problem = ""
        self._start()
        self.until = time.monotonic() + (START_SECONDS if trusted else self.limits.cell_seconds)
        try:
            self._cell(name, source, trusted)
            self.cells.append((name, source, trusted))
        except SubmissionError as error:
            if trusted:
                raise AssignmentError(f"cell {name!r} of the source fails: {error}") from error
            self.problem = f"the answer cell failed: {error}"

    def _cell(self, name: str, source: str, trusted: bool) -> None:
        if not trusted:
            self.ask("seal")  # the formulas that a student is to write
        self.ask("cell", f"<{name}>", source)

    def prepare(self, one: Case) -> None:
        """Give a case its time and the same random numbers as ever."""
        seconds = self.limits.cell_seconds
        if one.bar is not None:
            seconds += one.bar.seconds * self.limits.slowness
        self._start()
        self.until = time.monotonic() + seconds
        self.ask("seed", 0)

    def find(self, name: str) -> Any:
        """Give a function of the answer, or a plain value.

        Raises:
            SubmissionError: if the answer does not define it.
        """
        kind, value = self._pair(self.ask("look", name))
        if kind == "missing":
            raise SubmissionError(self.problem or f"`{name}` is not defined by the answer")
        return self._function(name) if kind == "function" else value

    def _function(self, name: str) -> Callable[..., Any]:
        def function(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            place = self.calls
            value = self.ask("call", name, place, list(arguments), named)
            inputs = leaves(list(arguments)) + leaves(named)
            return self._joined(place, value, inputs)

        function.__name__ = name
        return function

    def _joined(self, place: int, value: Any, inputs: list[torch.Tensor]) -> Any:
        """Tie what came back to what was sent, for gradients."""
        outputs = leaves(value)
        if not outputs or not inputs or not torch.is_grad_enabled():
            return _replaced(value, iter([one.detach() for one in outputs]))
        joined = _Across.apply(self, place, len(outputs), *outputs, *inputs)  # type: ignore[no-untyped-call]
        return _replaced(value, iter(joined))

    def ask(self, *question: Any) -> Any:
        """Ask the process something, and wait for its reply.

        Raises:
            SubmissionError: if it failed, took too long, or is gone.
        """
        link = self.link
        if link is None:
            raise SubmissionError("the answer's process has ended within this case")
        until = min(self.until, self.end)
        try:
            link.settimeout(max(until - time.monotonic(), 0.001))
            send(link, pack(question, lambda value: self._given_back(value)))
            reply = unpack(receive(link, until), self._handle)
        except TimeoutError as error:
            raise self._ended("took too long, and was stopped") from error
        except (EOFError, OSError) as error:
            greedy = self.watch is not None and self.watch.over
            memory = f"and its processes took more than {self.limits.memory >> 20} MB of memory"
            why = memory if greedy else "ended its process, or used more than it may"
            raise self._ended(why) from error
        except WireError as error:
            raise self._ended(f"gave what can't be read: {error}") from error
        state, value = self._pair(reply)
        if state != "ok":
            raise SubmissionError(str(value))
        return value

    def _pair(self, reply: Any) -> tuple[Any, Any]:
        if type(reply) is not tuple or len(reply) != 2:
            raise self._ended("gave what can't be read")
        return reply

    def _handle(self, number: int) -> Handle:
        return Handle(number, self.starts)

    def _given_back(self, value: Any) -> int:
        if not isinstance(value, Handle):
            raise AssignmentError(
                f"a case hands a {type(value).__name__} to an answer; expected numbers, texts, "
                "tensors, arrays, None, lists, tuples or dicts."
            )
        if value.process != self.starts:
            raise SubmissionError("its process was started anew, and what it kept is lost")
        return value.number

    def _ended(self, why: str) -> SubmissionError:
        self.stop()
        return SubmissionError(f"the answer {why}")

    def _start(self) -> None:
        """Start the process if none runs, with the cells that worked."""
        if self.link is not None:
            return
        if time.monotonic() > self.end:
            raise SubmissionError(f"all {self.limits.total_seconds:g} s of the submission are used")
        self.starts += 1
        link = self._begun()
        begun = time.monotonic()
        told = {"student": self.told.student, "assignment": self.told.assignment}
        told |= {"key": self.told.key, "limits": self._limits()}  # type: ignore[dict-item]
        try:
            send(link, pack(told))  # which fails, too, if it has ended already
            receive(link, begun + START_SECONDS)
        except (TimeoutError, EOFError, OSError) as error:
            link.close()
            self.stop()
            raise AssignmentError("the process for answers did not start; see isolation") from error
        self.link = link
        self.end += time.monotonic() - begun  # the machine's time, not the answer's
        self.until = time.monotonic() + START_SECONDS
        for cell in self.cells:
            self._cell(*cell)

    def _begun(self) -> socket.socket:
        mine, its = socket.socketpair()
        self.folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        given = options(self.kind, self.folder.name)
        if "user" in given:
            os.chown(self.folder.name, given["user"], given["group"])
        with its:
            self.process = subprocess.Popen(  # noqa: S603 - the command is ours
                command(self.kind, ["-m", "lightning_rl.classroom.child"]),
                stdin=its.fileno(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **given,
            )  # fmt: skip
        end = partial(end_all, self.process, self.kind)
        self.watch = MemoryWatch(self.process.pid, self.limits.memory, end)
        return mine

    def _limits(self) -> dict[str, int]:
        limits = self.limits
        processes = processes_allowed(self.kind, limits.processes)
        seconds = int(limits.total_seconds)
        return {"CPU": seconds, "AS": limits.addresses, "FSIZE": limits.file, "NPROC": processes}

    def stop(self) -> None:
        """End the process, and all that it started."""
        if self.watch is not None:
            self.watch.stop()
        if self.process is not None:
            end_all(self.process, self.kind)
        if self.link is not None:
            self.link.close()
        if self.folder is not None:
            self.folder.cleanup()
        self.process = self.watch = self.link = self.folder = None


def _replaced(value: Any, tensors: Any) -> Any:
    """Put other tensors in the places of those that have a gradient."""
    if isinstance(value, torch.Tensor):
        return next(tensors) if value.requires_grad else value
    if type(value) is dict:
        return {key: _replaced(one, tensors) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_replaced(one, tensors) for one in value)
    return value


class _Across(torch.autograd.Function):
    """A call in another process, as autograd sees it."""

    @staticmethod
    def forward(ctx: Any, answers: Answers, place: int, number: int, *tensors: Any) -> Any:
        ctx.answers, ctx.place = answers, place
        ctx.shapes = [one.shape for one in tensors[number:]]
        ctx.number = number
        return tuple(one.detach().clone() for one in tensors[:number])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        found = ctx.answers.ask("backward", ctx.place, list(grads))
        given = found if type(found) is tuple else ()
        if [
            getattr(one, "shape", shape) for one, shape in zip(given, ctx.shapes, strict=False)
        ] != (ctx.shapes):
            raise SubmissionError("the answer gave gradients of other shapes")
        return (None, None, None, *[None] * ctx.number, *given)
