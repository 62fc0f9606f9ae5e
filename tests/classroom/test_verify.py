"""Verification: a problem set's tests are tried on right, wrong and slightly wrong answers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from small_set import RIGHT, TESTS, write

from lightning_rl.classroom.__main__ import main
from lightning_rl.classroom.verify import TooLongError, at_most, read_wrong, verify_set
from lightning_rl.errors import AssignmentError

SETS = sorted((Path(__file__).parents[2] / "tutorials" / "assignments").glob("*.ipynb"))
MARKED = {
    "q1": "def double(values):\n    ### BEGIN SOLUTION\n    return 2 * values\n    ### END SOLUTION"
}


def small(folder: Path, q1: str = MARKED["q1"], tests: dict[str, str] = TESTS) -> Path:
    """Write a problem set with the folder of answers beside it."""
    setup = {"q1": q1, "q2": RIGHT["q2"], "q3": RIGHT["q3"]}
    source = write(folder / "0_small.ipynb", setup, tests)
    answers = folder / "answers" / "0_small"
    answers.mkdir(parents=True, exist_ok=True)
    (answers / "right.py").write_text("double = lambda v: v + v\nloss = lambda v: v.pow(2).sum()")
    plus = 'QUESTION, LOSES = "q1", 2\n\n\ndef double(values):\n    return values + 1\n'
    (answers / "wrong_q1_plus.py").write_text(plus)
    return source


def test_a_good_problem_set_has_nothing_wrong(tmp_path: Path) -> None:
    found = verify_set(small(tmp_path), variants=2)
    assert found.wrong == []
    assert found.share == 1.0
    assert found.tried["right answers with variants"] == 4
    assert found.tried["wrong answers"] == 1


def test_tests_that_let_a_wrong_answer_through_are_told(tmp_path: Path) -> None:
    lax = TESTS | {"q1": TESTS["q1"].replace("2 * number", "double(number)")}
    lax["q1"] = lax["q1"].replace("[2.0, 2.0]", "double(torch.ones(2))")
    found = verify_set(small(tmp_path, tests=lax), variants=0)
    assert any("wrong_q1_plus.py loses 0; expected 2" in line for line in found.wrong)
    assert any("`return 2 * values` as `return 2 + values`" in line for line in found.wrong)


def test_a_right_answer_that_loses_points_is_told(tmp_path: Path) -> None:
    found = verify_set(small(tmp_path, "def double(values):\n    return 3 * values"), variants=1)
    assert any("student 0, q1: one is doubled: got" in line for line in found.wrong)
    source = small(tmp_path)
    (tmp_path / "answers" / "0_small" / "right.py").write_text("double = loss = len")
    assert sum("a second right answer" in one for one in verify_set(source, variants=0).wrong) == 2


def test_a_start_that_has_points_already_is_told(tmp_path: Path) -> None:
    code = MARKED["q1"].replace("    return 2", "    values = 2") + "\n    return values"
    code = code.replace(
        "### BEGIN", "try: return 2 * values\n    except KeyError: pass\n    ### BEGIN"
    )
    found = verify_set(small(tmp_path, code), variants=0)
    assert "what students start from: q1 gets 3 points" in found.wrong


def test_a_survivor_needs_a_reason_and_must_survive(tmp_path: Path) -> None:
    code = MARKED["q1"].replace("return 2 * values", "found = 0\n    return 2 * values")
    source = small(tmp_path, code)
    problems = verify_set(source, variants=0).wrong
    assert len(problems) == 3  # the line may as well be left out, or say something else
    listed = tmp_path / "answers" / "0_small" / "survivors.toml"
    one = '[[survivor]]\nquestion = "q1"\nwas = "found = 0"\nnow = "{}"\nwhy = "{}"\n'
    kept = "".join(one.format(now, "Not used.") for now in ("pass", "found = 1", "found = -1"))
    listed.write_text(kept)
    assert verify_set(source, variants=0).wrong == []
    listed.write_text(kept + one.format("found = 9", "Not used."))
    (problem,) = verify_set(source, variants=0).wrong
    assert "`found = 9` is in survivors.toml, but does not survive" in problem
    listed.write_text(one.format("pass", " "))
    with pytest.raises(AssignmentError, match="without a reason"):
        verify_set(source, variants=0)


def test_a_survivor_of_a_question_that_was_not_asked_is_not_missed(tmp_path: Path) -> None:
    source = small(tmp_path)
    listed = tmp_path / "answers" / "0_small" / "survivors.toml"
    listed.write_text('[[survivor]]\nquestion = "q3"\nwas = "a"\nnow = "b"\nwhy = "It learns."')
    assert verify_set(source, variants=0).wrong == []


@pytest.mark.parametrize("text", ["{", "", "survivor = 3", '[[survivor]]\nquestion = "q1"'])
def test_a_list_of_survivors_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    source = small(tmp_path)
    (tmp_path / "answers" / "0_small" / "survivors.toml").write_text(text)
    with pytest.raises(AssignmentError, match=r"survivors\.toml: expected tables \[\[survivor\]\]"):
        verify_set(source, variants=0)


def test_a_mutant_whose_cell_can_not_run_is_found(tmp_path: Path) -> None:
    code = "### BEGIN SOLUTION\ndef double(values, two={1: 2}[1]):\n    return two * values\n"
    found = verify_set(small(tmp_path, code + "### END SOLUTION"), variants=0)
    assert found.wrong == []
    assert found.killed == found.tried["mutants"] > 6  # `{1: 2}[2]` among them


def test_trainings_are_tried_when_asked_for_but_no_mutants_of_them(tmp_path: Path) -> None:
    source = small(tmp_path)
    mutants = verify_set(source, variants=0).tried["mutants"]
    folder = tmp_path / "answers" / "0_small"
    (folder / "right.py").write_text(f"{(folder / 'right.py').read_text()}\n{RIGHT['q3']}")
    lazy = RIGHT["q3"].replace("10.0", "2.5")
    (folder / "wrong_q3_lazy.py").write_text(f'QUESTION, LOSES = "q3", 3\n{lazy}')
    assert verify_set(source, variants=0).tried["wrong answers"] == 1
    found = verify_set(source, variants=1, trainings=True)
    assert found.wrong == []
    assert found.tried["right answers with variants"] == 3
    assert found.tried["wrong answers"] == 2
    assert found.tried["mutants"] == mutants


def test_answers_have_the_students_numbers_as_in_a_notebook(tmp_path: Path) -> None:
    code = MARKED["q1"].replace("def double", "number = variant.seed\n\n\ndef double")
    assert verify_set(small(tmp_path, code), variants=1).wrong == []


def test_a_wrong_answer_says_what_it_is(tmp_path: Path) -> None:
    path = tmp_path / "wrong_q1.py"
    path.write_text("double = len")
    with pytest.raises(AssignmentError, match="does not say what it is"):
        read_wrong(path)


def forever() -> None:
    while True:
        pass


def test_what_never_ends_is_ended() -> None:
    begun = time.monotonic()
    with pytest.raises(TooLongError, match=r"took more than 0\.05 s"), at_most(0.05):
        forever()
    assert time.monotonic() - begun < 5


def test_the_command_exits_with_1_if_something_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["verify", str(small(tmp_path)), "--variants", "1"])
    assert "100.0% of those that are faults" in capsys.readouterr().out
    with pytest.raises(SystemExit) as caught:
        main(["verify", str(small(tmp_path, "double = len")), "--variants", "1"])
    assert caught.value.code == 1


@pytest.mark.slow
@pytest.mark.parametrize("path", SETS, ids=lambda path: path.stem)
def test_every_problem_set_is_verified(path: Path) -> None:
    found = verify_set(path, variants=3)  # twenty are tried in test_assignments.py
    assert found.wrong == []
    assert found.share >= 0.95
    assert found.killed / found.tried["mutants"] > 0.9  # few are no faults at all
