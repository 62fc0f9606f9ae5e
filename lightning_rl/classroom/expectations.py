"""Comparing what an answer gave with what is right, in words that help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

SHOWN = 200  # characters of a value in a message


class MismatchError(AssertionError):
    """An answer gave something else than was expected; the message says what, and where."""


def expect(got: Any, expected: Any, say: str = "", tolerance: float = 1e-5) -> None:
    """Compare what an answer gave with what is right: shapes, then values; NaN equals nothing.

    Args:
        got: number, tensor, array, text, None, or lists, tuples and dicts of those.
        expected: the same kind of thing. Number types, and lists and tuples, count as alike.
        say: what was promised, put before the message.
        tolerance: allowed difference, absolute and relative to what is expected.

    Raises:
        MismatchError: with what was got and what was expected.

    Example:
        >>> expect(torch.tensor([0.5, 1.0]), [0.5, 1.0])
        >>> expect(torch.tensor([0.5, 0.0]), [0.5, 1.0])  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        ...
        lightning_rl.classroom.expectations.MismatchError: got ...; expected ...; at [1]: ...
    """
    problem = _difference(got, expected, tolerance)
    if problem:
        raise MismatchError(f"{say}: {problem}" if say else problem)


def _difference(got: Any, expected: Any, tolerance: float) -> str:
    """Say how two values differ; empty if they don't."""
    if isinstance(expected, Mapping):
        return _dict_difference(got, expected, tolerance)
    if isinstance(expected, list | tuple) and _nested(expected):
        return _list_difference(got, expected, tolerance)
    if expected is None or isinstance(expected, str):
        return "" if type(got) is type(expected) and got == expected else _both(got, expected)
    wanted, numbers = _numbers(expected), _numbers(got)
    if wanted is None:
        raise TypeError(f"can't compare with {type(expected).__name__}; see `expect`")
    if numbers is None:
        return _both(got, expected)
    if numbers.shape != wanted.shape:
        return f"got shape {numbers.shape}; expected {wanted.shape}"
    return _number_difference(numbers, wanted, tolerance)


def _number_difference(
    got: NDArray[np.float64], expected: NDArray[np.float64], tolerance: float
) -> str:
    close = np.isclose(got, expected, rtol=tolerance, atol=tolerance)
    if close.all():
        return ""
    where = np.argwhere(~close)[0].tolist()
    both = _both(got.tolist(), expected.tolist())
    if not where:
        return both
    first = f"{got[tuple(where)]:.6g}, expected {expected[tuple(where)]:.6g}"
    return f"{both}; at {where}: {first}"


def _dict_difference(got: Any, expected: Mapping[Any, Any], tolerance: float) -> str:
    if not isinstance(got, Mapping) or set(got) != set(expected):
        keys = sorted(map(str, got)) if isinstance(got, Mapping) else _shown(got)
        return f"got {keys}; expected a dict with keys {sorted(map(str, expected))}"
    parts = {key: _difference(got[key], expected[key], tolerance) for key in expected}
    return "; ".join(f"{key!r}: {problem}" for key, problem in parts.items() if problem)


def _list_difference(got: Any, expected: list[Any] | tuple[Any, ...], tolerance: float) -> str:
    if not isinstance(got, list | tuple) or len(got) != len(expected):
        size = len(got) if isinstance(got, list | tuple) else _shown(got)
        return f"got {size}; expected {len(expected)} values"
    pairs = enumerate(zip(got, expected, strict=True))
    parts = {place: _difference(one, other, tolerance) for place, (one, other) in pairs}
    return "; ".join(f"value {place}: {problem}" for place, problem in parts.items() if problem)


def _nested(values: list[Any] | tuple[Any, ...]) -> bool:
    """Tell whether a list holds more than plain numbers."""
    return any(not isinstance(value, bool | int | float | list) for value in values)


def _numbers(value: Any) -> NDArray[np.float64] | None:
    """Give numbers as an array of floats, or None for what is none."""
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().to(torch.float64).numpy()
    if isinstance(value, bool | int | float | list | tuple | np.ndarray | np.generic):
        try:
            return np.asarray(value, dtype=np.float64)
        except (TypeError, ValueError, OverflowError):
            return None
    return None


def _both(got: Any, expected: Any) -> str:
    return f"got {_shown(got)}; expected {_shown(expected)}"


def _shown(value: Any) -> str:
    if isinstance(value, float):
        value = float(f"{value:.6g}")
    text = f"[{', '.join(map(_shown, value))}]" if isinstance(value, list) else repr(value)
    return text if len(text) <= SHOWN else text[:SHOWN] + "..."
