"""A check of what an author's agent may break."""

from __future__ import annotations

import copy
import random
import tempfile
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from lightning.pytorch import Callback
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lightning_rl.agent import LightningAgentModule
from lightning_rl.buffers.arrays import allocate, select, to_array, write
from lightning_rl.buffers.rollout import RolloutBuffer
from lightning_rl.envs.runner import to_env_actions
from lightning_rl.envs.separate import separate_env
from lightning_rl.envs.vectorize import EnvLike
from lightning_rl.errors import ConfigError, NonFiniteError, ShapeError, SpaceError, StateError
from lightning_rl.loader import EnvDataLoader
from lightning_rl.trainer import AgentTrainer


def check_agent(agent: LightningAgentModule, env: EnvLike, seed: int = 0) -> None:
    """Check that an agent keeps the contract of `LightningAgentModule`, by an iteration with it.

    `act` gives actions of the space's shape and dtype, and remembers a row a sub-environment; its
    random numbers are all from `agent.generator`, none with `deterministic=True`. `sample` gives
    dicts of tensors with equal first axis, without a reset row. The loss is a finite scalar with a
    gradient for every parameter that requires one, and all of those are in an optimizer; no (B,)
    meets a (B, 1) on the way to it. Without unpickling, a checkpoint loads into a copy of the agent
    that then acts alike.

    Args:
        agent: a new agent; it is bound and trained here, so make another one for use.
        env: what `trainer.fit` takes; only a separate copy is stepped.
        seed: of weights, environments and random numbers.

    Raises:
        ShapeError: for the shape or dtype of actions, of what is remembered, or of a minibatch.
        SpaceError: for an action outside of the action space.
        StateError: for foreign random numbers, reset rows, or state that is not saved.
        NonFiniteError: for a loss or minibatch that is NaN or infinite.
        ConfigError: for parameters without a gradient, or in no optimizer.
        CheckpointError: for what can't be saved.

    Example:
        >>> from lightning_rl import PPOAgent, PPOConfig
        >>> check_agent(PPOAgent(config=PPOConfig(rollout_steps=64, batch_size=32)), "CartPole-v1")
    """
    unbound = copy.deepcopy(agent)
    with separate_env(env, max_envs=3) as vector_env:
        loader = EnvDataLoader(agent, vector_env, seed=seed)
        agent.max_env_steps = 2**31
        agent.start_run(seed)
        _check_act(agent, raw := copy.deepcopy(agent.runner.observations))
        agent.initial_rollout()
        agent.rollout(agent.rollout_steps)
        _check_sample(agent)
        _check_training(agent, unbound, loader, raw)


def _require(fulfilled: bool, error: type[Exception], message: str) -> None:
    if not fulfilled:
        raise error(message)


def _act(agent: LightningAgentModule, raw: Any, deterministic: bool = False) -> Tensor:
    inputs = allocate(agent.input_space, len(_leaves(raw)[0]))
    write(inputs, slice(None), agent.prepare(raw))
    before = _global_random_state()
    with torch.no_grad():
        result: Any = agent.act(agent.as_input(inputs), deterministic=deterministic)
    hint = "expected agent.generator: pass generator=self.generator, and use no dropout."
    unchanged = _global_random_state() == before
    _require(unchanged, StateError, f"act drew from a global random generator; {hint}")
    pair = isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], dict)
    hint = "expected a tuple of actions and a dict of what to remember: return actions, {}."
    _require(pair, ShapeError, f"act returned a {type(result).__name__}; {hint}")
    actions: Tensor = result[0]
    for name, values in [("actions", actions), *result[1].items()]:
        rows = tuple(values.shape[:1]) if isinstance(values, Tensor) else type(values).__name__
        hint = "expected a tensor with a row for each of its sub-environments."
        fits = rows == (len(_leaves(raw)[0]),)
        _require(fits, ShapeError, f"act returned {name!r} with first axis {rows}; {hint}")
    _check_actions(actions, agent.action_space)
    return actions


def _global_random_state() -> tuple[Any, ...]:
    numpy_state: Any = np.random.get_state()  # noqa: NPY002 (the global one is watched)
    arrays = numpy_state[1].tobytes(), torch.get_rng_state().numpy().tobytes()
    return *arrays, numpy_state[2:], random.getstate()


def _check_actions(actions: Tensor, space: Space) -> None:
    got, shape = tuple(actions.shape), (len(actions), *(space.shape or ()))
    whole = isinstance(space, spaces.Discrete | spaces.MultiDiscrete)
    hint = f"expected {'integers' if whole else 'numbers'} of shape {shape}: each one of {space}."
    fits = got == shape and not (whole and actions.is_floating_point())
    _require(fits, ShapeError, f"act returned {actions.dtype} actions of shape {got}; {hint}")
    for action in to_env_actions(to_array(actions), space):
        hint = "choose integers from 0 (`start` is added), or finite numbers (they are clipped)."
        _require(space.contains(action), SpaceError, f"{action} is not in {space}; {hint}")


def _check_act(agent: LightningAgentModule, raw: Any) -> None:
    state = agent.generator.get_state()
    actions = _act(agent, raw)
    agent.generator.set_state(state)
    message = "act chose other actions though weights, observations and generator were the same."
    _require(torch.equal(actions, _act(agent, raw)), StateError, message)
    state = agent.generator.get_state()
    first, second = (_act(agent, raw, deterministic=True) for _ in range(2))
    same = torch.equal(first, second) and torch.equal(agent.generator.get_state(), state)
    hint = "expected the best actions, the same every time. Return the distribution's mode."
    _require(same, StateError, f"act(deterministic=True) drew random numbers; {hint}")


def _check_sample(agent: LightningAgentModule) -> None:
    """Make a middle row a reset row, write NaN where such rows mean nothing, and look for it."""
    buffer, marked = agent.replay_buffer, set()
    if isinstance(buffer, RolloutBuffer) and buffer.size > 1:
        middle = buffer.size // 2
        buffer.valid[middle] = False
        buffer.terminated[[middle - 1, buffer.size - 1]] = True  # so episodes end in any env
        for array in (buffer.rewards, *buffer.remembered.values()):
            array[~buffer.valid] = np.nan if array.dtype.kind == "f" else 0
        rows = buffer.rows()
        real, observations = rows["valid"], rows["observations"]
        marked = _row_set(select(observations, ~real)) - _row_set(select(observations, real))
    for index, minibatch in enumerate(agent.sample()):
        _check_minibatch(f"minibatch {index} of sample()", minibatch, marked)


def _leaves(values: Any) -> list[Any]:
    parts = values.values() if isinstance(values, dict) else ()
    return [leaf for part in parts for leaf in _leaves(part)] if parts else [values]


def _row_set(values: Any) -> set[bytes]:
    parts = [part.detach().cpu().numpy() for part in _leaves(values)]
    return {b"".join(row.tobytes() for row in rows) for rows in zip(*parts, strict=True)}


def _check_minibatch(name: str, minibatch: Any, marked: set[bytes]) -> None:
    leaves = _leaves(minibatch)
    tensors = isinstance(minibatch, dict) and all(isinstance(v, Tensor) for v in leaves)
    _require(tensors, ShapeError, f"{name} is a {type(minibatch)}; expected a dict of tensors.")
    sizes = {tuple(leaf.shape[:1]) for leaf in leaves}
    equal = len(sizes) == 1 and sizes.isdisjoint({(), (0,)})
    _require(equal, ShapeError, f"{name} has first axes {sizes}; expected one, of 1 or more rows.")
    hint = "Leave out the rows where replay_buffer.valid is False: they are no env steps."
    for key, part in minibatch.items():
        finite = all(leaf.isfinite().all() for leaf in _leaves(part))
        message = f"{name} has NaN or inf in {key!r}, as reset rows have in their rewards here. "
        _require(finite, NonFiniteError, message + hint)
    leaked = marked and marked & _row_set(minibatch.get("observations", {}))
    _require(not leaked, StateError, f"{name} holds reset rows; expected env steps only. {hint}")


class _Watch(Callback):
    """Notes which parameters ever get a gradient."""

    def __init__(self) -> None:
        self.reached: set[str] = set()

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Tensor) -> None:
        hint = "expected it to: compute it from the network's outputs, without detach or no_grad."
        _require(loss.requires_grad, ConfigError, f"the loss depends on no parameter; {hint}")

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        named = pl_module.named_parameters()
        self.reached |= {name for name, parameter in named if parameter.grad is not None}


class _NoTables(TorchFunctionMode):
    """Refuses the silent product of rows by rows: (B,) with (B, 1) makes (B, B)."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.ndim == 2 and len(result) == len(result.T) > 1:
            shapes = {tuple(part.shape) for part in args if isinstance(part, Tensor)}
            hint = "Give values and log-probabilities the shape (B,), such as by squeeze(-1)."
            apart = not shapes.issuperset({(len(result),), (len(result), 1)})
            message = f"{func.__name__} got shapes {sorted(shapes)} and made {tuple(result.shape)}."
            _require(apart, ShapeError, f"{message} {hint}")
        return result


def _check_training(
    agent: LightningAgentModule, unbound: LightningAgentModule, loader: EnvDataLoader, raw: Any
) -> None:
    watch = _Watch()
    with tempfile.TemporaryDirectory() as folder:
        trainer = AgentTrainer(
            fast_dev_run=1, accelerator="cpu", callbacks=[watch], default_root_dir=folder,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
        with _NoTables():
            trainer.fit(agent, loader)
        _check_parameters(agent, trainer.optimizers, watch.reached)
        trainer.save_checkpoint(path := f"{folder}/agent.ckpt")
        _load(unbound, path)
    expected, got = (_act(one.eval(), raw, deterministic=True) for one in (agent, unbound))
    hint = "expected the same. Keep what acting needs in parameters, buffers, or extra_state."
    message = f"a copy loaded from the agent's checkpoint acts in another way; {hint}"
    _require(torch.equal(got, expected), StateError, message)


def _check_parameters(agent: LightningAgentModule, optimizers: Any, reached: set[str]) -> None:
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    optimized = {id(parameter) for group in groups for parameter in group["params"]}
    named = {name: p for name, p in agent.named_parameters() if p.requires_grad}
    hint = "expected all to learn: check configure_optimizers and the loss, or freeze them."
    left_out = [name for name, p in named.items() if id(p) not in optimized]
    _require(not left_out, ConfigError, f"parameters {left_out} are in no optimizer; {hint}")
    left_out = [name for name in named if name not in reached]
    _require(not left_out, ConfigError, f"parameters {left_out} got no gradient; {hint}")


def _load(agent: LightningAgentModule, path: str) -> None:
    hint = "expected plain values: see what extra_state and on_save_checkpoint save."
    try:
        checkpoint = torch.load(path, weights_only=True)
        agent.on_load_checkpoint(checkpoint)
        agent.load_state_dict(checkpoint["state_dict"])
    except Exception as error:  # whatever the author's own hooks raise, or torch's unpickler
        raise StateError(f"the agent's checkpoint can't be loaded ({error}); {hint}") from error
