"""Files that appear whole or not at all."""

import contextlib
import os


@contextlib.contextmanager
def whole_file(path):
    """Context that gives a path to write to; it becomes `path` if the block succeeds and is removed if not.

    Args:
        path (str): the file; what was there before stays until the new one is complete.
    """
    partial = f"{path}.partial"
    try:
        yield partial
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)
