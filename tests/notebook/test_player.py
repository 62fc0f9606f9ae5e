"""The episode player: its slider goes through the pictures, in a real kernel too."""

from __future__ import annotations

import builtins
import io
from queue import Empty
from typing import Any

import numpy as np
import pytest
from jupyter_client.manager import start_new_kernel
from PIL import Image

from lightning_rl.notebook.player import EpisodePlayer
from lightning_rl.notebook.recording import EpisodeRecord


def test_the_slider_goes_through_all_pictures(painted: EpisodeRecord) -> None:
    player = EpisodePlayer(painted)
    seen = []
    for index in range(player.slider.max + 1):
        player.slider.value = index
        with Image.open(io.BytesIO(player.picture.value)) as picture:
            seen.append(int(np.asarray(picture)[200, 200, 0]))
    assert seen == [0, 10, 20, 30, 40, 50]


def test_a_drawing_is_the_same_whatever_was_drawn_before(painted: EpisodeRecord) -> None:
    pictures = EpisodePlayer(painted).painter
    first = pictures.draw(2).tobytes()
    assert pictures.draw(4).tobytes() != first
    assert pictures.draw(2).tobytes() == first


def test_pyplot_is_never_imported(painted: EpisodeRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def guarded(name: str, *args: Any) -> Any:
        assert name != "matplotlib.pyplot"
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", guarded)
    EpisodePlayer(painted).slider.value = 1


KERNEL_CODE = """
from lightning_rl import EnvDataLoader, PPOAgent
from lightning_rl.notebook import EpisodePlayer
agent = PPOAgent()
EnvDataLoader(agent, "CartPole-v1")
player = EpisodePlayer(agent, "CartPole-v1", max_steps=4)
display(player)
print(player.slider.comm.comm_id, player.picture.comm.comm_id)
"""


def replies(client: Any, request: str) -> list[Any]:
    """Collect what the kernel publishes for a request, until it is idle again."""
    found = []
    while True:
        try:
            message = client.get_iopub_msg(timeout=60)
        except Empty:
            pytest.fail(f"the kernel fell silent after {found}")
        if message["parent_header"].get("msg_id") != request:
            continue
        if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            return found
        assert message["msg_type"] != "error", message["content"]
        found.append(message)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_in_a_real_kernel_moving_the_slider_changes_the_picture() -> None:
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        shown = replies(client, client.execute(KERNEL_CODE))
        printed = "".join(m["content"]["text"] for m in shown if m["msg_type"] == "stream")
        slider, picture = printed.split()[-2:]
        opened = {m["content"]["comm_id"]: m for m in shown if m["msg_type"] == "comm_open"}
        assert not [m for m in shown if m["content"].get("name") == "stderr"]
        moved = {"method": "update", "state": {"value": 3}, "buffer_paths": []}
        message = client.session.msg("comm_msg", {"comm_id": slider, "data": moved})
        client.shell_channel.send(message)
        updates = [
            m
            for m in replies(client, message["header"]["msg_id"])
            if m["content"].get("comm_id") == picture
        ]
        (png,) = updates[-1]["buffers"]
        assert bytes(png).startswith(b"\x89PNG")
        assert bytes(png) != bytes(opened[picture]["buffers"][0])
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
