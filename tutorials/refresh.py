"""Run the tutorials in full and save them with their outputs.

    python tutorials/refresh.py             # all of them
    python tutorials/refresh.py 03 05       # those whose names begin so
    python tutorials/refresh.py --jobs 2    # two at a time

A cell that fails, a notebook that takes more than 90 s, a picture over 100 kB, red text on stderr
and a path of this machine in an output are reported, and the exit status is then 1.
"""

from __future__ import annotations

import argparse
import base64
import os
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parent
MAX_SECONDS = 90.0
MAX_PICTURE_BYTES = 100_000
PNG = "image/png"
WIDGET = "application/vnd.jupyter.widget-view+json"
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


def execute(notebook: NotebookNode) -> float:
    """Run every cell in a fresh kernel, keep the outputs, and return the seconds it took."""
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name=KERNEL["name"],
        record_timing=False,  # time stamps would change with every run
        coalesce_streams=True,  # as would the number of pieces that a text arrives in
        resources={"metadata": {"path": str(FOLDER)}},
    )
    start = time.perf_counter()
    client.execute()
    return time.perf_counter() - start


def tidy(notebook: NotebookNode) -> None:
    """Drop what changes between machines and what no page can show without a live kernel.

    Widgets (buttons, progress bars) are live objects: their saved state breaks the page on GitHub,
    and without it they are an error message in JupyterLab. Players are scripts, which GitHub does
    not run. Pictures and text stay.
    """
    notebook.metadata.pop("widgets", None)
    notebook.metadata["kernelspec"] = dict(KERNEL)
    notebook.metadata.get("language_info", {}).pop("version", None)
    for cell in code_cells(notebook):
        for output in cell.outputs:
            if PNG in output.get("data", {}):
                for kind in (WIDGET, "text/html"):
                    output.data.pop(kind, None)  # the picture stands for it
        cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """Give the cells of code."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def find_problems(notebook: NotebookNode) -> list[str]:
    """Say in words what is wrong with the saved outputs; an empty list means nothing is."""
    cells = code_cells(notebook)
    problems = []
    if [cell.execution_count for cell in cells] != list(range(1, len(cells) + 1)):
        problems.append("the cells were not all run once, in order: run refresh.py")
    if "widgets" in notebook.metadata:
        problems.append("metadata.widgets is there, which breaks the page on GitHub")
    for cell in cells:
        for output in cell.outputs:
            where = f"cell [{cell.execution_count}]"
            problems += [f"{where}: {problem}" for problem in _output_problems(output)]
    return problems


def _output_problems(output: Any) -> list[str]:
    problems = []
    if output.output_type == "error":
        problems.append(f"ended with {output.ename}: {output.evalue}")
    if output.get("name") == "stderr":
        problems.append(f"wrote red text: {output.text.strip()[:200]}")
    if WIDGET in output.get("data", {}):
        problems.append("shows a widget, which needs a live kernel: run refresh.py")
    text = _text(output)
    problems += [f"shows {place!r}, of one machine" for place in _places() if place in text]
    for kind in ("image/png", "image/jpeg", "image/svg+xml"):
        size = _size(kind, output.get("data", {}).get(kind, ""))
        if size > MAX_PICTURE_BYTES:
            problems.append(f"shows a picture of {size // 1000} kB; at most 100 kB")
    return problems


def _text(output: Any) -> str:
    """Join all that a reader can read in an output."""
    data = output.get("data", {})
    shown = [value for kind, value in data.items() if not kind.startswith("image/")]
    return "\n".join(map(str, [output.get("text", ""), *shown]))


def _size(kind: str, picture: str) -> int:
    return len(picture) if kind.endswith("xml") else len(base64.b64decode(picture))


def _places() -> list[str]:
    """Name what gives away the machine: its name, the course's folder, homes, temporary folders."""
    roots = ["/home/", "/root/", "/Users/", "/tmp/", "C:\\", "site-packages"]  # noqa: S108
    host = platform.node()
    return [str(FOLDER.parent), *roots, *([host] if len(host) > 3 else [])]


def refresh(path: Path) -> tuple[float, list[str]]:
    """Run one notebook and save it; return its seconds and problems. One that fails is kept."""
    notebook = nbformat.read(path, as_version=4)
    try:
        seconds = execute(notebook)
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        return 0.0, [f"not saved, a cell failed: {error}"]
    tidy(notebook)
    problems = find_problems(notebook)
    if seconds > MAX_SECONDS:
        problems.append(f"took {seconds:.0f} s; at most {MAX_SECONDS:.0f} s")
    nbformat.write(notebook, path)
    return seconds, problems


def tutorials(names: list[str] | None = None) -> list[Path]:
    """Give the notebooks of the course whose names begin with one of `names`; default: all."""
    found = sorted(FOLDER.glob("[0-9][0-9]_*.ipynb"))
    found += sorted(FOLDER.glob("assignments/[0-9]_*.ipynb"))
    if not names:
        return found
    chosen = [path for path in found if path.name.startswith(tuple(Path(n).name for n in names))]
    if not chosen:
        raise SystemExit(f"no tutorial begins with {names}; there are {[p.name for p in found]}")
    return chosen


def main() -> int:
    """Refresh what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", help="such as 03 or 05_ppo; default: all")
    parser.add_argument("--jobs", type=int, default=1, help="notebooks at a time")
    arguments = parser.parse_args()
    os.environ.pop("LIGHTNING_RL_FAST", None)  # kernels inherit this: in full
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the same results on every number of cores
    paths = tutorials(arguments.names)
    failed, total = False, 0.0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for path, (seconds, problems) in zip(paths, pool.map(refresh, paths), strict=True):
            total, failed = total + seconds, failed or bool(problems)
            print(f"{path.name:38} {seconds:6.1f} s")
            for problem in problems:
                print(f"    {problem}")
    print(f"{'all':38} {total:6.1f} s")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
