"""Locks of folders that one process may write at a time."""

from __future__ import annotations

import json
import os
import socket
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from lightning_rl.errors import LockedError
from lightning_rl.regular_files import open_regular

LOCK = ".lock"
HOLDER_BYTES = 1000  # of a lock file are read: it may be anyone's


def lock_folder(folder: str | Path, wants: str = "write to it") -> FileLock:
    """Take a folder's lock, until `release()` is called or the process ends, however it ends.

    The operating system holds it, so that a killed process leaves no lock behind; the file that
    stays means nothing. Two objects of one process exclude each other, too.

    Args:
        folder: an existing one.
        wants: what for, in the words of the error: "append to these trajectories".

    Raises:
        LockedError: naming who holds it.
        OSError: if the folder can't be written, or its lock is a link, has a second name
            elsewhere, or is no regular file.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> first = lock_folder(folder)
        >>> lock_folder(folder)  # doctest: +IGNORE_EXCEPTION_DETAIL
        Traceback (most recent call last):
        ...
        lightning_rl.errors.LockedError: ... is in use by process 123 on host, since ...
        >>> first.release()
        >>> lock_folder(folder).is_locked
        True
    """
    file = Path(folder) / LOCK
    if os.path.lexists(file) and not file.is_symlink():  # a link is refused below
        _check_own(file)
    lock = FileLock(file, timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        raise LockedError(
            f"{str(folder)!r} is in use by {_holder(file)}; expected to be the only one to "
            f"{wants}. Wait until it has ended, or give another folder."
        ) from error
    since = datetime.now().isoformat(" ", "seconds")
    file.write_text(
        json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": since})
    )
    return lock


def _check_own(file: Path) -> None:
    """Check that a file is one, and nobody's elsewhere: it will be written."""
    try:
        open_regular(file, write=True).close()
    except ValueError as error:
        raise OSError(str(error)) from error


def _holder(file: Path) -> str:
    """Say who holds a lock, as far as can be known."""
    try:
        with file.open() as opened:
            told = json.loads(opened.read(HOLDER_BYTES))
        return f"process {told['process']} on {told['host']}, since {told['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it was just taken, or is someone else's
        return "another process"
