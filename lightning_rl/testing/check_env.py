"""A check of what an author's environment may break."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from lightning_rl.buffers.arrays import named_arrays
from lightning_rl.envs.runner import EnvRunner
from lightning_rl.envs.separate import separate_env
from lightning_rl.envs.vectorize import EnvLike
from lightning_rl.errors import EnvError, NonFiniteError
from lightning_rl.settings import count, seed_number

Records = list[dict[str, Any]]  # what an environment returned in reset and in each step, by name


def check_env(env: EnvLike, num_steps: int = 200, seed: int = 0) -> None:
    """Check that an environment can be trained in, and repeated, by two short rollouts of it.

    `reset` and `step` return what Gymnasium's API says, of the spaces' shapes and dtypes, in finite
    numbers. Two separate copies with one seed and one row of actions return the same, so that
    `AgentTrainer(seed=0)` means something. All random numbers come from `self.np_random`, which
    `reset(seed)` seeds, and none from Python's, NumPy's or torch's global ones. For the rest,
    see `gymnasium.utils.env_checker.check_env`.

    Args:
        env: what `trainer.fit` takes; only separate copies are stepped, and closed.
        num_steps: length of each rollout, in steps of the copy.
        seed: of the copies and of the actions.

    Raises:
        EnvError: naming what is wrong.
        NonFiniteError: if a reward or an observation is NaN or infinite.

    Example:
        >>> check_env("CartPole-v1")
    """
    num_steps, seed = count("num_steps", num_steps), seed_number(seed)
    with _generators_put_back():
        before = _states()
        first = _rollout(env, num_steps, seed)
        used = sorted({name.split()[0] for name, s in _states().items() if s != before[name]})
        if used:
            raise EnvError(
                f"the environment draws from the global random numbers of {' and '.join(used)}, "
                "which reset(seed) does not seed, so that no run can be repeated; expected "
                "self.np_random, a generator of its own that `super().reset(seed=seed)` seeds."
            )
        _compare(first, _rollout(env, num_steps, seed))


def _rollout(env: EnvLike, num_steps: int, seed: int) -> Records:
    with separate_env(env, max_envs=2) as vector_env:
        runner = EnvRunner(vector_env)
        runner.reset(seed=seed)
        vector_env.action_space.seed(seed)
        records = [_named(runner.observations)]
        for _ in range(num_steps):
            step = runner.step(vector_env.action_space.sample())
            records.append(_named(step.observations) | {"rewards": step.rewards.copy()})
            records[-1] |= {"terminated": step.terminated, "truncated": step.truncated}
    for number, record in enumerate(records):
        for name, values in record.items():
            if not np.isfinite(values).all():
                raise NonFiniteError(
                    f"the environment returned {values} as {name} in {_place(number)}; expected "
                    "finite numbers."
                )
    return records


def _named(observations: Any) -> dict[str, Any]:
    """Name the arrays of N observations, and copy them."""
    return {name: array.copy() for name, array in named_arrays(observations).items()}


def _compare(first: Records, second: Records) -> None:
    for number, (ours, theirs) in enumerate(zip(first, second, strict=True)):
        for name, values in ours.items():
            if not np.array_equal(values, theirs[name]):
                raise EnvError(
                    f"two copies with the same seed and actions return {values} and "
                    f"{theirs[name]} as {name} in {_place(number)}. Draw all random numbers from "
                    "self.np_random, which reset(seed) seeds, or from spaces that you seed there; "
                    "and let nothing be left of other copies or earlier episodes."
                )


def _place(number: int) -> str:
    return f"step {number}" if number else "reset"


def _states() -> dict[str, str]:
    """Put the states of the global generators in text, to be compared."""
    numpy_state: Any = np.random.get_state()  # noqa: NPY002 (it is watched)
    arrays = {"numpy.random": numpy_state[1], "torch": torch.get_rng_state()}
    states = {name: f"{array.tolist()}" for name, array in arrays.items()}
    return states | {"random": f"{random.getstate()}", "numpy.random place": f"{numpy_state[2]}"}


@contextmanager
def _generators_put_back() -> Iterator[None]:
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        torch.set_rng_state(states[2])
