"""Files that anyone may have written: neither links nor pipes are followed, sizes are bounded."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from lightning_rl.regular_files import open_regular, read_small, replace_file


def test_links_are_refused_and_left_alone(tmp_path: Path) -> None:
    mine, link, second = tmp_path / "mine", tmp_path / "link", tmp_path / "second"
    mine.write_text("a letter")
    link.symlink_to(mine)
    with pytest.raises(ValueError, match="link or no regular"):
        open_regular(link)
    os.link(mine, second)
    with pytest.raises(ValueError, match="link or no regular"):
        open_regular(second, write=True)
    (tmp_path / "new.new").symlink_to(mine)
    replace_file(tmp_path / "new", b"other")
    assert mine.read_text() == "a letter"
    assert (tmp_path / "new").read_bytes() == b"other"


def test_a_long_text_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("abc")
    assert read_small(tmp_path / "text", 3) == "abc"
    with pytest.raises(ValueError, match="3 bytes; expected at most 2"):
        read_small(tmp_path / "text", 2)


def test_a_file_that_is_replaced_meanwhile_is_refused_and_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine").write_text("a letter")
    opened = psutil.Process().num_fds()
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    with pytest.raises(ValueError, match="'mine' was replaced while it was opened"):
        open_regular(tmp_path / "mine")
    assert psutil.Process().num_fds() == opened
