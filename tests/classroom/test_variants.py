"""Variants: a student's own numbers, from a secret."""

from __future__ import annotations

from lightning_rl.classroom.variants import Variant, course_key

AMY = Variant("secret", "1_returns", "amy")


def test_the_same_key_gives_the_same_numbers() -> None:
    again = Variant("secret", "1_returns", "amy")
    assert (AMY.seed, AMY.gamma, AMY.number("mass", 1, 2)) == (
        again.seed,
        again.gamma,
        again.number("mass", 1, 2),
    )


def test_another_student_key_assignment_or_name_gives_others() -> None:
    others = [
        Variant("secret", "1_returns", "bob"),
        Variant("other", "1_returns", "amy"),
        Variant("secret", "2_ppo", "amy"),
    ]
    assert AMY.seed not in {other.seed for other in others}
    assert AMY.number("mass", 0, 1) != AMY.number("length", 0, 1)


def test_numbers_stay_in_their_range_and_use_all_of_it() -> None:
    students = [Variant("secret", "1", str(number)) for number in range(300)]
    gammas = [one.gamma for one in students]
    assert 0.9 <= min(gammas) < 0.91
    assert 0.98 < max(gammas) <= 0.99
    assert {one.integer("die", 1, 6) for one in students} == {1, 2, 3, 4, 5, 6}
    assert {one.choice("side", "ab") for one in students} == {"a", "b"}
    assert all(0 <= one.seed < 2**31 for one in students)


def test_a_name_can_not_be_shifted_into_the_students_id() -> None:
    assert Variant("k", "1", "a").number("b", 0, 1) != Variant("k", "1", "ab").number("", 0, 1)


def test_the_course_key_does_not_hold_the_secret() -> None:
    assert "secret" not in course_key("secret", "RL")
    assert course_key("secret", "RL") != course_key("secret", "RL 2")
