"""Files: kills and full disks while saving, damage, hostile inputs, what is written where."""

from __future__ import annotations

from tests.reliability.goals import Checks

CHECKS: Checks = []
