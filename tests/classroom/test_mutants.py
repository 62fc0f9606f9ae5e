"""Mutants: one fault each, within the solution, none the same as the right answer."""

from __future__ import annotations

import ast

import pytest

from lightning_rl.classroom.mutants import mutants


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = a - b", {"pass", "x = a + b", "x = a", "x = b"}),
        ("x = -a", {"pass", "x = a"}),
        ("x = not a", {"pass", "x = a"}),
        ("x = a < b", {"pass", "x = a <= b", "x = a >= b"}),
        ("x = 2", {"pass", "x = 3", "x = 1"}),
        ("x = True", {"pass", "x = False"}),
        ("x = a.detach()", {"pass", "x = a"}),
        ("x = a.mean(0)", {"pass", "x = a.sum(0)", "x = a.mean(1)", "x = a.mean(-1)"}),
        ("x = where(a, b)", {"pass", "x = where(b, a)"}),
        ("x = min(a, b)", {"pass"}),
        ("x = where(a, a)", {"pass"}),
        ("x = 2.5", {"pass", "x = 3.5", "x = 1.5", "x = -2.5"}),
        ("x = 0.0", {"pass", "x = 1.0", "x = -1.0"}),
        ("x += a", {"pass", "x -= a"}),
    ],
)
def test_each_operator_makes_its_faults(source: str, expected: set[str]) -> None:
    assert {mutant.now for mutant in mutants(source)} == expected


def test_only_the_solution_is_changed() -> None:
    source = '''
def double(values):
    """Say 2 + 2."""
    before = 1 + 1
    ### BEGIN SOLUTION
    return 2 * values
    ### END SOLUTION
    after = 3 + 3
'''
    found = mutants(source)
    assert {mutant.was for mutant in found} == {"return 2 * values"}
    assert len({mutant.source for mutant in found}) == len(found) == 7
    for mutant in found:
        ast.parse(mutant.source)
        assert "1 + 1" in mutant.source
        assert "3 + 3" in mutant.source
