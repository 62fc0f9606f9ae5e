"""What is below a cell's picture: widgets while it trains, then lines of text."""

from __future__ import annotations

from typing import Any

import ipywidgets

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
