"""Files that appear whole or not at all; and whether one could be written, asked before there is anything to write."""

import contextlib
import functools
import os
import re
import secrets
import shutil

from ..errors import InputError
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
    partial, handle = _new(folder, _make_file)
    try:
        yield partial
        os.replace(partial, path)
    finally:
        os.close(handle)
        with contextlib.suppress(FileNotFoundError):
            os.remove(partial)


@contextlib.contextmanager
def temporary_folder(parent):
    """Context that gives a new folder in another; it is removed in the end if it was not moved to a place of its own.

    Args:
        parent (str): where.

    Raises:
        OSError: if it cannot be made.
    """
    _tidy(parent)
    path, handle = _new(parent, _make_folder)
    try:
        yield path
    finally:
        os.close(handle)
        shutil.rmtree(path, ignore_errors=True)


def _new(parent, make):
    """A new file or folder and its open handle, which holds a lock as long as its writer lives."""
    while True:
        path = os.path.join(parent, f".mindmusicgen-{secrets.token_hex(8)}.partial")
        handle = make(path)
        if fcntl is None:
            return path, handle
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.path.exists(path):  # else somebody took it for a leftover before it was locked
            return path, handle
        os.close(handle)


def _make_file(path):
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _make_folder(path):
    os.mkdir(path)
    return os.open(path, os.O_RDONLY)


def remove_leftovers(folder):
    """Remove what writers that were killed left in a folder: their temporary files and folders, held by no lock."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if fcntl and LEFTOVER.fullmatch(entry.name):
                with contextlib.suppress(OSError):
                    handle = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
                    try:
                        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        shutil.rmtree(entry.path) if entry.is_dir() else os.remove(entry.path)
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
    with _said(what, path):
        folder = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(folder):
            raise InputError(f"{what} {quoted(path)} lies in {quoted(folder)}, which does not exist; create it first")
        _check_name(path)
        if os.path.isdir(path):
            raise InputError(f"{what} {quoted(path)} cannot be written, it is a folder; choose a file")
        check_room(folder, what, room)


def check_folder(path, what, room=0):
    """Refuse a path that is no folder to write to and cannot become one; the arguments are those of `check_writable`.

    Raises:
        InputError: as `check_writable`.
    """
    with _said(what, path):
        missing, there = [], os.path.abspath(path)
        while not os.path.lexists(there):
            there, name = os.path.split(there)
            missing.append(name)
        if not os.path.isdir(there):
            raise InputError(f"{what} {quoted(path)} cannot be a folder: {quoted(there)} is a file; choose another")
        for name in missing:
            _check_name(os.path.join(there, name))
        check_room(there, what, room)


def _check_name(path):
    """OSError for a name that is too long."""
    with contextlib.suppress(FileNotFoundError):
        os.stat(path, follow_symlinks=False)


@contextlib.contextmanager
def _said(what, path):
    """Put what the system says of a path into a sentence."""
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = getattr(error, "strerror", None) or "a name cannot hold a zero byte"
        raise InputError(
            f"{what} {quoted(path)} cannot be written ({reason}); choose a place where you may write, with room"
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
    partial, handle = _new(folder, _make_file)
    try:
        with open(handle, "wb") as file:
            file.write(bytes(BLOCK))
    finally:
        with contextlib.suppress(FileNotFoundError):  # closed, it holds no lock: another's tidying may come first
            os.remove(partial)
    free, limit = shutil.disk_usage(folder).free, resource.getrlimit(resource.RLIMIT_FSIZE)[0] if resource else -1
    if room > free:
        raise InputError(f"{what} needs {room / 1e6:.0f} MB and {quoted(folder)} has {free / 1e6:.0f} left; make room")
    if 0 <= limit < room:
        raise InputError(f"{what} needs {room / 1e6:.0f} MB and ulimit -f allows {limit / 1e6:.0f}; raise that limit")
