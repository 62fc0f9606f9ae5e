"""Each test has a sitting of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lightning_rl.classroom.questions import Session, sitting


@pytest.fixture(autouse=True)
def one() -> Iterator[Session]:
    with sitting(Session()) as current:
        yield current
