"""An audit hook that notes what reaches out of a folder; it imports nothing of the package."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

STARTS = {"os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen"}
CHANGES = {"os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.mkdir",
           "os.chmod", "shutil.rmtree", "shutil.move"}  # fmt: skip
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class Watch:
    """Notes what may not happen: code of a stranger, programs, the network, changes elsewhere.

    Nothing is noted until it is given the `folder` that alone may be written to.
    """

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.seen: list[str] = []

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        if self.folder is not None and self._is_foul(event, args):
            self.seen.append(f"{event} {args[:2]!r}"[:200])

    def _is_foul(self, event: str, args: tuple[Any, ...]) -> bool:
        if event in STARTS or event == "pickle.find_class":
            return True
        if event.startswith("socket."):
            return event != "socket.gethostname"  # which a lock holds, and asks nobody
        if event == "import":
            return str(args[0]).partition(".")[0] in ("evil", "student")
        if event == "exec":
            return str(self._root) in str(getattr(args[0], "co_filename", ""))
        if event in CHANGES:
            return any(map(self._is_outside, args[:2]))  # from there, or to there
        writes = event == "open" and isinstance(args[2], int) and args[2] & WRITES
        return bool(writes) and self._is_outside(args[0])

    def _is_outside(self, path: Any) -> bool:
        is_path = isinstance(path, str | bytes | os.PathLike) and path != os.devnull
        if not is_path or self.folder is None:
            return False
        return not Path(os.path.abspath(os.fsdecode(path))).is_relative_to(self.folder)

    @property
    def _root(self) -> Path | None:
        return self.folder and self.folder.parent
