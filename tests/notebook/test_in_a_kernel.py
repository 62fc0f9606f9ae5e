"""A real kernel, spoken to as JupyterLab does: the picture, the buttons, the interrupt."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

IMPORTS = "from lightning_rl import AgentTrainer, PPOAgent"
FIT = """
trainer = AgentTrainer(
    max_env_steps={steps}, seed=0, logger=False, enable_checkpointing=False{more}
)
trainer.fit(PPOAgent(), "CartPole-v1")
""".format
ENDLESS = 10**9
PATIENCE = 120.0  # seconds until a test that waits in vain gives up
WIDGET = "application/vnd.jupyter.widget-view+json"
SHOWN = ("display_data", "update_display_data")
OTHER_KERNELS = ("6.31.0", "7.3.0", "7.4.0")


class Kernel:
    """A kernel and the messages of the cell that it runs."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.manager = KernelManager(kernel_name="python3")
        spec: Any = self.manager.kernel_spec
        spec.argv[0] = sys.executable
        self.manager.start_kernel(env=os.environ | {"OMP_NUM_THREADS": "1"} | environment)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=PATIENCE)
        self.version = self.client.kernel_info(reply=True, timeout=PATIENCE)["content"]
        self.messages: list[Any] = []
        self.subshell: str | None = None
        self.run(IMPORTS)

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    @property
    def has_subshells(self) -> bool:
        return "kernel subshells" in self.version.get("supported_features", [])

    # ---- cells -------------------------------------------------------------------------------

    def start(self, code: str) -> None:
        self.messages = []
        self.cell = self.client.execute(code)

    def wait_for(self, arrived: Callable[[Any], bool]) -> Any:
        """Give the first message of the running cell, past or to come, that is the one meant."""
        for message in self.messages:
            if arrived(message):
                return message
        end = time.monotonic() + PATIENCE  # a training's messages may never cease
        while time.monotonic() < end:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            self.messages.append(message)
            if arrived(message):
                return message
        raise TimeoutError(f"no such message in {PATIENCE} s, among {len(self.messages)}")

    def end(self) -> Any:
        """Wait for the end of the cell and give its reply."""
        self.wait_for(
            lambda m: (
                m["msg_type"] == "status"
                and m["content"]["execution_state"] == "idle"
                and m["parent_header"]["msg_id"] == self.cell
            )
        )
        while True:
            reply = self.client.get_shell_msg(timeout=PATIENCE)
            if reply["parent_header"].get("msg_id") == self.cell:
                return reply["content"]

    def run(self, code: str) -> None:
        self.start(code)
        self.ends_well()

    def ends_well(self) -> None:
        reply = self.end()
        assert reply["status"] == "ok", "\n".join(reply["traceback"])

    def value(self, expression: str) -> str:
        self.start("")
        reply = self.client.execute("", user_expressions={"value": expression}, reply=True)
        return str(reply["content"]["user_expressions"]["value"]["data"]["text/plain"])

    # ---- what a cell shows -------------------------------------------------------------------

    def of_type(self, *types: str) -> list[Any]:
        return [m for m in self.messages if m["msg_type"] in types]

    def pictures(self) -> list[Any]:
        shown = self.of_type(*SHOWN)
        return [m for m in shown if "image/png" in m["content"]["data"]]

    def red(self) -> list[str]:
        streams = [m["content"] for m in self.of_type("stream")]
        return [content["text"] for content in streams if content["name"] == "stderr"]

    # ---- buttons -----------------------------------------------------------------------------

    def widget(self, description: str) -> str:
        """Wait until a widget is open, and shown so that it can be clicked, and give its comm."""

        def opens(message: Any, **wanted: str) -> bool:
            state = message["content"].get("data", {}).get("state", {})
            return message["msg_type"] == "comm_open" and wanted.items() <= state.items()

        comm = str(self.wait_for(partial(opens, description=description))["content"]["comm_id"])
        box = self.wait_for(partial(opens, _model_name="VBoxModel"))["content"]["comm_id"]
        self.wait_for(
            lambda m: (
                m["msg_type"] == "display_data"
                and m["content"]["data"].get(WIDGET, {}).get("model_id") == box
            )
        )
        return comm

    def send(self, comm: str, data: dict[str, Any]) -> None:
        """Send a frontend's message; in a subshell, as JupyterLab does where there are any."""
        message = self.client.session.msg("comm_msg", {"comm_id": comm, "data": data})
        if self.has_subshells:
            message["header"]["subshell_id"] = self._subshell()
        self.client.shell_channel.send(message)

    def click(self, comm: str) -> None:
        self.send(comm, {"method": "custom", "content": {"event": "click"}})

    def set(self, comm: str, value: Any) -> None:
        self.send(comm, {"method": "update", "state": {"value": value}, "buffer_paths": []})

    def becomes(self, comm: str, **state: Any) -> None:
        """Wait until the kernel has changed a widget to this state."""

        def changed(message: Any) -> bool:
            content = message["content"]
            new = content.get("data", {}).get("state", {})
            return content.get("comm_id") == comm and state.items() <= new.items()

        self.wait_for(lambda m: m["msg_type"] == "comm_msg" and changed(m))

    def _subshell(self) -> str:
        if self.subshell is None:
            request = self.client.session.msg("create_subshell_request")
            self.client.control_channel.send(request)
            reply = self.client.get_control_msg(timeout=PATIENCE)
            self.subshell = str(reply["content"]["subshell_id"])
        return self.subshell


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    kernel = Kernel({})
    yield kernel
    kernel.close()


def press_stop_and_pause(kernel: Kernel) -> None:
    """Pause a training, resume it, pause it again and stop it."""
    kernel.start(FIT(steps=ENDLESS, more=""))
    stop, pause = kernel.widget("Stop"), kernel.widget("Pause")
    kernel.set(pause, True)
    kernel.becomes(pause, description="Resume")
    kernel.set(pause, False)
    kernel.becomes(pause, description="Pause")
    kernel.click(stop)
    kernel.ends_well()
    last = kernel.of_type("update_display_data")[-1]["content"]["data"]
    assert re.search("stopped at [0-9,]+ env steps.*goes on from there", last["text/plain"])
    styles = [m["content"]["data"].get("state", {}) for m in kernel.of_type("comm_msg")]
    assert "danger" not in {state.get("bar_style") for state in styles}  # the bar is not red
    assert kernel.value("trainer.state.status.value") == "'finished'"


def interrupt(kernel: Kernel) -> None:
    """Interrupt a training without buttons, once it goes on, as the toolbar's square does."""
    kernel.start(FIT(steps=ENDLESS, more=", live=False"))
    kernel.wait_for(lambda m: m["msg_type"] == "comm_msg")  # the progress bar
    kernel.manager.interrupt_kernel()
    kernel.ends_well()
    assert kernel.red() == []
    assert kernel.value("trainer.state.status.value") == "'finished'"


def test_a_fit_shows_its_returns_and_nothing_red(kernel: Kernel) -> None:
    kernel.run(FIT(steps=4096, more=""))
    first, *later = kernel.pictures()
    assert first["msg_type"] == "display_data"
    assert len(later) >= 1
    assert {m["msg_type"] for m in later} == {"update_display_data"}
    displays = [m["content"]["transient"]["display_id"] for m in kernel.pictures()]
    assert len(set(displays)) == 1
    assert first["content"]["data"].keys() == later[-1]["content"]["data"].keys()
    states = [m["content"]["data"]["state"] for m in kernel.of_type("comm_open")]
    assert 4096 in [state.get("max") for state in states]  # of the progress bar
    assert {str(m["content"]["metadata"]) for m in kernel.pictures()} == {
        "{'image/png': {'width': 700, 'height': 350}}"
    }
    assert kernel.red() == []


def test_a_fit_that_is_not_live_shows_no_picture_and_no_button(kernel: Kernel) -> None:
    kernel.run(FIT(steps=2048, more=", live=False"))
    assert kernel.pictures() == []
    models = [m["content"]["data"]["state"]["_model_name"] for m in kernel.of_type("comm_open")]
    assert "ButtonModel" not in models
    assert kernel.red() == []


def test_the_buttons_work_while_the_cell_runs(kernel: Kernel) -> None:
    if not kernel.has_subshells:
        pytest.skip("this ipykernel hears no clicks while a cell runs; it has no subshells")
    press_stop_and_pause(kernel)


def test_the_interrupt_ends_the_cell_well(kernel: Kernel) -> None:
    interrupt(kernel)


def test_the_second_interrupt_leaves_the_cell_at_once_with_a_line_and_no_traceback(
    kernel: Kernel,
) -> None:
    kernel.start(
        "import signal\n"
        "class Twice(PPOAgent):\n"
        "    def sample(self):\n"
        "        signal.raise_signal(signal.SIGINT); signal.raise_signal(signal.SIGINT)\n"
        'AgentTrainer(logger=False, enable_checkpointing=False).fit(Twice(), "CartPole-v1")'
    )
    assert kernel.end()["ename"] == "CellLeft"  # so that "Run All" ends, too
    assert kernel.of_type("error") == []
    assert kernel.red() == []
    printed = "".join(m["content"]["text"] for m in kernel.of_type("stream"))
    assert printed.count("the cell was left") == 1
    assert kernel.value("get_ipython().custom_exceptions") == "()"
    assert kernel.value("signal.getsignal(signal.SIGINT) is signal.default_int_handler") == "True"


def test_warnings_and_the_level_of_lightnings_messages_stay(kernel: Kernel) -> None:
    levels = "[logging.getLogger(n).level for n in ('lightning.pytorch', 'lightning.fabric')]"
    kernel.run(f"import logging, warnings; before = {levels}")
    kernel.run(
        "class Loud(PPOAgent):\n"
        "    def on_train_start(self):\n"
        "        super().on_train_start(); warnings.warn('this matters')\n"
        "AgentTrainer(max_env_steps=1, logger=False, enable_checkpointing=False, live=False)"
        '.fit(Loud(), "CartPole-v1")'
    )
    assert "this matters" in "".join(kernel.red())
    assert kernel.value(f"{levels} == before") == "True"


def test_a_fit_in_the_background_leaves_the_notebook_free(kernel: Kernel) -> None:
    kernel.run(
        "from lightning_rl import fit_in_background\n"
        "trainer = AgentTrainer(logger=False, enable_checkpointing=False, "
        f"max_env_steps={ENDLESS})\n"
        'handle = fit_in_background(trainer, PPOAgent(), "CartPole-v1")'
    )
    assert kernel.value("handle.running") == "True"
    kernel.run("handle.stop()\nended = handle.wait()")
    assert kernel.value("ended, trainer.state.status.value") == "(True, 'finished')"


def test_a_loop_over_seeds_shows_one_picture_one_row_of_buttons_and_a_line_for_each(
    kernel: Kernel,
) -> None:
    kernel.run("for seed in range(3):\n" + FIT(steps=1024, more="").replace("\n", "\n    "))
    shown = kernel.of_type("display_data")
    assert ["image/png" in m["content"]["data"] for m in shown] == [True, False]
    last = kernel.of_type("update_display_data")[-1]["content"]
    assert last["transient"] == shown[1]["content"]["transient"]
    assert last["data"].keys() == {"text/plain"}  # no widget is left to be saved
    lines = last["data"]["text/plain"].splitlines()
    assert [line.split(" env steps")[0][:13] for line in lines] == ["PPOAgent: 1,0"] * 3
    opened = [m["content"]["data"]["state"]["_model_name"] for m in kernel.of_type("comm_open")]
    assert opened.count("ButtonModel") == opened.count("FloatProgressModel") == 1
    printed = "".join(m["content"]["text"] for m in kernel.of_type("stream"))
    assert printed.count("parameters") == 1
    assert kernel.red() == []


def test_any_frontend_is_sent_core_messages_and_plain_widgets_alone(kernel: Kernel) -> None:
    """So that VS Code, Colab and others show what JupyterLab does (tutorials/guide)."""
    kernel.run(
        FIT(steps=2048, more="").replace("PPOAgent()", "agent := PPOAgent()")
        + "from lightning_rl import EpisodePlayer, plot_returns\n"
        + 'display(plot_returns(agent), EpisodePlayer(agent, "CartPole-v1", max_steps=3))'
    )
    others = {"status", "execute_input", "stream", "comm_open", "comm_msg", "comm_close"}
    assert {m["msg_type"] for m in kernel.messages} <= {*others, *SHOWN}
    kinds = {kind for m in kernel.of_type(*SHOWN) for kind in m["content"]["data"]}
    assert kinds - {"image/jpeg"} == {"text/plain", "text/html", "image/png", WIDGET}
    opened = [m["content"] for m in kernel.of_type("comm_open")]
    assert {content["target_name"] for content in opened} == {"jupyter.widget"}
    modules = {content["data"]["state"]["_model_module"] for content in opened}
    assert modules == {"@jupyter-widgets/base", "@jupyter-widgets/controls"}
    (player,) = [m for m in kernel.of_type(*SHOWN) if "text/html" in m["content"]["data"]]
    html = player["content"]["data"]["text/html"]
    assert set(re.findall(r"https?://[^\"']*", html)) == {"http://www.w3.org/2000/svg"}
    assert "image/png" in player["content"]["data"]  # for those that show no page
    assert all("text/plain" in m["content"]["data"] for m in kernel.of_type(*SHOWN))


def test_a_cell_run_twice_with_checkpoints_shows_nothing_red(
    kernel: Kernel, tmp_path: Path
) -> None:
    for _ in range(2):
        kernel.run(
            f"AgentTrainer(max_env_steps=512, default_root_dir={str(tmp_path)!r}, logger=False)"
            '.fit(PPOAgent(), "CartPole-v1")'
        )
        assert kernel.red() == []


@pytest.mark.slow
def test_a_saved_notebook_keeps_its_picture_and_passes_a_strict_check(tmp_path: Path) -> None:
    cells = [IMPORTS, FIT(steps=2048, more="")]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(notebook, record_timing=False).execute()
    outputs = notebook.cells[1].outputs
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 1
    assert len(pictures[0]["data"]["image/png"]) > 5000  # the curve, not the empty first picture
    nbformat.write(notebook, tmp_path / "fit.ipynb")
    sanitize = f"--nbval-sanitize-with={Path(__file__).parents[1] / 'nbval.cfg'}"  # of the line
    command = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-c", os.devnull]
    command.append(sanitize)
    check = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert check.returncode == 0, check.stdout


@pytest.mark.slow
@pytest.mark.parametrize("version", OTHER_KERNELS)
def test_every_ipykernel_can_be_stopped(version: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(tmp_path)]
    pip = subprocess.run(
        [*command, f"ipykernel=={version}"], capture_output=True, text=True, check=False
    )
    if pip.returncode:
        pytest.skip(f"pip could not install ipykernel {version}: {pip.stderr[-300:]}")
    kernel = Kernel({"PYTHONPATH": str(tmp_path)})
    try:
        assert kernel.value("__import__('ipykernel').__version__") == repr(version)
        interrupt(kernel)
        assert kernel.has_subshells == (version >= "7")
        if kernel.has_subshells:
            press_stop_and_pause(kernel)
    finally:
        kernel.close()
