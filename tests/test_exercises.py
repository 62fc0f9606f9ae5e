"""Every exercise of the course has a worked answer; its code runs in the names of its notebook."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "tutorials"
SECTIONS = re.split(r"^## (?=\d\d · )", (FOLDER / "guide" / "answers.md").read_text(), flags=re.M)
ANSWERS = {section[:2]: section for section in SECTIONS[1:]}
NOTEBOOKS = {path.name[:2]: path for path in sorted(FOLDER.glob("[0-9]*.ipynb"))}
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SMALL = {  # in the place of what the answers write in capitals
    "STEPS": 1_100, "DREAM_STEPS": 512, "TEST_STEPS": 512, "EPISODES": 5, "EPOCHS": 1,
    "SEEDS": range(1), "ENV_STEPS": 512,
}  # fmt: skip


SETUP = {  # what else of a notebook its answers use
    "00": "import gymnasium as gym",
    "02": "coin = np.random.default_rng(0)",
    "05": "ratio, old = torch.linspace(0.4, 1.8, 141), torch.zeros(1)",
    "11": """
pictures = PictureEnv("CartPole-v1", num_envs=16)
data = make_random_trajectory(pictures, tempfile.mkdtemp(), STEPS, seed=0, progress=False)
training, validation = data.split(0.9)
""",
    "13": "folder = Path(tempfile.mkdtemp())",
}


class Smaller(ast.NodeTransformer):
    """Lets an answer assign its large numbers to other names than those that it uses."""

    def visit_Name(self, node: ast.Name) -> ast.Name:
        if isinstance(node.ctx, ast.Store) and node.id in SMALL:
            node.id = f"large_{node.id}"
        return node


def definitions(notebook: Path) -> str:
    """Keep of a notebook's code what costs nothing: imports, constants, functions and classes."""
    kept = []
    for cell in nbformat.read(notebook, as_version=4).cells:
        if cell.cell_type == "code":
            kept += [ast.unparse(node) for node in ast.parse(cell.source).body if is_cheap(node)]
    return "\n".join(kept)


def is_cheap(node: ast.stmt) -> bool:
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]).isupper()
    return isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)


def test_every_exercise_has_an_answer() -> None:
    assert list(ANSWERS) == list(NOTEBOOKS)
    for name, section in ANSWERS.items():
        assert re.findall(r"^\*\*(\w+)\.\*\*", section, re.M) == ["Easy", "Medium", "Open"], name
        exercises = nbformat.read(NOTEBOOKS[name], as_version=4).cells
        assert sum(cell.source.count("**Easy.**") for cell in exercises) == 1
        assert BLOCK.findall(section), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")  # Lightning's advice
@pytest.mark.parametrize("name", ANSWERS)
def test_the_answers_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIGHTNING_RL_FAST", "1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.syspath_prepend(str(FOLDER.parent / "lightning-sample"))
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {}
    exec(definitions(NOTEBOOKS[name]), namespace)  # noqa: S102 - the course's own code, as below
    namespace.update(SMALL)
    exec(SETUP.get(name, ""), namespace)  # noqa: S102
    for block in BLOCK.findall(ANSWERS[name]):
        exec(ast.unparse(Smaller().visit(ast.parse(block))), namespace)  # noqa: S102
