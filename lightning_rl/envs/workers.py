"""The worker processes of an AsyncVectorEnv."""

from __future__ import annotations

import multiprocessing
import signal
import traceback
import weakref
from collections.abc import Callable
from multiprocessing.connection import wait
from typing import Any, NamedTuple

from gymnasium.vector import AsyncVectorEnv, VectorEnv

from lightning_rl.errors import ConfigError

WAIT_SECONDS = 60.0  # for one step or reset of all workers: longer than any that is at work
EXIT_SECONDS = 2.0  # a process that was told to end takes no longer


class WorkerFault(NamedTuple):
    """Which workers failed, and how."""

    env_indices: list[int]
    words: str  # such as "raised", to be read after their names


def limit_waiting(env: VectorEnv, seconds: float | None) -> None:
    """Let an AsyncVectorEnv wait for its workers so long, and then raise multiprocessing's error.

    Its `step` gives `step_wait` no timeout, so a worker that hangs would be waited for forever.
    The methods are given a default on the instance, which counts within wrappers, too. Every
    other environment is left as it is.
    """
    base = env.unwrapped
    if isinstance(base, AsyncVectorEnv):
        for name in ("reset_wait", "step_wait", "call_wait"):
            setattr(base, name, _with_default(getattr(type(base), name), base, seconds))


def check_start(env: VectorEnv, strategy: Any) -> None:
    """Check that an environment can follow a training into the processes that a strategy starts.

    Args:
        env: made in this process.
        strategy: as given to the trainer. Those whose processes run the script anew make their own.

    Raises:
        ConfigError: if it can't.
    """
    name = strategy if isinstance(strategy, str) else ""
    if name.startswith("ddp_spawn"):
        raise ConfigError(
            f"strategy={name!r} would send the environment to other processes, which can't be done "
            "with a running one; expected 'ddp' in a script, or 'ddp_notebook' in a notebook."
        )
    if name.startswith(("ddp_notebook", "ddp_fork")) and isinstance(env.unwrapped, AsyncVectorEnv):
        raise ConfigError(
            f"strategy={name!r} copies this process, but the workers of an AsyncVectorEnv listen "
            'to this one alone; expected vectorization="sync" or another vector environment.'
        )


class IgnoreInterrupts:
    """Lets the process that receives it by a pipe ignore Ctrl-C, which its parent hears."""

    def __reduce__(self) -> Any:
        """Say what the receiving process does."""
        return signal.signal, (signal.SIGINT, signal.SIG_IGN)


def shield_from_interrupts(env: VectorEnv) -> None:
    """Let an AsyncVectorEnv's workers go on at Ctrl-C, which a terminal sends to them, too.

    The trainer needs them up to its iteration's end, and a signal of the parent ends them anyway:
    they are daemons. It is told by `call`, with an attribute that every environment has.
    """
    base: Any = env.unwrapped
    if isinstance(base, AsyncVectorEnv) and not base.closed:
        base.call("render_mode", IgnoreInterrupts())


def _with_default(method: Callable[..., Any], env: Any, seconds: float | None) -> Any:
    reference = weakref.ref(env)  # no circle: an environment nobody holds ends its workers at once

    def wait_for_workers(timeout: float | None = seconds) -> Any:
        return method(reference(), timeout)

    return wait_for_workers


def find_async_env(env: Any, error: BaseException) -> AsyncVectorEnv | None:
    """Give the AsyncVectorEnv that an environment is made of, or that its constructor left."""
    base = getattr(env, "unwrapped", None)
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    candidates = [base, *(frame.f_locals.get("self") for frame in frames)]
    return next((env for env in candidates if isinstance(env, AsyncVectorEnv)), None)


def start_method(env: AsyncVectorEnv) -> str:
    """Say how an AsyncVectorEnv starts its workers: fork, spawn or forkserver."""
    return getattr(env, "context", None) or multiprocessing.get_start_method()


def find_fault(env: AsyncVectorEnv, error: Exception) -> WorkerFault | None:
    """Tell which workers raised, hang or ended; None if all of them are well."""
    processes = _started(env)
    if env.closed or not processes:
        return None
    raised = [i for i, pipe in enumerate(env.parent_pipes) if pipe is None]
    if raised:
        return WorkerFault(raised, f"raised {type(error).__name__}")
    if isinstance(error, multiprocessing.TimeoutError):
        silent = [i for i, pipe in enumerate(env.parent_pipes) if not pipe.poll()]
        return WorkerFault(silent, "did not answer in time (env_timeout)")
    ready = wait([process.sentinel for process in processes], timeout=EXIT_SECONDS)
    ended = [i for i, process in enumerate(processes) if process.sentinel in ready]
    for i in ended:
        processes[i].join(EXIT_SECONDS)
    codes = sorted({str(processes[i].exitcode) for i in ended})
    words = f"lost its process (exit code {', '.join(codes)})"
    return WorkerFault(ended, words) if ended else None


def stop_workers(env: AsyncVectorEnv) -> None:
    """End all workers, whatever they are doing; the environment is closed then."""
    processes = _started(env)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(EXIT_SECONDS)
        if process.is_alive():  # it does not listen to SIGTERM
            process.kill()
            process.join()
    for pipe in getattr(env, "parent_pipes", []):
        if pipe is not None:
            pipe.close()
    env.closed = True


def _started(env: AsyncVectorEnv) -> list[Any]:
    """List the processes that run or ran; a constructor that failed may not have come so far."""
    processes: list[Any] = getattr(env, "processes", [])
    return [process for process in processes if process.pid is not None]
