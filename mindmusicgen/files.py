"""Files that appear whole or not at all; and whether one could be written, asked before there is anything to write."""

import contextlib
import functools
import os
import re
import secrets
import shutil

from .errors import InputError
from .telling import quoted

try:
    import fcntl
    import resource
except ImportError:  # Windows
    fcntl = resource = None

LEFTOVER = re.compile(r"\.mindmusicgen-[0-9a-f]{16}\.partial")
BLOCK = 4096  # bytes: what the smallest file takes


@contextlib.contextmanager
def whole_file(path):
    """Context that gives a path to write to; it becomes `path` if the block succeeds and is removed if not.

    The path is of an empty file beside `path`, whose name nobody else has: two writers do not meet, a link that
    somebody laid there is not followed, and the name is short, however long that of `path` is.

    Args:
        path (str): the file; what was there before stays until the new one is complete.

    Raises:
        OSError: if it cannot be written.
    """
    folder = os.path.dirname(os.path.abspath(path))
    _tidy(folder)
    partial, handle = _new_file(folder)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        os.close(handle)
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)


def _new_file(folder):
    """A new file and its open handle, which holds a lock as long as its writer lives."""
    while True:
        path = os.path.join(folder, f".mindmusicgen-{secrets.token_hex(8)}.partial")
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
        if fcntl is None:
            return path, handle
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(path):  # else somebody took it for a leftover before it was locked
            return path, handle
        os.close(handle)


def remove_leftovers(folder):
    """Remove what writers that were killed left in a folder: files of `whole_file` that nobody holds locked."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if fcntl and LEFTOVER.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    handle = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
                    try:
                        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        os.remove(entry.path)
                    finally:
                        os.close(handle)


_tidy = functools.cache(remove_leftovers)  # once in a process for each folder: there may be many files in it


def check_writable(path, what, room=0):
    """Refuse a path that no file could be written to, before hours are spent on what should go there.

    Args:
        path (str): the file.
        what (str): how a message calls it, such as "output".
        room (int): about how many bytes it will have.

    Raises:
        InputError: for a folder that does not exist or may not be written to, a name that is too long or that of a
            folder, and a disk, or a limit of this process, with too little room.
    """
    try:
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder):
            raise InputError(f"{what} {quoted(path)} lies in {quoted(folder)}, which does not exist; create it first")
        with contextlib.suppress(FileNotFoundError):
            os.stat(path, follow_symlinks=False)  # fails for a name that is too long
        if os.path.isdir(path):
            raise InputError(f"{what} {quoted(path)} cannot be written, it is a folder; choose a file")
        check_room(folder, what, room)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or "a name cannot hold a zero byte"
        raise InputError(
            f"{what} {quoted(path)} cannot be written ({reason}); choose a file in a folder you may write to, with room"
        ) from error


def check_room(folder, what, room=0):
    """Refuse a folder in which nothing, or less than `room` bytes, can be written.

    Args:
        folder (str): must exist.
        what (str): how a message calls what is to be written, such as "output".
        room (int): about how many bytes that takes.

    Raises:
        InputError: if less is left on the disk, or the limit of a file's size (ulimit -f) is lower.
        OSError: if no file can be written at all.
    """
    partial, handle = _new_file(folder)
    try:
        with open(handle, "wb") as file:
            file.write(bytes(BLOCK))
    finally:
        os.remove(partial)
    free, limit = shutil.disk_usage(folder).free, resource.getrlimit(resource.RLIMIT_FSIZE)[0] if resource else -1
    if room > free:
        raise InputError(f"{what} needs {room / 1e6:.0f} MB and {quoted(folder)} has {free / 1e6:.0f} left; make room")
    if 0 <= limit < room:
        raise InputError(f"{what} needs {room / 1e6:.0f} MB and ulimit -f allows {limit / 1e6:.0f}; raise that limit")
