"""Collecting trajectories, by random actions or by an agent's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from lightning_rl.agent import LightningAgentModule
from lightning_rl.buffers.arrays import allocate, to_array, write
from lightning_rl.envs.runner import to_env_actions
from lightning_rl.envs.running_statistics import carry_statistics
from lightning_rl.envs.vectorize import EnvLike
from lightning_rl.evaluation import evaluation_mode
from lightning_rl.threads import check_idle, torch_threads
from lightning_rl.trajectories.dataset import TrajectoryDataset
from lightning_rl.trajectories.recorder import open_recorder


@torch_threads(1)  # some environments compute with torch, too
def make_random_trajectory(
    env: EnvLike,
    directory: str | Path,
    num_steps: int = 10_000,
    seed: int = 0,
    num_envs: int = 16,
    append: bool = False,
    progress: bool = True,
) -> TrajectoryDataset:
    """Collect env steps of a random policy, and store them.

    Args:
        env: what `make_vector_env` takes. A separate copy is stepped, never `env` itself.
        directory: a new one, or with `append`, one that holds such trajectories.
        num_steps: exactly so many env steps are stored. Episodes that run then are cut: their last
            rows are neither terminated nor truncated.
        seed: of the first sub-environment (the next has `seed + 1`, ...) and of the actions. When
            appending, the env steps stored before are added: the same call brings new ones.
        num_envs: copies to step side by side, where the number is open (at most 16 of a Python
            environment, 100 of a native one).
        append: add to the trajectories in the directory, if there are any.
        progress: show a progress bar.

    Raises:
        ConfigError: if a number is below 1, or the directory holds trajectories already.
        EnvError: if the environment can't be copied, raises, or returns data outside its spaces.
        NonFiniteError: if it returns NaN or inf.
        SpaceError: if no array can hold its observations, or the directory has another one's.
        DatasetError: if the files can't be written.
        LockedError: if somebody else is appending. In all cases, what was stored before stays
            readable.

    Example:
        >>> import tempfile
        >>> make_random_trajectory("CartPole-v1", tempfile.mkdtemp(), 100, progress=False).num_steps
        100
    """
    with open_recorder(env, directory, num_steps, seed, num_envs, append) as recorder:
        space = recorder.runner.env.single_action_space
        action_space = batch_space(space, recorder.runner.num_envs)
        action_space.seed(recorder.seed)
        sample: Any = action_space.sample
        recorder.record(lambda _: sample(), num_steps, progress)
    return TrajectoryDataset(directory)


def make_trajectory(
    agent: LightningAgentModule,
    env: EnvLike,
    directory: str | Path,
    num_steps: int = 10_000,
    seed: int = 0,
    deterministic: bool = False,
    num_envs: int = 16,
    append: bool = False,
    progress: bool = True,
) -> TrajectoryDataset:
    """Collect env steps of a trained agent, and store them. The agent is left as it was.

    Args:
        agent: a trained agent, or one loaded from a checkpoint.
        env: this and what is not explained here are as in `make_random_trajectory`.
        directory: where to store them.
        num_steps: exactly so many env steps are stored.
        seed: of the environments and of the agent's random numbers.
        deterministic: let the agent act greedily.
        num_envs: copies to step side by side, where the number is open.
        append: add to what is stored there.
        progress: show a progress bar.

    Raises:
        StateError: if the agent was never trained, loaded or bound to an environment. And all that
            `make_random_trajectory` raises.

    Example:
        >>> import tempfile
        >>> from lightning_rl import EnvDataLoader, PPOAgent
        >>> agent = PPOAgent()
        >>> _ = EnvDataLoader(agent, "CartPole-v1")  # binds the (untrained) agent
        >>> directory = tempfile.mkdtemp()
        >>> make_trajectory(agent, "CartPole-v1", directory, 100, progress=False).num_steps
        100
    """
    agent.check_bound()
    check_idle(agent)
    with open_recorder(env, directory, num_steps, seed, num_envs, append) as recorder:
        vector_env = recorder.runner.env
        carry_statistics(vector_env, agent.runner and agent.runner.env)
        space = vector_env.single_action_space
        agent.bind_spaces(vector_env.single_observation_space, space)
        inputs = allocate(agent.input_space, vector_env.num_envs)

        def act(observations: Any) -> NDArray[Any]:
            write(inputs, slice(None), agent.prepare(observations))
            chosen, _ = agent.act(agent.as_input(inputs), deterministic=deterministic)
            return to_env_actions(to_array(chosen), space)

        with evaluation_mode(agent, recorder.seed):
            recorder.record(act, num_steps, progress)
    return TrajectoryDataset(directory)
