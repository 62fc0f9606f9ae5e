"""Whether a problem set's tests give right answers all points, wrong ones what they deserve."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import signal
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_rl.classroom.mutants import Mutant, mutants
from lightning_rl.classroom.notebooks import Source, read_source, without_magic
from lightning_rl.classroom.questions import Session, sitting
from lightning_rl.classroom.verdicts import Result, judge
from lightning_rl.errors import AssignmentError

KEY, SECRET = "a key", "the secret of nobody's course"
SOLUTION = re.compile(r"### BEGIN SOLUTION.*?### END SOLUTION", re.DOTALL)
SECONDS = 5.0  # that a mutant may take with a question's cases; endless loops are killed
SURVIVORS = "survivors.toml"


class Bench:
    """A problem set with its own answers in place, where others are tried one at a time.

    Everything runs in this process: what is tried are the teacher's own files.

    Args:
        source: the teacher's notebook.
        student: whose variant is played.
    """

    def __init__(self, source: Source, student: str = "demo") -> None:
        self.session = Session(source.name, student, KEY, SECRET, started=True)
        self.names: dict[str, Any] = {"__name__": "assignment", "student": student}
        self.names["variant"] = self.session.variant()
        self.answers = {cell.name: cell.source for cell in source.cells if cell.kind == "answer"}
        with sitting(self.session), contextlib.redirect_stdout(io.StringIO()):
            for cell in source.cells:
                for self.session.hidden, code in cell.parts():
                    self._run(cell.name, code, self.names)
        self.session.hidden = False

    @property
    def questions(self) -> list[str]:
        """All questions, in order."""
        return list(self.session.cases)

    def trains(self, question: str) -> bool:
        """Tell whether a question has a training, which takes long."""
        return any(one.bar is not None for one in self.session.of(question))

    def judge(self, question: str, answer: str | None = None) -> Result:
        """Judge a question, with another answer in the place of the notebook's own."""
        names = dict(self.names)
        self.session.answers = names.__getitem__
        with sitting(self.session), contextlib.redirect_stdout(io.StringIO()):
            if answer is not None:
                for name in _defined(self.answers.get(question, "")):
                    del names[name]  # what the answer does not define is missing
                self._run(question, answer, names)
            return judge(self.session, question)

    def _run(self, name: str, code: str, names: dict[str, Any]) -> None:
        exec(compile(without_magic(code), f"<{name}>", "exec"), names)  # noqa: S102 - ours


def _defined(source: str) -> set[str]:
    """Give the functions that a cell defines."""
    return {node.name for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


@dataclass
class Findings:
    """What was tried, and what is not as it should be."""

    tried: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    killed: int = 0
    equivalent: int = 0
    survived: list[tuple[str, Mutant]] = field(default_factory=list)

    def count(self, what: str, problem: str = "") -> None:
        """Count something that was tried, and keep what was wrong with it."""
        self.tried[what] = self.tried.get(what, 0) + 1
        if problem:
            self.wrong.append(f"{what}: {problem}")

    @property
    def share(self) -> float:
        """The part of the mutants that the tests found, of those that are faults."""
        faults = self.killed + len(self.survived) - self.equivalent
        return self.killed / max(faults, 1)


def verify_set(
    path: str | Path,
    answers: str | Path | None = None,
    variants: int = 20,
    trainings: bool = False,
    say: Callable[[str], None] = print,
) -> Findings:
    """Try a problem set's tests on right, wrong, missing and slightly wrong answers.

    Args:
        path: the teacher's notebook.
        answers: folder with `right.py`, `wrong_*.py` and `survivors.toml`; by default
            `answers/NAME` beside the notebook, where there is one.
        variants: students whose numbers the notebook's own answers are tried with, twice each.
        trainings: whether questions that train are tried, too, but for mutants: minutes for each.
        say: gets a line for each thing that is not as it should be.

    Raises:
        AssignmentError: if the notebook is no source, or an answer's file does not say what it is.
    """
    source = read_source(path)
    folder = Path(answers) if answers else Path(path).parent / "answers" / source.name
    found = Findings()
    bench = Bench(source)
    chosen = [one for one in bench.questions if trainings or not bench.trains(one)]
    for student in range(variants):
        _try_right(Bench(source, f"student {student}"), chosen, found)
    _try_files(bench, folder, chosen, found)
    for question in chosen:
        _try_stub(bench, question, found)
        if not bench.trains(question):  # a small fault often learns all the same
            _try_mutants(bench, question, found)
    _compare(found, folder / SURVIVORS)
    for line in found.wrong:
        say(line)
    return found


def _try_right(bench: Bench, questions: list[str], found: Findings) -> None:
    for question in questions:
        first, again = bench.judge(question), bench.judge(question)
        same = _without_time(first) == _without_time(again)
        problem = "" if same else f"{bench.session.student}, {question} differs when it is repeated"
        if first["points"] < first["maximum"]:
            problem = f"{bench.session.student}, {question}: {first['message']}"
        found.count("right answers with variants", problem)


def _without_time(result: Result) -> Result:
    return {key: value for key, value in result.items() if key != "seconds"}


def _try_files(bench: Bench, folder: Path, questions: list[str], found: Findings) -> None:
    """Try a second right answer, and each wrong one of a folder."""
    right = folder / "right.py"
    for question in questions if right.exists() else []:
        result = bench.judge(question, right.read_text())
        missed = result["points"] < result["maximum"]
        found.count("a second right answer", f"{question}: {result['message']}" if missed else "")
    for path in sorted(folder.glob("wrong_*.py")):
        question, loses, text = read_wrong(path)
        if question in questions:
            result = bench.judge(question, text)
            lost = round(result["maximum"] - result["points"], 2)
            said = f"{path.name} loses {lost:g}; expected {loses:g}"
            found.count("wrong answers", said if abs(lost - loses) > 0.01 else "")


def read_wrong(path: Path) -> tuple[str, float, str]:
    """Read a wrong answer: its question, the points that it must lose, and its code.

    Raises:
        AssignmentError: if its first line is not `QUESTION, LOSES = "q1", 2`.
    """
    text = path.read_text()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign) and "QUESTION, LOSES" in ast.unparse(node.targets[0]):
            question, loses = ast.literal_eval(node.value)
            return str(question), float(loses), text
    raise AssignmentError(f'{path} does not say what it is; expected QUESTION, LOSES = "q1", 2.')


def _try_stub(bench: Bench, question: str, found: Findings) -> None:
    """Try what a student starts from."""
    cell = bench.answers.get(question, "")
    stub = SOLUTION.sub("raise NotImplementedError", cell)
    got = 0.0
    with contextlib.suppress(NotImplementedError):  # by the cell itself, outside its functions
        got = bench.judge(question, "" if stub == cell else stub)["points"]
    found.count("what students start from", f"{question} gets {got:g} points" if got else "")


def _try_mutants(bench: Bench, question: str, found: Findings) -> None:
    """Try the notebook's own answer with one fault after the other."""
    for mutant in mutants(bench.answers.get(question, "pass")):
        found.count("mutants")
        if _is_killed(bench, question, mutant):
            found.killed += 1
        else:
            found.survived.append((question, mutant))


def _is_killed(bench: Bench, question: str, mutant: Mutant) -> bool:
    try:
        with at_most(SECONDS):
            result = bench.judge(question, mutant.source)
    except Exception:  # it can't even be defined, or never ends
        return True
    return bool(result["points"] < result["maximum"])


class TooLongError(Exception):
    """Something took longer than it may."""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """End what takes too long. Works in a program's main thread, under Unix."""

    def end(*_: Any) -> None:
        raise TooLongError(f"took more than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _compare(found: Findings, path: Path) -> None:
    """Compare the mutants that survived with those that are known to be no faults, and why."""
    known = _survivors(path)
    for question, mutant in found.survived:
        if (question, mutant.was, mutant.now) in known:
            found.equivalent += 1
        else:
            said = f"{question}: `{mutant.was}` as `{mutant.now}` is not found, nor in {path.name}"
            found.wrong.append(f"mutants: {said}")
    survived = {(question, mutant.was, mutant.now) for question, mutant in found.survived}
    asked = {question for question, *_ in survived}
    for question, was, now in sorted(known - survived):
        if question in asked:
            said = f"{question}: `{was}` as `{now}` is in {path.name}, but does not survive"
            found.wrong.append(f"mutants: {said}")


def _survivors(path: Path) -> set[tuple[str, str, str]]:
    if not path.exists():
        return set()
    try:
        listed = tomllib.loads(path.read_text())["survivor"]
        reasons = {(one["question"], one["was"], one["now"]): one["why"].strip() for one in listed}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AssignmentError(
            f"{path}: expected tables [[survivor]] with question, was, now, why: {error}"
        ) from error
    if not all(reasons.values()):
        raise AssignmentError(f"{path}: a survivor without a reason; say why it is no fault.")
    return set(reasons)
