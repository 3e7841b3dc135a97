"""What MindSpore and transformers would tell the user about how this package uses them, kept back; the rest is told.

MindSpore warns of its compile cache, which `compiled` uses as it is meant to be used; transformers says at its import
that there is no PyTorch, which nothing here needs.
"""

import contextlib
import ctypes
import functools
import os
from pathlib import Path

LEVELS = "MS_SUBMODULE_LOG_v"  # what each part of MindSpore logs
PART = "PIPELINE"  # the part that compiles
LEVEL, WARNING, ERROR = "GLOG_v", 2, 3  # what all of it logs: by default warnings, 3 errors alone, 4 nothing
ADVICE = "TRANSFORMERS_NO_ADVISORY_WARNINGS"


@contextlib.contextmanager
def unadvised():
    """Context for an import of transformers, which tells without torch that there is none."""
    with _set(ADVICE, "1"):
        yield


@contextlib.contextmanager
def cache_unmentioned():
    """Context in which MindSpore does not tell that its compile cache is used, was empty, or is set by a function.

    Errors are told, and so is everything to a user who has chosen what MindSpore logs.
    """
    read, level = _levels_reader(), os.environ.get(LEVEL, "")
    level = int(level) if level.isdecimal() else WARNING  # MindSpore may have been imported before it was set
    with contextlib.ExitStack() as stack:
        stack.enter_context(_unlogged("enable_compile_cache"))
        if read is not None and level >= WARNING and LEVELS not in os.environ:
            stack.callback(read)  # last, when the variable is gone
            stack.enter_context(_set(LEVELS, f"{{{PART}:{max(level, ERROR)}}}"))
            read()
        yield


@contextlib.contextmanager
def _set(name, value):
    """Context with a variable in the environment, unless the user has set it."""
    if name in os.environ:
        yield
        return
    os.environ[name] = value
    try:
        yield
    finally:
        os.environ.pop(name, None)


@contextlib.contextmanager
def _unlogged(words):
    """Context in which MindSpore's Python part logs nothing that holds some words."""
    from mindspore import log

    def wanted(record):
        return words not in record.getMessage()

    logger = log._get_logger() if hasattr(log, "_get_logger") else None
    if logger:
        logger.addFilter(wanted)
    try:
        yield
    finally:
        if logger:
            logger.removeFilter(wanted)


@functools.cache
def _levels_reader():
    """MindSpore's function that reads from the environment what its parts log; None where it has none."""
    import mindspore

    try:
        library = ctypes.CDLL(str(Path(mindspore.__file__).parent / "lib" / "libmindspore_core.so"))
        read = library._ZN9mindspore22InitSubModulesLogLevelEv
    except (OSError, AttributeError):
        return None
    read.argtypes, read.restype = (), None
    return read
