"""Hostile files under an audit hook: none runs code, reaches out of its folder, or takes it all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.reliability.hostile import SAMPLES

ROOT = Path(__file__).parents[1]
OPENED = {  # without harm: what they claim is not looked at
    "checkpoint_naming_what_makes_it", "checkpoint_naming_other_folders",
    "checkpoint_naming_a_buffers_folder", "trajectories_whose_manifest_links",
    "trajectories_naming_an_environment", "replay_whose_manifest_links",
    "notebook_with_evil_metadata",
}  # fmt: skip


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Try all samples in one process, once for all processes that run tests."""
    folder = tmp_path_factory.getbasetemp().parent / "hostile"
    with FileLock(f"{folder}.lock"):
        if not (folder / "results.json").exists():
            folder.mkdir()
            command = [sys.executable, "-m", "tests.reliability.hostile", str(folder)]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return json.loads((folder / "results.json").read_text())


@pytest.mark.parametrize("name", SAMPLES)
def test_a_hostile_file_does_no_harm(results: Any, name: str) -> None:
    result = results[name]
    assert result["seen"] == []
    assert not result["ended"].startswith("untyped"), result["ended"]
    assert (result["ended"] == "opened") == (name in OPENED), result["ended"]
    assert result["seconds"] < 20
    assert result["megabytes"] < 500
