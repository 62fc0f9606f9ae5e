"""The package's formulas, taken away from answers that are to be written."""

from __future__ import annotations

from collections.abc import Iterable
from types import FunctionType
from typing import Any

import lightning_rl.functional as functional


def _missing(*arguments: Any, **named: Any) -> Any:
    raise NotImplementedError(
        "the functions of lightning_rl.functional are not there when answers are graded: write "
        "the formula yourself"
    )


def seal(given: Iterable[Any]) -> None:
    """Let the functions of `lightning_rl.functional` only raise, in this process, for good.

    Whoever has imported one before, as the package's agents have, finds it empty, too.

    Args:
        given: what a problem set's own setup cells put at hand. Functions among it stay, with what
            they call; the module itself among it leaves everything as it is.
    """
    kept = [one for one in given if one is functional or isinstance(one, FunctionType)]
    own = [one for one in vars(functional).values() if _is_own(one)]
    if functional in kept:
        return
    helps = any(one in kept for one in own)
    for function in own:
        if function not in kept and not (helps and function.__name__.startswith("_")):
            function.__code__ = _missing.__code__
            function.__defaults__ = function.__kwdefaults__ = None


def _is_own(value: Any) -> bool:
    return isinstance(value, FunctionType) and value.__module__ == functional.__name__
