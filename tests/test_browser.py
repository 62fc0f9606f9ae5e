"""JupyterLab and Notebook 7 in a real browser: the picture moves, Pause freezes it, Stop ends it.

Whatever a user stops, interrupts, runs again or opens again, nothing red is left behind.

It needs Chromium at `/usr/bin/chromium` (Debian and Ubuntu: `apt-get install chromium`). The
screenshot of each goes to `build/browser/`, for the eye, and so does what Stop took.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest

CHROMIUM = Path("/usr/bin/chromium")
SCREENSHOTS = Path(__file__).parents[1] / "build" / "browser"
PATIENCE = 120.0  # seconds until a wait in vain is given up
TOKEN = "for-this-test-only"  # noqa: S105
FIT = """
from time import perf_counter

from lightning.pytorch import Callback

from lightning_rl import AgentTrainer, EpisodePlayer, PPOAgent, PPOConfig
from lightning_rl.callbacks import Controls


class Stopwatch(Callback):
    \"\"\"Notes when the kernel receives the click on Stop.\"\"\"

    def on_train_batch_start(self, trainer, agent, batch, batch_idx):
        if batch_idx == 0:
            controls.widgets["stop"].on_click(lambda _: clicks.append(perf_counter()))


clicks = []
controls = Controls()
trainer = AgentTrainer(
    max_env_steps=10_000_000, seed=0, callbacks=[Stopwatch(), controls], logger=False,
    enable_checkpointing=False, enable_model_summary=False,
)
agent = PPOAgent(config=PPOConfig(rollout_steps=512))
trainer.fit(agent, "CartPole-v1")
seconds = perf_counter() - clicks[0]
"""
NEXT = """
from pathlib import Path

_ = Path("latency.txt").write_text(str(seconds))
"""
PLAYER = 'EpisodePlayer(agent, "CartPole-v1", max_steps=20)'
# Two notebooks of one folder, each with default checkpoints and logs.
EVALUATING = """
from lightning_rl import AgentTrainer, PPOAgent

agent = PPOAgent()
options = {"evaluate_every_env_steps": 512, "evaluation_episodes": 100_000}
AgentTrainer(max_env_steps=10_000_000, seed=0, **options).fit(agent, "CartPole-v1")
"""
AGAIN = 'AgentTrainer(max_env_steps=2048, seed=0).fit(agent, "CartPole-v1")'
LOOP = """
import time

from lightning_rl import AgentTrainer, PPOAgent


class Slow(PPOAgent):
    def sample(self):
        time.sleep(20)
        return super().sample()


for seed in range(3):
    AgentTrainer(max_env_steps=10_000_000, seed=seed).fit(Slow(), "CartPole-v1")
"""
RED = "[data-mime-type$='jupyter.stderr'], [data-mime-type$='jupyter.error']"
# Layout shifts once the picture, the buttons and the bar are there: what moves up or down.
# (The numbers at the end of the bar get wider, within their line.)
WATCH_SHIFTS = """
() => {
  window.shifts = [];
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries())
      for (const source of entry.sources)
        if (source.previousRect.top !== source.currentRect.top)
          window.shifts.push(source.node?.parentElement?.outerHTML.slice(0, 200) ?? "removed");
  }).observe({type: "layout-shift"});
}
"""
# What serves a notebook, and where.
FRONTENDS = {"jupyterlab": "doc/tree/fit.ipynb", "notebook": "notebooks/fit.ipynb"}
NEWS = "lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
PICTURE = ".jp-OutputArea-output img"

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(params=FRONTENDS)
def frontend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def address(frontend: str, tmp_path: Path) -> Iterator[str]:
    """Serve a notebook of two cells, away from the user's own settings, and give its address."""
    write_notebook(tmp_path)
    with serving(frontend, tmp_path) as address:
        yield address


def write_notebook(folder: Path, name: str = "fit", codes: Any = (FIT, NEXT, PLAYER)) -> None:
    cells = [nbformat.v4.new_code_cell(code.strip()) for code in codes]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=kernel)
    nbformat.write(notebook, folder / f"{name}.ipynb")


@contextmanager
def serving(frontend: str, folder: Path) -> Iterator[str]:
    """Start a server in a folder, and give the notebook's address; it has no kernel yet."""
    folders = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    environment = os.environ | {name: str(folder / name) for name in folders}
    news = Path(environment["JUPYTER_CONFIG_DIR"]) / NEWS
    news.parent.mkdir(parents=True, exist_ok=True)
    news.write_text('{"fetchNews": "false"}')
    port = free_port()
    server_address = f"http://127.0.0.1:{port}"
    options = [
        "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--port-retries=0",
        f"--IdentityProvider.token={TOKEN}",
    ]  # fmt: skip
    server = subprocess.Popen(
        [sys.executable, "-m", frontend, *options],
        cwd=folder,
        env=environment | {"HOME": str(folder), "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_server(f"{server_address}/api")
        yield f"{server_address}/{FRONTENDS[frontend]}?token={TOKEN}"
    finally:
        server.terminate()
        server.wait()


def wait_for_server(address: str) -> None:
    give_up = time.monotonic() + PATIENCE
    while True:
        try:
            urllib.request.urlopen(address)  # noqa: S310 (our own server)
            return
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.2)


@pytest.fixture
def page(frontend: str) -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}; apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=arguments)
        page = browser.new_page(viewport={"width": 1100, "height": 1100})
        page.set_default_timeout(1000 * PATIENCE)
        yield page
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        for number, one in enumerate(one for context in browser.contexts for one in context.pages):
            one.screenshot(path=SCREENSHOTS / f"{frontend}_end_{number}.png")
        browser.close()


def run_cells(page: Any, count: int = 2) -> None:
    """Press Shift and Enter as often as it takes: before the kernel is there nothing happens."""
    give_up = time.monotonic() + PATIENCE
    while page.locator(".jp-InputPrompt:text('[*]:')").count() == 0:
        assert time.monotonic() < give_up, "the first cell does not run"
        page.click(".jp-CodeCell .cm-content")
        page.keyboard.press("Shift+Enter")
        page.wait_for_timeout(500)
    for _ in range(count - 1):
        page.keyboard.press("Shift+Enter")


def picture(page: Any) -> str:
    return str(page.locator(PICTURE).first.get_attribute("src"))


def wait_for_new_picture(page: Any) -> None:
    page.wait_for_function(
        "([selector, old]) => document.querySelector(selector).src !== old",
        arg=[PICTURE, picture(page)],
    )


def test_the_picture_moves_pause_freezes_it_and_stop_ends_the_cell(
    frontend: str, address: str, page: Any, tmp_path: Path
) -> None:
    page.goto(address)
    run_cells(page)

    page.wait_for_selector(".lightning-rl-stop")
    page.wait_for_selector(PICTURE)
    page.wait_for_selector(".jp-OutputArea-output .widget-html")  # of the progress bar
    page.evaluate(WATCH_SHIFTS)
    wait_for_new_picture(page)
    wait_for_new_picture(page)

    page.click(".lightning-rl-pause")
    page.wait_for_selector("text=Resume")
    frozen = picture(page)
    page.wait_for_timeout(2000)
    assert picture(page) == frozen
    page.click("text=Resume")
    wait_for_new_picture(page)

    assert page.evaluate("() => window.shifts") == []  # in the end a line replaces the buttons
    page.screenshot(path=SCREENSHOTS / f"{frontend}.png")
    clicked = time.monotonic()
    page.click(".lightning-rl-stop")
    page.wait_for_selector("text=fit again goes on from there")
    in_browser = time.monotonic() - clicked
    page.wait_for_selector(".jp-InputPrompt:text('[2]:')")
    in_kernel = float((tmp_path / "latency.txt").read_text())  # written by the next cell
    # Kept beside the screenshot, not asserted: how long it takes depends on the machine's load.
    latency = (
        f"Stop ended the cell {in_browser:.2f} s after the click, {in_kernel:.3f} s in the kernel"
    )
    (SCREENSHOTS / f"{frontend}_stop.txt").write_text(f"{latency}\n")
    print(latency)
    assert page.locator(RED).count() == 0


def test_a_notebook_opened_again_shows_its_picture_and_a_line_but_no_missing_widget(
    frontend: str, page: Any, tmp_path: Path
) -> None:
    write_notebook(tmp_path)
    with serving(frontend, tmp_path) as address:
        page.goto(address)
        run_cells(page, 3)
        page.wait_for_selector(".lightning-rl-stop")
        page.wait_for_selector(PICTURE)
        wait_for_new_picture(page)
        page.click(".lightning-rl-stop")
        page.wait_for_selector(".lightning-rl-playing")
        page.wait_for_selector(".jp-InputPrompt:text('[3]:')")
        page.keyboard.press("Control+s")
        wait_until_saved(tmp_path / "fit.ipynb")
        page.goto("about:blank")
    with serving(frontend, tmp_path) as address:
        page.goto(address)
        page.wait_for_selector(PICTURE)
        page.wait_for_selector("text=fit again goes on from there")
        page.wait_for_selector(".lightning-rl-playing")
        page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']")
        page.wait_for_timeout(2000)  # a widget would say by now that it is missing
        assert page.locator("text=Loading widget").count() == 0
        assert page.locator("text=model not found").count() == 0


def wait_until_saved(notebook: Path) -> None:
    give_up = time.monotonic() + PATIENCE
    while not nbformat.read(notebook, as_version=4).cells[2].execution_count:
        assert time.monotonic() < give_up, "the notebook was not saved"
        time.sleep(0.2)


@pytest.mark.parametrize("frontend", ["jupyterlab"])
def test_two_notebooks_are_stopped_interrupted_and_run_again_without_a_red_box(
    frontend: str, page: Any, tmp_path: Path
) -> None:
    write_notebook(tmp_path, "fit", (EVALUATING, AGAIN))
    write_notebook(tmp_path, "loop", (LOOP, "print('not' + ' reached')"))
    other = page.context.browser.new_page()  # with a context of its own
    other.set_default_timeout(1000 * PATIENCE)
    with serving(frontend, tmp_path) as address:
        page.goto(address)
        run_cells(page)
        other.goto(address.replace("fit.ipynb", "loop.ipynb"))
        run_cells(other)

        page.wait_for_selector(".lightning-rl-stop")
        page.wait_for_timeout(2000)  # it evaluates by now
        page.click(".lightning-rl-stop")
        page.wait_for_selector("text=fit again goes on from there")
        page.wait_for_selector("text=after the first")  # so many env steps, the next cell says

        other.wait_for_selector(".lightning-rl-stop")
        other.wait_for_timeout(1000)
        for _ in range(2):
            other.click("[data-command='notebook:interrupt-kernel'] >> nth=0")
            other.wait_for_timeout(200)
        other.wait_for_selector("text=the cell was left")
        other.wait_for_selector("text=Slow: ended by")
        other.screenshot(path=SCREENSHOTS / "loop.png")
        assert other.locator("text=not reached").count() == 0
        assert page.locator(RED).count() == other.locator(RED).count() == 0
