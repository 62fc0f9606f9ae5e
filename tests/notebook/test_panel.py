"""What is below a cell's picture: widgets while it trains, then lines of text."""

from __future__ import annotations

from typing import Any

import ipywidgets
import pytest

from lightning_rl.notebook.kernel import kernel_shell
from lightning_rl.notebook.panel import cell_panel, new_panel


def test_the_trainings_of_a_cell_share_a_panel_that_is_shown_once(notebook: list[Any]) -> None:
    for name in ("bar", "controls", "bar"):
        cell_panel().put(name, [ipywidgets.Label(name)])
    (box,) = notebook
    assert [child.value for child in box.children] == ["bar", "controls"]


def test_a_new_panel_ends_the_one_above(notebook: list[Any]) -> None:
    first = cell_panel()
    first.put("bar", [ipywidgets.Label("bar")])
    assert new_panel() is cell_panel()
    assert first is not cell_panel()
    assert first.box.comm is None  # closed


def test_nothing_is_shown_of_a_panel_without_widgets(notebook: list[Any]) -> None:
    cell_panel().end("trained")
    cell_panel().close()
    assert notebook == []


def test_a_training_in_the_background_outlasts_its_cell_and_then_closes_the_panel(
    notebook: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    at_end: list[Any] = []
    monkeypatch.setattr(kernel_shell().events, "register", lambda _, call: at_end.append(call))
    panel = cell_panel()
    panel.put("bar", [ipywidgets.Label("bar")])
    [end_cell] = at_end
    end_cell()
    assert panel.box.comm is not None  # its training goes on
    panel.end("trained")
    assert panel.box.comm is None
    assert panel.lines == ["trained"]


def test_a_panel_closes_with_its_cell(notebook: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    at_end: list[Any] = []
    monkeypatch.setattr(kernel_shell().events, "register", lambda _, call: at_end.append(call))
    panel = cell_panel()
    panel.put("bar", [ipywidgets.Label("bar")])
    panel.end("trained")
    assert panel.box.comm is not None  # another training of the cell may follow
    at_end[0]()
    assert panel.box.comm is None
