"""The course's form: saved as run, readable anywhere, with all that each lesson promises.

That the notebooks still run, and still give the outputs saved in them, is tested by nbval, which
`python -m pytest` uses on them too.
"""

from __future__ import annotations

import base64
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

FOLDER = Path(__file__).parents[1] / "tutorials"
COURSE = (
    "00_start_here.ipynb",
    "01_lightning_on_mnist.ipynb",
    "02_one_trainer_two_worlds.ipynb",
    "03_reinforce.ipynb",
    "04_actor_critic_and_gae.ipynb",
    "05_ppo_on_cartpole.ipynb",
    "06_silent_bugs.ipynb",
    "07_replay_and_dqn.ipynb",
    "08_continuous_control.ipynb",
    "09_world_model.ipynb",
    "10_acting_in_the_dream.ipynb",
    "11_an_eye.ipynb",
    "12_dreams_in_pictures.ipynb",
    "13_what_lightning_gives_you.ipynb",
)
LESSONS = [name for name in COURSE if (FOLDER / name).is_file()]
FOLDED = re.compile(r"<details>\s*<summary>.*?</summary>\s*\S.*?</details>", re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#|attachment:|data:)([^)#\s]+)(?:#[^)\s]*)?\)")


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


refresh = load(FOLDER / "refresh.py")


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(FOLDER / name, as_version=4)


def prose(notebook: nbformat.NotebookNode) -> str:
    return "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")


def section(notebook: nbformat.NotebookNode, title: str) -> str:
    """Give the text from the heading to the next one of its level."""
    found = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", prose(notebook), re.MULTILINE | re.DOTALL)
    assert found, f"there is no '## {title}'"
    return found[1]


# ---- every notebook -------------------------------------------------------------------------


@pytest.mark.parametrize("name", LESSONS)
def test_saved_as_run_in_order_without_errors_red_text_or_local_paths(name):
    assert refresh.find_problems(read(name)) == []


@pytest.mark.parametrize("name", LESSONS)
def test_begins_with_its_number_time_and_picture_of_the_end(name):
    first = read(name).cells[0].source
    assert re.match(rf"# {name[:2]} · \S", first)
    time = re.search(r"\*\*Time: about (\d+) s on a laptop CPU", first)
    assert time, "the time stands on top"
    assert int(time[1]) <= 90
    assert "**What you will see:**" in first
    if name != COURSE[0]:
        assert f"**New since {int(name[:2]) - 1:02}:**" in first


@pytest.mark.parametrize("name", LESSONS)
def test_asks_before_it_runs_and_folds_the_answer(name):
    notebook = read(name)
    asked = prose(notebook).count("**Predict")
    assert asked >= (1 if name == COURSE[0] else 2)
    assert len(FOLDED.findall(prose(notebook))) >= asked


@pytest.mark.parametrize("name", LESSONS)
def test_no_text_touches_a_folded_answer(name):
    """As JupyterLab shows it: a heading keeps its distance, and so does a cell of its own."""
    lesson, _, _ = prose(read(name)).partition("## Questionnaire")
    cells = [c.source for c in read(name).cells if c.source in lesson]
    touching = [re.search(r"</details>\s*[^#\s].*", source) for source in cells]
    assert [match[0] for match in touching if match] == []


@pytest.mark.parametrize("name", LESSONS)
def test_teaches_by_assertions(name):
    asserted = "\n".join(c.source for c in refresh.code_cells(read(name)) if "assert " in c.source)
    assert asserted, "no cell asserts anything"
    assert re.search(r"assert .*?,\s*\(?\s*f?\"", asserted, re.DOTALL), "no assert explains itself"


@pytest.mark.parametrize("name", LESSONS)
def test_ends_with_words_questionnaire_and_exercises(name):
    notebook = read(name)
    assert "|" in section(notebook, "New words")
    questions = FOLDED.findall(section(notebook, "Questionnaire"))
    assert 6 <= len(questions) <= 8
    exercises = section(notebook, "Exercises")
    assert all(f"**{level}.**" in exercises for level in ("Easy", "Medium", "Open"))


@pytest.mark.parametrize("name", LESSONS)
def test_has_a_picture(name):
    outputs = [o for cell in refresh.code_cells(read(name)) for o in cell.outputs]
    pictures = [o for o in outputs if any(k.startswith("image/") for k in o.get("data", {}))]
    assert pictures or name == COURSE[0]


@pytest.mark.parametrize("name", LESSONS)
def test_links_lead_somewhere_and_on_to_the_next(name):
    notebook = read(name)
    following = (*COURSE, "README.md")[COURSE.index(name) + 1]
    assert f"]({following})" in notebook.cells[-1].source
    for target in LINK.findall(prose(notebook)):
        assert target in COURSE or (FOLDER / target).exists(), f"broken link: {target}"


@pytest.mark.parametrize("name", LESSONS)
def test_the_fast_switch_stands_in_the_first_cell_and_is_never_printed(name):
    cells = refresh.code_cells(read(name))
    switches = [i for i, cell in enumerate(cells) if "LIGHTNING_RL_FAST" in cell.source]
    assert switches in ([], [0])
    assert not any(re.search(r"print\([^\n]*\bFAST\b\s*[,)]", cell.source) for cell in cells)


# ---- figures ---------------------------------------------------------------------------------


def test_every_figure_is_small_and_shown_and_has_a_script(tmp_path):
    pictures = {p.name: p for p in (FOLDER / "figures").iterdir() if p.suffix in (".svg", ".gif")}
    shown = {
        Path(t).name for name in LESSONS for t in LINK.findall(prose(read(name))) if "fig" in t
    }
    assert shown == set(pictures)
    for picture in pictures.values():
        assert picture.stat().st_size < refresh.MAX_PICTURE_BYTES, picture.name
    draw, record = (load(FOLDER / "figures" / f"{name}.py") for name in ("draw", "record"))
    draw.main(tmp_path)
    drawn = {path.name for path in tmp_path.iterdir()}
    assert set(pictures) == drawn | {f"{name}.gif" for name in record.FILMS}


# ---- the page of the course -----------------------------------------------------------------


def test_readme_links_every_notebook_once_in_order():
    text = (FOLDER / "README.md").read_text()
    assert re.findall(r"^\| \d\d \| \[.*?\]\((.*?)\)", text, re.MULTILINE) == list(COURSE)
    for target in LINK.findall(text):
        assert target in COURSE or target.startswith("0") or (FOLDER / target).exists(), target


# ---- the checks themselves ------------------------------------------------------------------


def notebook_with(*outputs: nbformat.NotebookNode) -> nbformat.NotebookNode:
    cell = new_code_cell("1", execution_count=1, outputs=list(outputs))
    return new_notebook(cells=[cell])


def shown(kind: str, value: str) -> nbformat.NotebookNode:
    return new_output("display_data", data={kind: value})


def test_a_clean_notebook_has_no_problem():
    picture = base64.b64encode(bytes(50_000)).decode()
    assert refresh.find_problems(notebook_with(shown("image/png", picture))) == []


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (new_output("error", ename="ValueError", evalue="no", traceback=[]), "ended with ValueE"),
        (new_output("stream", name="stderr", text="careful"), "red text: careful"),
        (new_output("stream", name="stdout", text="in /home/ada/runs"), "'/home/'"),
        (new_output("stream", name="stdout", text=str(FOLDER.parent)), "of one machine"),
        (shown("text/html", "C:\\Users"), "of one machine"),
        (shown("image/png", base64.b64encode(bytes(100_001)).decode()), "picture of 100 kB"),
        (shown("image/svg+xml", "x" * 100_001), "picture of 100 kB"),
        (shown(refresh.WIDGET, "{}"), "widget"),
    ],
)
def test_each_problem_is_found(output, problem):
    assert problem in " ".join(refresh.find_problems(notebook_with(output)))


def test_cells_not_run_or_run_out_of_order_are_found():
    for counts in ([None], [2], [1, 3], [2, 1]):
        cells = [new_code_cell("1", execution_count=count) for count in counts]
        assert "once, in order" in refresh.find_problems(new_notebook(cells=cells))[0]


def test_tidy_drops_widgets_and_versions_and_keeps_pictures_and_cell_ids():
    notebook = notebook_with(shown(refresh.WIDGET, "{}"), shown("image/png", "aaaa"))
    notebook.metadata.update(
        widgets={"state": {}}, language_info={"name": "python", "version": "3"}
    )
    player = {"text/html": "<script></script>", "image/png": "aaaa"}
    notebook.cells[0].outputs.append(new_output("display_data", data=player))
    cell_id = notebook.cells[0].id
    refresh.tidy(notebook)
    assert refresh.find_problems(notebook) == []
    assert notebook.metadata["language_info"] == {"name": "python"}
    assert [list(output.data) for output in notebook.cells[0].outputs] == [["image/png"]] * 2
    assert notebook.cells[0].id == cell_id


def refresh_course_of_one(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    """Run the script on a course of one notebook with one cell."""
    script = shutil.copy(FOLDER / "refresh.py", folder)
    nbformat.write(new_notebook(cells=[new_code_cell(source)]), folder / "00_try.ipynb")
    environment = os.environ | {"LIGHTNING_RL_FAST": "1"}
    return subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=False
    )


def test_refresh_runs_in_full_in_the_course_folder_and_saves(tmp_path):
    source = "import os\nprint(os.environ.get('LIGHTNING_RL_FAST'), sorted(os.listdir()))"
    result = refresh_course_of_one(tmp_path, source)
    assert result.returncode == 0, result.stderr
    saved = nbformat.read(tmp_path / "00_try.ipynb", as_version=4)
    assert saved.cells[0].outputs[0].text == "None ['00_try.ipynb', 'refresh.py']\n"
    assert re.search(r"00_try.ipynb +\d+\.\d s", result.stdout)


def test_refresh_does_not_save_a_notebook_that_fails_and_says_so(tmp_path):
    result = refresh_course_of_one(tmp_path, "1 / 0")
    assert result.returncode == 1
    assert nbformat.read(tmp_path / "00_try.ipynb", as_version=4).cells[0].outputs == []
    assert "ZeroDivisionError" in result.stdout


def test_refresh_refuses_a_name_that_no_notebook_has():
    with pytest.raises(SystemExit, match="no tutorial begins with"):
        refresh.tutorials(["77"])


@pytest.mark.slow
def test_a_cell_may_display_more_than_the_sockets_between_kernel_and_test_hold(tmp_path):
    shutil.copy(FOLDER / "conftest.py", tmp_path)
    source = "shown = display(0, display_id=1)\nfor count in range(9000):\n    shown.update(count)"
    notebook = new_notebook(cells=[new_code_cell(source)])
    notebook.cells[0].metadata["tags"] = ["nbval-ignore-output"]
    nbformat.write(notebook, tmp_path / "00_try.ipynb")
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", str(tmp_path)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-2000:]


# ---- the whole course -----------------------------------------------------------------------


def test_the_course_is_complete_and_nothing_else_is_numbered():
    assert sorted(path.name for path in FOLDER.glob("[0-9]*.ipynb")) == list(COURSE)
