"""An agent's own entry in a checkpoint: all that a resumed run needs beside the weights."""

from __future__ import annotations

import warnings
from typing import Any

from lightning_rl.checkpoints.env_state import env_state, load_env_state
from lightning_rl.checkpoints.fingerprints import Marks
from lightning_rl.checkpoints.plain_values import from_plain, to_plain
from lightning_rl.checkpoints.process_random import (
    load_process_random_state,
    process_random_state,
)
from lightning_rl.checkpoints.spaces import space_from_state, space_state
from lightning_rl.errors import LightningRLError, SpaceError, StateError

STATE_KEY = "lightning_rl"  # of an agent's own entry in a checkpoint
FORMAT = 3  # of that entry


def agent_state(agent: Any) -> dict[str, Any]:
    """Give everything an agent needs to go on, beside its weights and the optimizer's state.

    Counters and history, and what each process has for itself: `rank_state`.
    """
    state = {
        "format": FORMAT,
        "agent": type(agent).__name__,
        "env_steps": agent.env_steps,
        "env_steps_at_fit_start": agent.env_steps_at_fit_start,
        "seed": agent.seed,
        "episodes": agent.episodes.state_dict(),
    }
    if agent.observation_space is not None:
        state["observation_space"] = space_state(agent.observation_space)
        state["action_space"] = space_state(agent.action_space)
    own = rank_state(agent)
    if agent.ranks.size > 1:  # rank 0 writes the file
        state["other_ranks"] = agent.ranks.gather_plain(own, only_first=True)[1:]
    return state | own


def rank_state(agent: Any) -> dict[str, Any]:
    """Give what one process of a training has for itself.

    Statistics, a replay buffer, random numbers, and the running environment where its state can
    be saved (`env` is None where it can't).
    """
    state = {
        "generator": agent.generator.get_state(),
        "process_random": process_random_state(),
        "extra": to_plain(agent.extra_state(), copy=False),  # maybe a large buffer
    }
    if agent.runner is not None:
        state["runner"] = to_plain(agent.runner.state_dict())
        runner = agent.runner
        entry = runner.env_at_close.get(runner.num_calls) or env_entry(
            runner.env, agent.env_as_made
        )
        state["env"], state["env_error"] = entry
    return state


def env_entry(env: Any, made: Marks | None = None) -> tuple[Any, str]:
    """Give an environment's state, or None and why it can't be saved."""
    try:
        return env_state(env, made), ""
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
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        got = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise StateError(
            f"the agent's entry in the checkpoint has format {got}; expected {FORMAT}. Load it "
            "with the version of lightning_rl that wrote it."
        )
    try:
        if agent.is_fitting and agent.ranks.rank > 0:
            state = state | state["other_ranks"][agent.ranks.rank - 1]
        _take_over(agent, state, goes_on)
    except LightningRLError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError, RuntimeError) as error:
        raise StateError(
            f"the checkpoint of {state.get('agent')} does not fit {type(agent).__name__} "
            f"({type(error).__name__}: {error}); expected one of the same kind of agent."
        ) from error
    if agent.is_fitting:
        _compare_settings(agent, checkpoint)
    return state


def _take_over(agent: Any, state: dict[str, Any], goes_on: bool) -> None:
    if "observation_space" in state:
        saved = tuple(
            space_from_state(state[f"{name}_space"]) for name in ("observation", "action")
        )
        if agent.observation_space is None:
            agent.bind_spaces(*saved)
        elif saved != (agent.observation_space, agent.action_space):
            raise SpaceError(
                f"the checkpoint is of an agent for {saved[0]} and {saved[1]}; this one is for "
                f"{agent.observation_space} and {agent.action_space}. Give it the environment it "
                "was trained in."
            )
    if not goes_on:
        return
    steps = ("env_steps", "env_steps_at_fit_start")
    agent.env_steps, agent.env_steps_at_fit_start = (int(state[name]) for name in steps)
    agent.episodes.load_state_dict(state["episodes"])
    agent.load_extra_state(from_plain(state["extra"], copy=False))


def _compare_settings(agent: Any, checkpoint: dict[str, Any]) -> None:
    """Warn of settings that are not those the run was begun with; the agent's hold."""
    parameters = checkpoint.get("hyper_parameters", {})
    saved, own = (dict(p).get("config") for p in (parameters, agent.hparams))
    if not isinstance(saved, dict) or not isinstance(own, dict):
        return
    differ = [name for name in own if name in saved and saved[name] != own[name]]
    if differ:
        named = ", ".join(f"{name}={own[name]} (saved: {saved[name]})" for name in differ)
        warnings.warn(
            f"the agent's settings are not those of the checkpoint: {named}. The run goes on with "
            "the agent's.",
            stacklevel=4,
        )


def restore_run(agent: Any, state: dict[str, Any]) -> None:
    """Put random numbers and the running environment back as they were saved.

    Where the environment's state could not be saved, new episodes start, seeded by the run's
    seed and its env steps: two resumed runs are alike, though not like the one that went on.
    """
    seed = state["seed"] + state["env_steps"] + agent.ranks.rank * agent.runner.num_envs
    agent.start_run(seed)
    agent.generator.set_state(state["generator"])
    load_process_random_state(state["process_random"])
    if state.get("env") is None:
        warnings.warn(
            "The run goes on with new episodes, so it will differ from one that was never stopped: "
            f"{state.get('env_error', 'no environment was saved.')}",
            stacklevel=2,
        )
        return
    load_env_state(agent.runner.env, state["env"], agent.env_as_made)
    agent.runner.load_state_dict(from_plain(state["runner"]))
