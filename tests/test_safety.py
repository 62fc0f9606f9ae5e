"""The checks of `tests.reliability.safety` find what they look for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from tests.reliability.private import kept
from tests.reliability.safety import dangerous_calls
from tests.reliability.watch import Watch


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("eval('1')", ["eval"]),
        ("def f():\n    exec(code, {})", ["exec"]),
        ("pickle.loads(data)", ["pickle.loads"]),
        ("yaml.load(text)", ["yaml.load"]),
        ("os.system('ls')", ["os.system"]),
        ("importlib.import_module(name)", ["importlib.import_module"]),
        ("importlib.import_module('minari')", []),
        ("subprocess.run(command, shell=True)", ["shell=True"]),
        ("np.load(file, allow_pickle=True)", ["allow_pickle=True"]),
        ("torch.load(file, weights_only=False)", ["weights_only=False"]),
        ("trainer.save_checkpoint(file, weights_only=False)", []),  # what is saved, not how read
        ("agent.eval(), yaml.safe_load(text), np.load(file, allow_pickle=False)", []),
    ],
)
def test_dangerous_calls_are_found(source: str, found: list[str]) -> None:
    assert list(dangerous_calls(source)) == found


WRITES = os.O_WRONLY | os.O_CREAT


@pytest.mark.parametrize(
    ("event", "args", "is_noted"),
    [
        ("socket.connect", (None, ("a.example", 80)), True),
        ("socket.gethostname", (), False),
        ("subprocess.Popen", ("ls", ["ls"], None, None), True),
        ("open", ("/elsewhere/a", "w", WRITES), True),
        ("open", ("/elsewhere/a", "r", os.O_RDONLY), False),
        ("open", ("/here/a", "w", WRITES), False),
        ("open", (os.devnull, "w", WRITES), False),
        ("os.rename", ("/here/a", "/elsewhere/a", -1, -1), True),
        ("os.rename", ("/here/a", "/here/b", -1, -1), False),
        ("os.mkdir", ("/here/../elsewhere", 511, -1), True),
    ],
)
def test_a_watch_notes_what_reaches_out_of_its_folder(
    event: str, args: tuple[Any, ...], is_noted: bool
) -> None:
    watch = Watch()
    watch(event, args)  # it has no folder yet
    assert watch.seen == []
    watch.folder = Path("/here")
    watch(event, args)
    assert len(watch.seen) == is_noted


def test_words_are_found_in_files(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.ckpt").write_bytes(b"\x00\x01sk-key\x00")
    (tmp_path / "b.txt").write_text("nothing")
    assert kept(tmp_path, "sk-key", "home") == ["a.ckpt: sk-key"]
