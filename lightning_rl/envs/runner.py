"""Stepping a vector environment, in every autoreset mode: what came back, checked."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import Space, spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from lightning_rl.envs.faults import explain
from lightning_rl.envs.vectorize import autoreset_mode
from lightning_rl.envs.workers import WAIT_SECONDS, limit_waiting, shield_from_interrupts
from lightning_rl.errors import EnvError

ObservationArrays = NDArray[Any] | dict[str, NDArray[Any]]


class VectorStep(NamedTuple):
    """What one step of N sub-environments returned."""

    observations: ObservationArrays  # (N, ...) after the step; after the reset in SAME_STEP mode
    rewards: NDArray[np.float32]  # (N,)
    terminated: NDArray[np.bool_]  # (N,) the state was final: no bootstrap
    truncated: NDArray[np.bool_]  # (N,) a limit cut the episode: bootstrap
    valid: NDArray[np.bool_]  # (N,) False for reset rows, which are not env steps
    final_observations: dict[int, Any]  # SAME_STEP only: env index -> last observation


class EndedEpisodes(NamedTuple):
    """Episodes that ended in one step: a row each."""

    env_steps: int  # the runner's count when they ended
    env_indices: NDArray[np.int64]
    returns: NDArray[np.float64]
    lengths: NDArray[np.int64]


class EnvRunner:
    """Steps a vector environment, marks reset rows and records episodes, whatever the mode.

    In NEXT_STEP mode, the step after an episode's end ignores the action and returns the first
    observation of the next episode: a *reset row*. It is marked invalid, and its action, reward
    and flags mean nothing. The mark is carried from one rollout to the next.

    Args:
        env: the vector environment; it is reset by `reset`, never here.
        on_episodes: called with the `EndedEpisodes` that ended, in every step where some did.
        timeout: seconds that sub-environments in other processes may take for a step or reset;
            None: for ever.

    Attributes:
        observations: (N, ...) what the next action answers.
        env_steps: real transitions since the caller set it to 0, over all sub-environments.
    """

    def __init__(
        self,
        env: VectorEnv,
        on_episodes: Callable[[EndedEpisodes], None] = lambda _: None,
        timeout: float | None = WAIT_SECONDS,
    ) -> None:
        self.env = env
        limit_waiting(env, timeout)
        self.on_episodes = on_episodes
        self.num_envs = env.num_envs
        self.has_choices = has_choices(env.single_observation_space)
        self.next_step_mode = autoreset_mode(env) == AutoresetMode.NEXT_STEP
        if not self.next_step_mode:
            keep_last_observations(env)
        self.env_steps = 0
        self.num_calls = 0  # of `step`, since the last reset: the number an error names
        self.seed: int | None = None  # of the last reset, which an error names, too
        self.observations: ObservationArrays = np.empty(0)
        self.was_reset = False
        # What a checkpoint says of the environment when it is closed, by `num_calls`.
        self.env_at_close: dict[int, tuple[Any, str]] = {}
        self._start_episodes()

    def _start_episodes(self) -> None:
        self.num_calls = 0
        self.next_valid = np.ones(self.num_envs, dtype=np.bool_)  # is the next row an env step?
        self.returns = np.zeros(self.num_envs, dtype=np.float64)
        self.lengths = np.zeros(self.num_envs, dtype=np.int64)

    def reset(self, seed: int | None = None) -> None:
        """Start a new episode everywhere; sub-environment i is seeded with `seed + i`.

        Raises:
            EnvError: if the environment raises, or returns data of another shape or dtype.
        """
        self.seed = seed
        try:
            shield_from_interrupts(self.env)
            self.observations, _ = self.env.reset(seed=seed)
        except Exception as error:  # an environment is foreign code: any error gets an address
            raise explain(error, self.env, "reset", seed) from error
        self._check(self.observations)
        self.was_reset = True
        self._start_episodes()

    def step(self, actions: NDArray[Any]) -> VectorStep:
        """Make one step everywhere.

        Raises:
            EnvError: if the environment raises, or returns data of another shape or dtype.
        """
        self.num_calls += 1
        try:
            observations, rewards, terminated, truncated, infos = self.env.step(actions)
        except Exception as error:
            raise explain(error, self.env, f"step {self.num_calls}", self.seed) from error
        self._check(observations)
        check_rewards(rewards, self.num_envs)
        valid = self.next_valid
        self.returns += rewards
        self.lengths += 1
        self.env_steps += self.num_envs
        ended = np.logical_or(terminated, truncated)
        if ended.shape != valid.shape:
            raise EnvError(
                f"the environment returned terminated and truncated of shapes "
                f"{np.shape(terminated)} and {np.shape(truncated)}; expected {valid.shape}."
            )
        # count_nonzero is ten times as fast as any() and all() on arrays this small
        if np.count_nonzero(valid) < self.num_envs:
            ended = self._forget_reset_rows(valid, ended)
        if np.count_nonzero(ended):
            self._end_episodes(ended)
        self.next_valid = ~ended if self.next_step_mode else valid
        self.observations = observations
        final = {} if self.next_step_mode else self._final_observations(infos, ended)
        return VectorStep(observations, rewards, terminated, truncated, valid, final)

    def skip_reset_rows(self) -> None:
        """Where every episode has just ended, step once, so that the next row has an env step."""
        if not self.next_valid.any():
            space = self.env.single_action_space
            ignored = np.zeros((self.num_envs, *(space.shape or ())), dtype=space.dtype)
            self.step(to_env_actions(ignored, space))

    def state_dict(self) -> dict[str, Any]:
        """Give what must survive between rollouts: observations, running episodes, marks."""
        names = ("observations", "next_valid", "returns", "lengths", "num_calls")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where a saved runner was. The environment's own state is loaded apart from it."""
        for name in self.state_dict():
            setattr(self, name, state[name])

    def _forget_reset_rows(
        self, valid: NDArray[np.bool_], ended: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        reset_rows = ~valid
        self.returns[reset_rows] = 0.0
        self.lengths[reset_rows] = 0
        self.env_steps -= int(np.count_nonzero(reset_rows))
        return ended & valid

    def _end_episodes(self, ended: NDArray[np.bool_]) -> None:
        env_indices = ended.nonzero()[0]
        returns, lengths = self.returns[env_indices], self.lengths[env_indices]
        self.on_episodes(EndedEpisodes(self.env_steps, env_indices, returns, lengths))
        self.returns[ended] = 0.0
        self.lengths[ended] = 0

    def _final_observations(self, infos: Any, ended: NDArray[np.bool_]) -> dict[int, Any]:
        final = final_observations(infos, ended)
        for env_index, observation in final.items():
            space = self.env.single_observation_space
            check_choices(observation, space, self.num_calls, env_index)
        return final

    def _check(self, observations: Any) -> None:
        space = self.env.single_observation_space
        check_observations(observations, space, self.num_envs)
        if self.has_choices:
            check_choices(observations, space, self.num_calls)


class CopiedObservations(gym.Wrapper[Any, Any, Any, Any]):
    """Copies what `step` observes, as the next `reset` may write into the same array."""

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and copy the observation."""
        observation, *others = self.env.step(action)
        return copy.deepcopy(observation), *others


def keep_last_observations(env: VectorEnv) -> None:
    """Let a SyncVectorEnv in SAME_STEP mode copy observations before it resets.

    Its sub-environments are wrapped, as Gymnasium passes on an episode's last observation without
    copying it. An AsyncVectorEnv does so in its workers, where nothing can be done about it.
    """
    base: Any = env.unwrapped
    if isinstance(base, SyncVectorEnv):
        is_safe = [isinstance(sub_env, CopiedObservations) for sub_env in base.envs]
        pairs = zip(base.envs, is_safe, strict=True)
        base.envs = [e if safe else CopiedObservations(e) for e, safe in pairs]


def check_observations(observations: Any, space: Space, num_envs: int) -> None:
    """Check shape and dtype of N observations against the space of one.

    Raises:
        EnvError: naming what differs.
    """
    if isinstance(space, spaces.Dict):
        for key, part in space.items():
            if not isinstance(observations, dict) or key not in observations:
                raise EnvError(
                    f"the environment returned no {key!r} in its observations; expected {space}."
                )
            check_observations(observations[key], part, num_envs)
        return
    shape = (num_envs, *(space.shape or ()))
    if not isinstance(observations, np.ndarray):
        kind = f"{type(observations).__module__}.{type(observations).__name__}"
        raise EnvError(
            f"the environment returned observations of shape {np.shape(observations)} as {kind}; "
            f"expected a numpy array of shape {shape}. Leave out the wrapper that converts "
            "them (such as NumpyToTorch, whose inner environment is its `env`); the agent does so."
        )
    if observations.shape != shape:
        raise EnvError(
            f"the environment returned observations of shape {np.shape(observations)}; expected "
            f"{shape}: {num_envs} of {space}. Make `step` and `reset` return what the "
            "observation space says."
        )
    if observations.dtype != space.dtype:
        raise EnvError(
            f"the environment returned observations of dtype {observations.dtype}; expected "
            f"{space.dtype} as in {space}. Convert them, or declare the space with that dtype."
        )


def has_choices(space: Space) -> bool:
    """Tell whether observations are choices out of finitely many, or have such among them."""
    if isinstance(space, spaces.Dict):
        return any(has_choices(part) for part in space.values())
    return isinstance(space, spaces.Discrete | spaces.MultiDiscrete)


def check_choices(observations: Any, space: Space, step: int, env_index: int | None = None) -> None:
    """Check that Discrete and MultiDiscrete observations are choices there are.

    Args:
        observations: (N, ...) of all sub-environments, or (...) of the one of `env_index`.
        space: of one sub-environment's observations.
        step: what an error names.
        env_index: None: they are of all.

    Raises:
        EnvError: naming the sub-environment, the step, the value and the space.
    """
    if isinstance(space, spaces.Dict):
        for key, part in space.items():
            check_choices(observations[key], part, step, env_index)
    if not isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return
    values = np.asarray(observations if env_index is None else [observations])  # (N, ...)
    number = space.n if isinstance(space, spaces.Discrete) else space.nvec
    wrong = (values < space.start) | (values >= space.start + number)
    if np.count_nonzero(wrong):
        row = int(np.argwhere(wrong)[0][0])
        raise EnvError(
            f"sub-environment {row if env_index is None else env_index} returned the observation "
            f"{values[row]} at step {step} (0: its reset); expected one of {space}. Correct what "
            "it returns, or the space, which may begin with another number than 0 (`start`)."
        )


def check_rewards(rewards: Any, num_envs: int) -> None:
    """Check that there is one reward a sub-environment.

    Raises:
        EnvError: naming the shape that was returned.
    """
    if np.shape(rewards) != (num_envs,):
        raise EnvError(
            f"the environment returned rewards of shape {np.shape(rewards)}; expected "
            f"({num_envs},): one number for each sub-environment."
        )


def final_observations(infos: dict[str, Any], ended: NDArray[np.bool_]) -> dict[int, Any]:
    """Collect the true last observations that a SAME_STEP environment puts in its infos.

    Raises:
        EnvError: if an episode ended and the infos hold no `final_obs` for it.
    """
    if not ended.any():
        return {}
    if not isinstance(infos, dict):
        raise EnvError(
            f"the environment's infos are a {type(infos).__name__}; expected Gymnasium's dict of "
            "arrays. Leave out the wrapper that converts them (such as DictInfoToList, whose inner "
            "environment is its `env`)."
        )
    final = infos.get("final_obs", [None] * len(ended))
    rows = [int(i) for i in np.flatnonzero(ended)]
    if any(final[i] is None for i in rows):
        raise EnvError(
            "an episode ended in SAME_STEP mode, but infos has no 'final_obs' for it; expected the "
            "last observation there, as Gymnasium's vector environments give it."
        )
    return {i: final[i] for i in rows}


def to_env_actions(actions: NDArray[Any], space: Space) -> NDArray[Any]:
    """Convert a policy's actions to what the environment takes.

    Box actions are clipped to the bounds (the unclipped ones are what the policy is trained on),
    and rounded where the Box holds integers; choices are shifted by the space's `start`.
    """
    if isinstance(space, spaces.Box):
        clipped: NDArray[Any] = np.clip(actions, space.low, space.high)
        if space.dtype.kind in "iu":
            clipped = np.rint(clipped)
        return clipped.astype(space.dtype, copy=False)
    if (isinstance(space, spaces.Discrete) and space.start != 0) or isinstance(
        space, spaces.MultiDiscrete
    ):
        actions = actions + space.start
    return actions if actions.dtype == space.dtype else actions.astype(space.dtype)
