"""An agent's own entry in a checkpoint: all that a resumed run needs beside the weights."""

from __future__ import annotations

import warnings
from typing import Any

import torch

from lightning_rl.checkpoints.env_state import env_state, load_env_state
from lightning_rl.checkpoints.plain_values import from_plain, to_plain
from lightning_rl.checkpoints.spaces import space_from_state, space_state
from lightning_rl.errors import StateError

STATE_KEY = "lightning_rl"  # of an agent's own entry in a checkpoint


def agent_state(agent: Any) -> dict[str, Any]:
    """Give everything an agent needs to go on, beside its weights and the optimizer's state.

    Counters, history, statistics, random numbers, and the running environment where its state
    can be saved (`env` is None where it can't).
    """
    state = {
        "env_steps": agent.env_steps,
        "env_steps_at_fit_start": agent.env_steps_at_fit_start,
        "seed": agent.seed,
        "episodes": agent.episodes.state_dict(),
        "generator": agent.generator.get_state(),
        "torch_rng": torch.get_rng_state(),
        "extra": to_plain(agent.extra_state()),
    }
    if agent.observation_space is not None:
        state["observation_space"] = space_state(agent.observation_space)
        state["action_space"] = space_state(agent.action_space)
    if agent.runner is not None:
        state["runner"] = to_plain(agent.runner.state_dict())
        runner = agent.runner
        entry = runner.env_at_close.get(runner.num_calls) or env_entry(runner.env)
        state["env"], state["env_error"] = entry
    return state


def env_entry(env: Any) -> tuple[Any, str]:
    """Give an environment's state, or None and why it can't be saved."""
    try:
        return env_state(env), ""
    except StateError as error:
        return None, str(error)


def load_agent_state(
    agent: Any, checkpoint: dict[str, Any], goes_on: bool = True
) -> dict[str, Any]:
    """Take over counters, history and statistics, and build an unbuilt network for its spaces.

    Args:
        agent: the agent.
        checkpoint: all of it.
        goes_on: False takes over none of that, but builds an unbuilt network.

    Returns:
        The agent's own entry in the checkpoint, for `restore_run`.

    Raises:
        StateError: if the checkpoint is not an agent's.
    """
    if STATE_KEY not in checkpoint:
        raise StateError(
            "the checkpoint holds no agent's state; expected one that was saved while an agent was "
            "trained. Load its weights alone with agent.load_state_dict(checkpoint['state_dict'])."
        )
    state: dict[str, Any] = checkpoint[STATE_KEY]
    if agent.observation_space is None and "observation_space" in state:
        agent.bind_spaces(
            space_from_state(state["observation_space"]), space_from_state(state["action_space"])
        )
    if not goes_on:
        return state
    agent.env_steps, agent.env_steps_at_fit_start = (
        state["env_steps"],
        state["env_steps_at_fit_start"],
    )
    agent.episodes.load_state_dict(state["episodes"])
    agent.load_extra_state(from_plain(state["extra"]))
    return state


def restore_run(agent: Any, state: dict[str, Any]) -> None:
    """Put random numbers and the running environment back as they were saved.

    Where the environment's state could not be saved, new episodes start, seeded by the run's
    seed and its env steps: two resumed runs are alike, though not like the one that went on.
    So it is in all processes but the first, as the first alone writes checkpoints.
    """
    seed = state["seed"] + state["env_steps"] + agent.global_rank * agent.runner.num_envs
    agent.start_run(seed)
    if agent.global_rank > 0:
        return
    agent.generator.set_state(state["generator"])
    torch.set_rng_state(state["torch_rng"])
    if state.get("env") is None:
        warnings.warn(
            f"{state.get('env_error', 'no environment was saved')} The run goes on with new "
            "episodes, so it will differ from one that was never stopped.",
            stacklevel=2,
        )
        return
    load_env_state(agent.runner.env, state["env"])
    agent.runner.load_state_dict(from_plain(state["runner"]))
