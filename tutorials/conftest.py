"""Run the notebooks in their fast form when they are tests.

`LIGHTNING_RL_FAST= python -m pytest tutorials` runs them in full instead.
"""

import os

import pytest
import zmq

# Kernels inherit these; nothing in the package reads the first.
os.environ.setdefault("LIGHTNING_RL_FAST", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let a cell display as much as it likes.

    nbval reads a cell's messages when the cell has ended, and ZeroMQ drops those beyond the first
    2,000: on a slow machine a long training's last, which says that the cell has ended, among them.
    """
    kernel = getattr(item.parent, "kernel", None)
    if kernel is None or kernel.kc.iopub_channel.socket.get(zmq.RCVHWM) == 0:
        return
    socket = kernel.kc.iopub_channel.socket
    address = socket.get(zmq.LAST_ENDPOINT)
    socket.disconnect(address)
    socket.set(zmq.RCVHWM, 0)  # no limit; it holds for connections made from now on
    socket.connect(address)
    kernel.kc.wait_for_ready(timeout=60)
