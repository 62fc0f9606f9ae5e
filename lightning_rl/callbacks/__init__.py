"""Callbacks: what Lightning calls while a run goes on, to show it or to steer it.

What they draw with, and what knows the kernel, is in `notebook/`.
"""

from lightning_rl.callbacks.controls import Controls, change_setting
from lightning_rl.callbacks.doctor import Doctor, Finding
from lightning_rl.callbacks.live_returns import LiveReturns
from lightning_rl.callbacks.progress_bar import EnvStepProgressBar
from lightning_rl.callbacks.run_facts import RunFacts, run_facts

__all__ = [
    "Controls",
    "Doctor",
    "EnvStepProgressBar",
    "Finding",
    "LiveReturns",
    "RunFacts",
    "change_setting",
    "run_facts",
]
