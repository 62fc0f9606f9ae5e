"""How a cell is left: a line that says so, or the user's own way."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import IPython
import pytest

from lightning_rl.notebook.kernel import LEFT, CellLeft, leaving


def shell_with(handled: tuple[type, ...], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Pretend to be a kernel whose shell handles these exceptions in its own way."""
    shell = SimpleNamespace(kernel=object(), custom_exceptions=handled, CustomTB=None)

    def set_custom_exc(kinds: tuple[type, ...], handler: Any) -> None:
        shell.custom_exceptions, shell.CustomTB = kinds, handler

    shell.set_custom_exc = set_custom_exc
    monkeypatch.setattr(IPython, "get_ipython", lambda: shell)
    return shell


def test_a_cell_that_is_left_shows_a_line_and_other_errors_are_shown_as_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shell = shell_with((), monkeypatch)
    error = leaving()
    assert type(error) is CellLeft
    assert shell.custom_exceptions == (CellLeft,)
    shell.CustomTB(shell, CellLeft, error, None)  # as IPython does when it is raised
    assert capsys.readouterr().out == f"{LEFT}\n"
    assert shell.custom_exceptions == ()


def test_a_users_own_way_to_show_exceptions_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    shell = shell_with((KeyboardInterrupt,), monkeypatch)
    error = leaving()
    assert type(error) is KeyboardInterrupt
    assert str(error) == LEFT
    assert shell.custom_exceptions == (KeyboardInterrupt,)
