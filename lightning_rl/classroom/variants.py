"""Numbers that differ from student to student, made from a secret."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

FRACTION_BITS = 52  # as many as a float keeps exactly
SEED_BITS = 31  # what every library takes as a seed


@dataclass(frozen=True)
class Variant:
    """One student's numbers for one assignment, always the same for the same key.

    Each is the HMAC-SHA256 of assignment, student and a name. Who has not got the key can neither
    compute them nor find the key from them.

    Args:
        key: the course key in a student's notebook, the secret when hidden cases are graded.
        assignment: name of the problem set.
        student: id; the empty one where all students share one variant.

    Example:
        >>> amy = Variant("a secret", "1_returns", "amy")
        >>> amy.seed == Variant("a secret", "1_returns", "amy").seed
        True
        >>> amy.seed == Variant("a secret", "1_returns", "bob").seed
        False
        >>> 9.0 <= amy.number("gravity", 9.0, 11.0) <= 11.0
        True
    """

    key: str
    assignment: str
    student: str

    @property
    def seed(self) -> int:
        """A seed from 0 to 2^31 - 1."""
        return self._bits("seed") >> (64 - SEED_BITS)

    @property
    def gamma(self) -> float:
        """A discount from 0.9 to 0.99."""
        return self.number("gamma", 0.9, 0.99)

    def number(self, name: str, low: float, high: float) -> float:
        """Give the float of this name from `low` to `high`, to three decimals."""
        fraction = (self._bits(name) >> (64 - FRACTION_BITS)) / 2**FRACTION_BITS
        return float(round(low + (high - low) * fraction, 3))

    def integer(self, name: str, low: int, high: int) -> int:
        """Give the whole number of this name from `low` to `high`, both possible."""
        return low + self._bits(name) % (high - low + 1)

    def choice(self, name: str, options: Sequence[Any]) -> Any:
        """Give the option of this name."""
        return options[self.integer(name, 0, len(options) - 1)]

    def _bits(self, name: str) -> int:
        told = "\0".join([self.assignment, self.student, name]).encode()
        digest = hmac.new(self.key.encode(), told, hashlib.sha256).digest()
        return int.from_bytes(digest[:8], "big")


def course_key(secret: str, course: str) -> str:
    """Make the key that is in every student's notebook; the secret can't be found from it.

    Example:
        >>> course_key("a secret", "RL 2027")
        '40c08a253cdfcc33'
    """
    return hmac.new(secret.encode(), course.encode(), hashlib.sha256).hexdigest()[:16]
