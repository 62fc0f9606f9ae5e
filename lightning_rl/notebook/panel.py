"""What a cell shows below its picture while it trains; a text in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lightning_rl.notebook.kernel import cell_memory, kernel_shell


class Panel:
    """Widgets while a cell trains; then, in their place, a line of text for each training.

    A widget can be shown only while its kernel lives: a saved notebook would have an error message
    there. The text stays. Trainings that follow each other in one cell share the panel.
    """

    def __init__(self) -> None:
        import ipywidgets  # type: ignore[import-untyped]  # slow to import, for notebooks only

        self.box = ipywidgets.VBox()
        self.lines: list[str] = []  # of each training
        self._rows: dict[str, list[Any]] = {}
        self._is_training = False
        self._cell_has_ended = False
        self._handle: Any = None  # of what is displayed

    def put(self, name: str, widgets: Sequence[Any]) -> None:
        """Show widgets of a training below each other, in place of those of this name.

        Whoever shows those of the training before again (`row`) spares the frontend new ones.
        """
        from IPython.display import display

        self._is_training = True
        before = self.row(name)
        self._rows[name] = list(widgets)
        self.box.children = [widget for row in self._rows.values() for widget in row]
        _close([widget for widget in before if widget not in widgets])
        if self._handle is None:
            self._handle = display(self.box, display_id=True)  # type: ignore[no-untyped-call]
            kernel_shell().events.register("post_run_cell", self._end_cell)

    def row(self, name: str) -> list[Any]:
        """Give the widgets that are shown by this name."""
        return self._rows.get(name, [])

    def end(self, line: str) -> None:
        """Note how a training has ended; one in the background may outlast its cell."""
        self._is_training = False
        self.lines.append(line)
        if self._cell_has_ended:
            self.close()

    def close(self) -> None:
        """Put the lines in the place of the widgets, for good."""
        if self._handle is None:
            return
        text = "\n".join(self.lines) or "The training has ended."
        self._handle.update({"text/plain": text}, raw=True)
        self._handle = None
        kernel_shell().events.unregister("post_run_cell", self._end_cell)
        _close([self.box])

    def _end_cell(self, *_: Any) -> None:
        self._cell_has_ended = True
        if not self._is_training:
            self.close()


def cell_panel() -> Panel:
    """Give the panel of this cell, which is shown with its first widget."""
    panel = cell_memory().get("panel")
    return new_panel() if panel is None else panel


def new_panel() -> Panel:
    """Put the text in the place of this cell's panel, and begin another, below."""
    memory = cell_memory()
    if "panel" in memory:
        memory["panel"].close()
    panel = memory["panel"] = Panel()
    return panel


def _close(widgets: Sequence[Any]) -> None:
    for widget in widgets:
        _close(getattr(widget, "children", ()))
        widget.close()
