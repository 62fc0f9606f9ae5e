"""Walls around the process that an answer runs in."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from lightning_rl.errors import AssignmentError

PACKAGE = Path(__file__).parents[1]
KINDS = ("bubblewrap", "user", "limits")  # the strongest first
DISK = 128 * 2**20  # bytes of each temporary disk within bubblewrap
FIRST_USER = 60_500  # ids of no one, for answers graded by root
PLACES = ("/bin", "/sbin", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/alternatives")
LOOK = (
    "import importlib.util as util, sys\n"
    "sys.exit(not (util.find_spec('torch') and util.find_spec('lightning_rl')))"
)
WRITABLE = ("/tmp", "/dev/shm")  # noqa: S108 - within the walls, in memory
ROOTS_WALLS = [f"--unshare-{what}" for what in ("ipc", "pid", "net", "uts", "cgroup-try")]
ROOTS_WALLS += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
HELP = "Install bubblewrap (`apt install bubblewrap`), or grade in a container as root"


def choose(kind: str = "auto") -> str:
    """Choose the walls that work on this machine.

    - `bubblewrap`: no network, no file but Python's own libraries, no other process to be seen.
    - `user`: for root: another user's process, with limits.
    - `limits`: the limits alone. An answer can read and delete what the teacher can.

    Args:
        kind: one of these, or `auto` for the stronger of the first two that works.

    Raises:
        AssignmentError: if it does not work here.

    Example:
        >>> choose("limits")
        'limits'
    """
    if kind != "auto" and kind not in KINDS:
        raise AssignmentError(f"got isolation={kind!r}; expected one of {('auto', *KINDS)}.")
    tried = KINDS[:2] if kind == "auto" else (kind,)
    for one in tried:
        if one == "limits" or works(one):
            return one
    raise AssignmentError(
        f"isolation {' and '.join(tried)} does not work on this machine. {HELP}; "
        '"limits" grades without walls, for answers that you trust with your files.'
    )


@cache
def works(kind: str) -> bool:
    """Try walls on a process that does nothing but look for torch and for this package."""
    if kind == "bubblewrap" and shutil.which("bwrap") is None:
        return False
    if kind == "user" and os.getuid() != 0:
        return False
    try:
        done = subprocess.run(  # noqa: S603 - the command is ours
            command(kind, ["-c", LOOK]),
            capture_output=True, timeout=120, **options(kind, "/"),
        )  # fmt: skip
    except OSError:  # no permission to be someone else, or to run it
        return False
    return done.returncode == 0


def command(kind: str, arguments: Sequence[str]) -> list[str]:
    """Give the command line of Python within walls."""
    python = [sys.executable, "-P", *arguments]
    if kind != "bubblewrap":
        return python
    wrap = ["bwrap", "--die-with-parent", "--new-session", "--proc", "/proc", "--dev", "/dev"]
    for place in WRITABLE:
        wrap += ["--perms", "1777", "--size", str(DISK), "--tmpfs", place]
    for place in ("/usr", *PLACES):
        wrap += ["--ro-bind-try", place, place]
    places = sorted({sys.prefix, sys.base_prefix} - {"/usr"})  # they may be their owner's alone,
    binds = {str(part): str(part) for place in places for part in sorted(Path(place).iterdir())}
    binds["/package/lightning_rl"] = str(PACKAGE)
    for inside, outside in binds.items():
        for parent in reversed(Path(inside).parents):  # bwrap's own would be root's alone
            wrap += ["--dir", str(parent)]
        wrap += ["--ro-bind", outside, inside]
    wrap += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", WRITABLE[0]]
    if os.getuid() != 0:
        return [*wrap, "--unshare-all", "--", *python]
    own = str(own_user())  # no limit of processes holds for root: be someone else inside
    become = ["setpriv", "--reuid", own, "--regid", own, "--clear-groups", "--inh-caps=-all"]
    return [*wrap, *ROOTS_WALLS, "--", *become, *python]


def options(kind: str, folder: str) -> dict[str, Any]:
    """Give what `subprocess` needs: an empty environment, and another user where one is root.

    Args:
        kind: of walls.
        folder: the process's own, for its files.
    """
    wrapped = kind == "bubblewrap"
    home = WRITABLE[0] if wrapped else folder
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": home,
        "TMPDIR": home,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": "/package" if wrapped else str(PACKAGE.parent),
        "PYTHONWARNINGS": "ignore",
    }
    given: dict[str, Any] = {"env": environment, "cwd": "/" if wrapped else folder}
    given["start_new_session"] = True
    if kind == "user":
        given |= {"user": own_user(), "group": own_user(), "extra_groups": []}
    return given


def own_user() -> int:
    """Give the user id of this grader's answers: one a grader, so that none can kill another's."""
    return FIRST_USER + os.getpid() % 4000


def processes_allowed(kind: str, number: int) -> int:
    """Give the limit of processes: the system counts a user's, the teacher's own included."""
    if kind != "limits" or not Path("/proc").is_dir():
        return number if kind != "limits" else 4096
    mine = 0
    for tasks in Path("/proc").glob("[0-9]*/task"):
        try:
            mine += len(list(tasks.iterdir())) if tasks.stat().st_uid == os.getuid() else 0
        except OSError:  # it has ended meanwhile
            continue
    return mine + number


def end_all(process: subprocess.Popen[bytes], kind: str) -> None:
    """End a process, its group, and all else that it has started where that can be known."""
    with suppress(ProcessLookupError, PermissionError):  # it has ended, or is someone else's now
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if kind == "user":  # everything of this user is an answer's
        everything = "import os, signal; os.kill(-1, signal.SIGKILL)"
        subprocess.run([sys.executable, "-c", everything], **options(kind, "/"))  # noqa: S603
