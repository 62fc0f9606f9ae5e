"""Goals that tests of the suite prove: the tests are run, and counted."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from tests.reliability.goals import Figure

ROOT = Path(__file__).parents[2]
COMMAND = ("-m", "pytest", "-o", "addopts=", "-q", "-p", "no:cacheprovider", "-p", "no:nbval")
# Files or single tests, as pytest takes them.
PROOFS: dict[int, list[str]] = {
    3: ["tests/checkpoints/test_env_parts.py", "tests/checkpoints/test_process_random.py"],
    7: ["tests/test_functional.py"],
    11: ["tests/buffers/test_replay.py", "tests/buffers/test_rollout.py"],
    13: ["tests/test_updates.py"],
    14: ["tests/envs/test_faults.py", "tests/envs/test_workers.py"],
    15: ["tests/callbacks/test_interrupts.py"],
    20: ["tests/checkpoints/test_latest.py"],
    23: ["tests/test_hostile.py", "tests/test_settings_files.py"],
    26: ["tests/trajectories/test_manifest.py", "tests/checkpoints/test_spaces.py"],
}


def outcomes(nodes: list[str]) -> dict[str, list[bool]]:
    """Run tests in one process; tell for each file how its tests ended."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, *COMMAND, f"--junitxml={report}", "-o", "junit_family=xunit1"]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([*command, *nodes], cwd=ROOT, env=environment, capture_output=True)
        if not report.exists():
            return {}
        cases = ElementTree.parse(report).getroot().iter("testcase")  # noqa: S314
        ended: dict[str, list[bool]] = {}
        for case in cases:
            failed = any(case.find(kind) is not None for kind in ("failure", "error"))
            name = str(case.get("name")).partition("[")[0]
            for node in (str(case.get("file")), f"{case.get('file')}::{name}"):
                ended.setdefault(node, []).append(not failed)
        return ended


def prove(goals: list[int]) -> list[tuple[int, Figure]]:
    """Run the tests of some goals; give a figure for each of these goals that has any."""
    asked = {goal: PROOFS[goal] for goal in goals if goal in PROOFS}
    ended = outcomes(sorted({node for nodes in asked.values() for node in nodes}))
    return [(goal, _counted(nodes, ended)) for goal, nodes in asked.items()]


def _counted(nodes: list[str], ended: dict[str, list[bool]]) -> Figure:
    results = [passed for node in nodes for passed in ended.get(node, [False])]
    words = (
        f"{sum(results)} of {len(results)} tests pass ({', '.join(Path(n).name for n in nodes)})"
    )
    return Figure(words, all(results))
