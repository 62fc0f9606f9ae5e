"""Small faults put into a right answer, one at a time, to see whether the tests find them.

Students' mistakes look like these: a sign, an index, a forgotten `detach`, a line left out. The
operators are those of mutation testing (Jia and Harman, 2011) and some for tensors; no tool that
was looked at has the latter, and all run a test suite in processes, where we judge a cell.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

ARITHMETIC: dict[type[ast.operator], tuple[type[ast.operator], ...]] = {
    ast.Add: (ast.Sub,),
    ast.Sub: (ast.Add,),
    ast.Mult: (ast.Div, ast.Add),
    ast.Div: (ast.Mult,),
    ast.FloorDiv: (ast.Mult,),
    ast.Mod: (ast.Mult,),
    ast.Pow: (ast.Mult,),
    ast.BitAnd: (ast.BitOr,),
    ast.BitOr: (ast.BitAnd,),
}
COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
}
ALIKE = (
    {"mean", "sum"}, {"min", "max"}, {"minimum", "maximum"}, {"argmin", "argmax"},
    {"zeros", "ones"}, {"zeros_like", "ones_like"}, {"exp", "log"}, {"softmax", "log_softmax"},
    {"square", "abs"},
)  # fmt: skip
WITHOUT_EFFECT = {"clone", "contiguous", "to", "float", "item"}  # on the numbers of a small case

ANY_ORDER = {"min", "max", "minimum", "maximum"}  # of their arguments


@dataclass(frozen=True)
class Mutant:
    """A right answer with one fault: its code, and the line as it was and as it is now."""

    source: str
    was: str
    now: str


def mutants(source: str) -> list[Mutant]:
    """Make all mutants of a solution, each with one fault.

    Args:
        source: an answer's cell. If a part of it is marked as the solution, only that is changed.

    Example:
        >>> [mutant.now for mutant in mutants("x = a - b")]
        ['pass', 'x = a + b', 'x = a', 'x = b']
    """
    tree = ast.parse(source)
    first, last = _region(source)
    right = ast.unparse(tree)
    found: dict[str, Mutant] = {}
    for place, node in enumerate(ast.walk(tree)):
        inside = first < getattr(node, "lineno", 0) < last
        for changed in _changed(node) if inside else ():
            text = ast.unparse(_with(tree, place, changed))
            if text != right:
                found.setdefault(text, _mutant(text, right))
    return list(found.values())


def _changed(node: ast.AST) -> Iterator[ast.AST]:
    for operator in OPERATORS:
        yield from operator(copy.deepcopy(node))


def _region(source: str) -> tuple[int, int]:
    """Give the lines around the solution."""
    lines = [line.strip() for line in source.splitlines()]
    if "### BEGIN SOLUTION" not in lines:
        return 0, len(lines) + 1
    return lines.index("### BEGIN SOLUTION") + 1, lines.index("### END SOLUTION") + 1


def _with(tree: ast.Module, place: int, changed: ast.AST) -> ast.AST:
    """Copy a tree with another node in one place."""
    copied = copy.deepcopy(tree)
    return ast.fix_missing_locations(_Put(list(ast.walk(copied))[place], changed).visit(copied))


class _Put(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def _mutant(text: str, right: str) -> Mutant:
    pairs = zip(right.splitlines(), text.splitlines(), strict=False)
    was, now = next((a, b) for a, b in pairs if a != b)
    return Mutant(text, was.strip(), now.strip())


def _arithmetic(node: ast.AST) -> Iterator[ast.AST]:
    """Compute something else, or one side alone."""
    if isinstance(node, ast.BinOp | ast.AugAssign):
        for other in ARITHMETIC.get(type(node.op), ()):
            changed = copy.deepcopy(node)
            changed.op = other()
            yield changed
    if isinstance(node, ast.BinOp):
        yield from (node.left, node.right)


def _comparisons(node: ast.AST) -> Iterator[ast.AST]:
    """Compare in another way."""
    if isinstance(node, ast.Compare):
        for other in COMPARED.get(type(node.ops[0]), ()):
            changed = copy.deepcopy(node)
            changed.ops[0] = other()
            yield changed


def _signs(node: ast.AST) -> Iterator[ast.AST]:
    """Forget a minus or a not."""
    if isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant):
        yield node.operand


def _constants(node: ast.AST) -> Iterator[ast.AST]:
    """Be off by one; keep a flag the other way; take a fraction with the other sign.

    Whole numbers keep their sign: the last axis of a table is 1 as well as -1.
    """
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield from (ast.Constant(node.value + 1), ast.Constant(node.value - 1))
        if isinstance(node.value, float) and node.value:
            yield ast.Constant(-node.value)


def _calls(node: ast.AST) -> Iterator[ast.AST]:
    """Leave a method's call out, call its opposite, or give two arguments in the other order."""
    if not isinstance(node, ast.Call):
        return
    if isinstance(node.func, ast.Attribute):
        name, on = node.func.attr, node.func.value
        of_a_value = not isinstance(on, ast.Name | ast.Attribute) or not node.args
        if of_a_value and name not in WITHOUT_EFFECT:
            yield on
        for other in sorted({one for group in ALIKE if name in group for one in group} - {name}):
            yield ast.Call(ast.Attribute(on, other, ast.Load()), node.args, node.keywords)
    if getattr(node.func, "attr", getattr(node.func, "id", "")) in ANY_ORDER:
        return
    for first in range(len(node.args) - 1):
        one, two = node.args[first : first + 2]
        others = [*node.args[:first], two, one, *node.args[first + 2 :]]
        yield ast.Call(node.func, others, node.keywords)


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Leave a statement out."""
    text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    kinds = ast.Assign | ast.AugAssign | ast.Expr | ast.Return | ast.For | ast.If
    if isinstance(node, kinds) and not text:
        yield ast.Pass()


OPERATORS: tuple[Callable[[ast.AST], Iterator[ast.AST]], ...] = (
    _arithmetic, _comparisons, _signs, _constants, _calls, _statements,
)  # fmt: skip
