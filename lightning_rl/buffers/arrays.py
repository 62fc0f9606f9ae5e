"""Arrays of observations or actions, each one array or a dict of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from gymnasium import Space, spaces
from numpy.typing import NDArray
from torch import Tensor

from lightning_rl.errors import (
    NonFiniteError,
    SpaceError,
)

ARRAY_SPACES = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def allocate(space: Space, *leading: int) -> Any:
    """Allocate zeros for (*leading) observations or actions of one space; float64 becomes float32.

    Where a Discrete or MultiDiscrete space starts with another number, it is that in place of 0.

    Raises:
        SpaceError: if the space holds no arrays of one shape, or is a Dict within a Dict.

    Example:
        >>> allocate(spaces.Box(-1, 1, (4,)), 128, 8).shape
        (128, 8, 4)
    """
    if isinstance(space, spaces.Dict):
        if not any(isinstance(part, spaces.Dict) for part in space.values()):
            return {key: allocate(part, *leading) for key, part in space.items()}
    elif isinstance(space, ARRAY_SPACES):
        dtype = np.float32 if np.dtype(space.dtype).kind == "f" else space.dtype
        array = np.zeros((*leading, *(space.shape or ())), dtype=dtype)
        if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
            array += space.start
        return array
    raise SpaceError(
        f"no buffer can hold {space}; expected Box, Discrete, MultiDiscrete, MultiBinary or a Dict "
        "of them. A wrapper such as gymnasium.wrappers.FlattenObservation can turn it into one."
    )


def allocate_actions(space: Space, *leading: int) -> Any:
    """Allocate zeros for (*leading) actions as a policy draws them, whatever dtype the space has.

    Choices are int64, as torch's `gather` wants them; a Box's numbers are float32, even where the
    environment is given them rounded to integers.

    Example:
        >>> allocate_actions(spaces.Discrete(3, dtype=np.uint8), 128, 8).dtype
        dtype('int64')
    """
    actions = allocate(space, *leading)
    if isinstance(space, spaces.Box):
        return actions.astype(np.float32)
    is_choice = isinstance(space, spaces.Discrete | spaces.MultiDiscrete)
    return actions.astype(np.int64) if is_choice else actions


def write(target: Any, index: Any, values: Any) -> None:
    """Copy values into `target[index]`, entry by entry where they are dicts."""
    if isinstance(target, dict):
        for key, part in target.items():
            write(part, index, values[key])
    else:
        target[index] = values


Arrays = dict[str, NDArray[Any]]
Fields = dict[str, tuple[str, tuple[int, ...]]]  # name -> (dtype, shape)


def named_arrays(observations: Any) -> Arrays:
    """Give an observation's arrays by name: one, or one for each key of a dict."""
    if isinstance(observations, dict):
        return {f"observations.{key}": part for key, part in observations.items()}
    return {"observations": observations}


def observations_in(arrays: Mapping[str, Any]) -> Any:
    """Undo `named_arrays`: give the observation among arrays that may hold others too."""
    if "observations" in arrays:
        return arrays["observations"]
    prefix = "observations."
    return {n.removeprefix(prefix): part for n, part in arrays.items() if n.startswith(prefix)}


def select(values: Any, index: Any) -> Any:
    """Index each array, also within dicts."""
    if isinstance(values, dict):
        return {key: select(part, index) for key, part in values.items()}
    return values[index]


def flatten_time(values: Any) -> Any:
    """Join the time and environment axes, (T, N, ...) -> (T*N, ...), also within dicts."""
    if isinstance(values, dict):
        return {key: flatten_time(part) for key, part in values.items()}
    return values.flatten(0, 1)


def to_tensor(values: Any, device: torch.device | str = "cpu", float_dtype: Any = None) -> Any:
    """View arrays as tensors (no copy on the CPU), entry by entry where they are dicts.

    Floats get `float_dtype`, if one is given.
    """
    if isinstance(values, dict):
        return {key: to_tensor(part, device, float_dtype) for key, part in values.items()}
    tensor = torch.from_numpy(values) if isinstance(values, np.ndarray) else torch.as_tensor(values)
    if float_dtype is None or tensor.dtype == float_dtype or not tensor.is_floating_point():
        return tensor if tensor.device == device else tensor.to(device)
    return tensor.to(device, float_dtype)


def to_array(tensor: Tensor) -> NDArray[Any]:
    """View a tensor as an array (bfloat16, which numpy lacks, becomes float32)."""
    tensor = (tensor.detach() if tensor.requires_grad else tensor).cpu()
    return tensor.float().numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def split(batch: Any, batch_size: int) -> Iterator[Any]:
    """Cut a batch of several minibatches, (k*B, ...), into them, also within dicts."""
    parts = {
        name: split(values, batch_size) if isinstance(values, dict) else values.split(batch_size)
        for name, values in batch.items()
    }
    for values in zip(*parts.values(), strict=True):
        yield dict(zip(parts, values, strict=True))


def check_finite(name: str, values: NDArray[Any], first_step: int, first_env: int = 0) -> None:
    """Check what sub-environments returned step by step, (T, N, ...).

    Raises:
        NonFiniteError: naming the first sub-environment and step with a NaN or inf.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        # A sum is finite only if its parts are: one pass, no temporary array.
        if values.dtype.kind != "f" or np.isfinite(values.sum()):
            return
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        raise NonFiniteError(
            f"sub-environment {first_env + bad[0][1]} returned {values[tuple(bad[0])]} in its "
            f"{name} at step {first_step + bad[0][0]} of this rollout; expected finite numbers. "
            "The rollout was not learned from. Check the environment's `step` (division by zero, "
            "overflow)."
        )


def to_device(batch: dict[str, Any], device: torch.device | str, dtype: Any) -> dict[str, Any]:
    """Put a drawn batch on a device; what the network sees of floats gets `dtype`."""
    seen = ("observations", "next_observations", "actions")
    return {
        name: to_tensor(values, device, dtype if name in seen else None)
        for name, values in batch.items()
    }
