"""Files in a folder that anyone may have written: neither links nor pipes are followed."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def open_regular(file: Path, write: bool = False) -> Any:
    """Open an existing file, unbuffered, if it is one: a link leads anywhere, a pipe never ends.

    Args:
        file: its path.
        write: open it for reading and writing. Then it must have no second name elsewhere.

    Raises:
        ValueError: if it is no regular file.
        OSError: if it can't be opened.

    Example:
        >>> open_regular(Path("/"))
        Traceback (most recent call last):
        ...
        ValueError: '' is a link or no regular file
    """
    found = file.lstat()
    if not stat.S_ISREG(found.st_mode) or (write and found.st_nlink > 1):
        raise ValueError(f"{file.name!r} is a link or no regular file")
    descriptor = os.open(file, (os.O_RDWR if write else os.O_RDONLY) | NO_LINK)
    try:
        if not os.path.samestat(os.fstat(descriptor), found):
            raise ValueError(f"{file.name!r} was replaced while it was opened")
        return os.fdopen(descriptor, "r+b" if write else "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def read_small(file: Path, limit: int) -> str:
    """Read a text, if it is no longer than `limit` bytes.

    Raises:
        ValueError: if it is longer, no text, or no regular file.
        OSError: if it can't be read.
    """
    with open_regular(file) as opened:
        size = os.fstat(opened.fileno()).st_size
        if size > limit:
            raise ValueError(f"it has {size} bytes; expected at most {limit}")
        content: bytes = opened.read(limit)
    return content.decode("utf-8")


def replace_file(file: Path, content: bytes) -> None:
    """Write a file anew, in one step: a crash leaves the old one or the new one.

    Raises:
        OSError: if it can't be written. The old one is as it was.
    """
    new = file.with_name(f"{file.name}.new")
    new.unlink(missing_ok=True)  # of a process that was killed, or a link
    with new.open("xb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    new.replace(file)
