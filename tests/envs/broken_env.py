"""An environment that fails in a worker process, in one of several ways."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from counting_env import CountingEnv

FAILING_STEP = 3


class Breaking(CountingEnv):
    """Raises, is killed, ends or hangs (and is deaf) in its third step, or can't even be made."""

    def __init__(self, how: str = "") -> None:
        super().__init__([100])
        self.how = how
        if how == "unmade":
            raise KeyError("no licence")

    def step(self, action: Any) -> Any:
        if self.t + 1 == FAILING_STEP:
            self.fail()
        return super().step(action)

    def fail(self) -> None:
        if self.how == "raises":
            raise KeyError("the ball is lost")
        if self.how == "killed":
            os.kill(os.getpid(), 9)
        if self.how == "ends":
            os._exit(3)
        if self.how == "is deaf":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if self.how in ("hangs", "is deaf"):
            time.sleep(3600)
