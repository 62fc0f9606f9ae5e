"""Results on disk: written, read back, refused if they are none."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_set import result

from lightning_rl.classroom.results import read_results, write_results
from lightning_rl.errors import AssignmentError


def test_what_was_written_is_read_back_in_the_order_of_ids(tmp_path: Path) -> None:
    results = [result("bob"), result("amy")]
    write_results(results, tmp_path)
    assert read_results(tmp_path) == results[::-1]


def test_results_of_two_assignments_are_not_mixed(tmp_path: Path) -> None:
    write_results([result("amy"), result("bob") | {"assignment": "2"}], tmp_path)
    with pytest.raises(AssignmentError, match=r"results of \['1_sums', '2'\]; expected one"):
        read_results(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"questions": [1]}', '{"questions": []}'])
def test_what_is_no_result_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "amy.json").write_text(text)
    with pytest.raises(AssignmentError, match=r"amy.json is no result"):
        read_results(tmp_path)
