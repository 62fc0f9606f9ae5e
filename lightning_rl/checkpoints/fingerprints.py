"""Fingerprints of an environment's data, which tell its configuration from its state."""

from __future__ import annotations

import hashlib
from collections import deque
from enum import Enum
from typing import Any

import numpy as np
import torch

from lightning_rl.checkpoints.env_parts import env_parts
from lightning_rl.checkpoints.parts import is_open

TEXT = (str, bytes)
DATA = (type(None), bool, int, float, complex, np.generic, Enum, range, slice, *TEXT)
MAX_DEPTH = 8  # of objects in objects: they may go in circles
Marks = dict[str, dict[str, str]]  # by where a part is, and the name there


def fingerprints(env: Any) -> Marks:
    """Tell what an environment is like: name -> fingerprint, for each of its parts.

    Other things than data have none.
    """
    known: dict[int, str | None] = {}  # a table that all sub-environments share is read once
    return {
        part.at: {n: found for n, v in part.values.items() if (found := mark_of(v, known))}
        for part in env_parts(env)
    }


def kept(made: Marks, env: Any) -> Marks:
    """Leave out what the first reset has changed: that is no configuration."""
    now = fingerprints(env)
    return {
        at: {name: mark for name, mark in before.items() if now.get(at, {}).get(name) == mark}
        for at, before in made.items()
    }


def mark_of(value: Any, known: dict[int, str | None]) -> str | None:
    """Give the fingerprint of data; None for what holds anything else."""
    if id(value) not in known:
        digest = hashlib.blake2b(digest_size=8)
        known[id(value)] = digest.hexdigest() if _feed(digest, value) else None
    return known[id(value)]


def _feed(digest: Any, value: Any, depth: int = 0) -> bool:
    """Add a value to a digest; tell whether it is data through and through."""
    digest.update(type(value).__name__.encode())
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        digest.update(f"{value.dtype}{value.shape}".encode())
        digest.update(np.ascontiguousarray(value).view(np.uint8).data if value.size else b"")
        return True
    if isinstance(value, torch.Tensor):
        numbers = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        return _feed(digest, numbers)
    if is_open(value):
        value = vars(value)
    if type(value) in (dict, list, tuple, deque):
        parts = [part for item in value.items() for part in item] if type(value) is dict else value
        digest.update(str(len(value)).encode())
        return depth < MAX_DEPTH and all(_feed(digest, part, depth + 1) for part in parts)
    digest.update(repr(value).encode())
    return isinstance(value, DATA)
