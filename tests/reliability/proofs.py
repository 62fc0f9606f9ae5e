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
    1: ["tests/test_resume.py", "tests/agents/test_dqn.py", "tests/agents/test_sac.py"],
    2: [
        "tests/worlds/test_world_model.py"
        "::test_a_resumed_run_ends_as_the_one_that_was_never_stopped"
    ],
    3: ["tests/checkpoints/test_env_parts.py", "tests/checkpoints/test_process_random.py"],
    4: [
        "tests/test_resume.py::test_the_same_seed_gives_the_same_bits_again",
        "tests/test_resume.py::test_the_same_seed_gives_the_same_bits_in_other_processes",
        "tests/test_resume.py::test_another_seed_gives_other_bits",
    ],
    5: [
        "tests/test_resume.py::test_importing_leaves_random_numbers_and_warnings_alone",
        "tests/test_resume.py::test_building_training_and_playing_leave_random_numbers_alone",
        "tests/test_resume.py::test_loading_leaves_random_numbers_alone",
    ],
    7: ["tests/test_functional.py"],
    10: ["tests/envs/test_runner.py", "tests/buffers/test_replay.py"],
    11: ["tests/buffers/test_replay.py", "tests/buffers/test_rollout.py"],
    12: ["tests/test_functional.py", "tests/testing/test_check_agent.py"],
    13: ["tests/test_updates.py"],
    14: ["tests/envs/test_faults.py", "tests/envs/test_workers.py"],
    15: ["tests/callbacks/test_interrupts.py"],
    16: ["tests/callbacks/test_interrupts.py"],
    20: ["tests/checkpoints/test_latest.py"],
    22: ["tests/test_left_open.py", "tests/notebook/test_background.py"],
    23: ["tests/test_hostile.py"],
    26: ["tests/checkpoints/test_spaces.py", "tests/test_regular_files.py"],
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
    files = dict.fromkeys(node.partition("::")[0].rpartition("/")[2] for node in nodes)
    words = f"{sum(results)} of {len(results)} tests pass ({', '.join(files)})"
    return Figure(words, all(results))
