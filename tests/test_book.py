"""The book: built from what is saved, strict about links, with a cheat sheet whose code runs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "tutorials"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / "book" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def build(to: Path, **environment: str) -> None:
    options = ["-q", "-W", "--keep-going", "-c", "book"]
    ended = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, ".", str(to)],
        cwd=FOLDER, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr


@pytest.mark.slow
def test_it_builds_without_a_warning_and_opens_notebooks_in_colab_where_they_are(
    tmp_path: Path,
) -> None:
    build(tmp_path, LIGHTNING_RL_REPOSITORY="someone/somewhere")
    page = (tmp_path / "05_ppo_on_cartpole.html").read_text()
    address = "github/someone/somewhere/blob/main/tutorials/05_ppo_on_cartpole.ipynb"
    assert f"https://colab.research.google.com/{address}" in page
    assert "data:image" in page or "_images/" in page, "saved pictures are shown"
    reference = (tmp_path / "api" / "functional.html").read_text()
    assert 'id="lightning_rl.functional.gae"' in reference
    assert (tmp_path / "search.html").is_file()
    assert "learning.gif" in (tmp_path / "index.html").read_text()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # Lightning's, of another folder
@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")  # torch.export
def test_the_code_on_the_cheat_sheet_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    for column in load("cheat_sheet").COLUMNS:
        for box in column:
            if box.is_code:
                exec(box.text, namespace)  # noqa: S102
    assert (tmp_path / "policy.pt2").is_file()
    assert (tmp_path / "episode.gif").is_file()


def test_docstrings_keep_formulas_examples_and_stars() -> None:
    lines = [
        "Compute |a - b|, a * b or *this*.", "", "    L = ½ |x|²", "    M = 2", "",
        "Returns: `|x|`, (B,).", ">>> 1 | 2", "3",
    ]  # fmt: skip
    load("docstrings").as_restructured_text(None, "function", "f", None, None, lines)
    assert lines == [
        r"Compute \|a - b\|, a \* b or *this*.",
        "", "::", "", "    L = ½ |x|²", "    M = 2", "",
        "", "Returns:", "    `|x|`, (B,).", "",
        ">>> 1 | 2", "3",
    ]  # fmt: skip
