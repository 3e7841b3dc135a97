"""One run in a folder: a lock that goes with its process, however that ends, and holds on network folders too."""

import contextlib
import os
import threading

from ..errors import InputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

NAME = ".mindmusicgen.lock"  # a file and not the folder itself, of which NFS keeps no lock that other machines see
_mine = threading.local()  # the folders that this thread works in


@contextlib.contextmanager
def alone_in(folder, shared=False):
    """Context that keeps a second run out of a folder; a thread that is in it may enter it again.

    Args:
        folder (str): made if it does not exist.
        shared (bool): several ranks work on it together.

    Raises:
        InputError: if the folder cannot be made or written, or another run works on it.
    """
    place = os.path.realpath(folder)
    held = _mine.__dict__.setdefault("folders", set())
    if place in held:
        yield
        return
    try:
        os.makedirs(folder, exist_ok=True)
        handle = _locked(os.path.join(folder, NAME), folder, shared)
    except OSError as error:
        raise InputError(f"output {folder!r} cannot be used: {error.strerror}; give a folder to write to") from error
    held.add(place)
    try:
        yield
    finally:
        held.discard(place)
        _release(os.path.join(folder, NAME), handle, shared)


def _locked(path, folder, shared):
    """An open file that is locked, and still the one at its path: its last owner may have removed it meanwhile."""
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            if _is_at(handle, path):
                return handle
        except BlockingIOError as error:
            os.close(handle)
            raise InputError(f"another run works on {folder!r}; wait for it, or give another folder") from error
        except OSError:  # a file system without locks
            return handle
        os.close(handle)


def _is_at(handle, path):
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


def _release(path, handle, shared):
    """Remove the file, unless other ranks still work, and let go of it."""
    try:
        if fcntl is not None and shared:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(handle, path):
            os.remove(path)
    except OSError:  # others are at work, or the folder is gone
        pass
    finally:
        os.close(handle)
