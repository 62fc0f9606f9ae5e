"""What a run was made of, logged with it: by this it can be made again.

Loggers have an agent's settings from Lightning; seed, environment, versions and revision are added.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from functools import cache
from importlib.metadata import version
from typing import Any

import gymnasium
import lightning
import numpy as np
import torch
from lightning.pytorch import Callback, Trainer

GIT_SECONDS = 2.0  # a repository on a slow disk must not hold up a run


def git_revision() -> str | None:
    """Name the commit that is checked out in the working directory; None where there is none.

    It says nothing of changes since: git would run a repository's own programs to find them.
    """
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=GIT_SECONDS)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip() or None if said.returncode == 0 else None


def env_name(env: Any) -> str:
    """Name an environment: its id where it has one, else its class or function."""
    spec = getattr(env, "spec", None)
    named = [env if isinstance(env, str) else None, getattr(spec, "id", None)]
    named.append(getattr(env, "__name__", None))
    return next((name for name in named if name), type(getattr(env, "unwrapped", env)).__name__)


def run_facts(**known: Any) -> dict[str, Any]:
    """Give what a run was made of: what is known of it, the git revision, and versions.

    Example:
        >>> facts = run_facts(env="CartPole-v1", seed=0)
        >>> sorted(facts)
        ['env', 'git_revision', 'seed', 'versions']
        >>> sorted(facts["versions"])
        ['gymnasium', 'lightning', 'lightning_rl', 'numpy', 'python', 'torch']
    """
    return known | {"git_revision": git_revision(), "versions": dict(versions())}


@cache
def versions() -> dict[str, str]:
    """Give the versions of Python and of what a run is computed with."""
    modules = {"torch": torch, "lightning": lightning, "gymnasium": gymnasium, "numpy": np}
    imported = {name: str(module.__version__) for name, module in modules.items()}
    own = {"python": platform.python_version(), "lightning_rl": version("lightning_rl")}
    return own | imported


class RunFacts(Callback):
    """Logs what an agent's run was made of with its hyperparameters, under `run`.

    `AgentTrainer` has one for agents: `hparams.yaml`, TensorBoard's and W&B's config hold the
    agent's class, the environment's id, the number of sub-environments and processes, seed and
    budget, the git revision of the working directory, and versions.

    Example:
        >>> from lightning_rl import AgentTrainer, PPOAgent
        >>> trainer = AgentTrainer(callbacks=[RunFacts()])  # as it has by itself
    """

    def on_fit_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Log them before Lightning logs the hyperparameters: TensorBoard shows the first alone."""
        if not trainer.loggers or not trainer.is_global_zero:
            return
        runner = getattr(pl_module, "runner", None)
        facts = run_facts(
            agent=type(pl_module).__name__,
            env=None if runner is None else env_name(runner.env),
            num_envs=None if runner is None else runner.num_envs,
            processes=trainer.world_size,
            seed=getattr(trainer, "seed", None),
            max_env_steps=getattr(pl_module, "max_env_steps", None),
        )
        may_be_logged = getattr(pl_module, "logs_hyperparameters", False)
        own = dict(pl_module.hparams_initial) if may_be_logged else {}
        for logger in trainer.loggers:
            logger.log_hyperparams(own | {"run": facts})
