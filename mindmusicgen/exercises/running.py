"""Calling a student's function so that nothing it does reaches the checker: errors, endless loops, endless output."""

import contextlib
import copy
import io
import linecache
import signal
import sys
import threading

import numpy as np

SECONDS = 10.0  # for one call
AGAIN = 2.0  # for a call that only helps to explain what was wrong before
OUTPUT = 2000  # characters that a function may print while it is checked


class TimeUp(BaseException):
    """The time limit is over. Not an Exception, so that `except Exception` in a loop does not keep it."""


@contextlib.contextmanager
def time_limit(seconds):
    """Context that raises `TimeUp` after some seconds, again and again until it is left.

    Without effect outside the main thread or where there is no interval timer (Windows): Python can interrupt itself
    nowhere else.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return
    running = True

    def stop(*_):
        if running:
            raise TimeUp

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
    try:
        yield
    finally:
        running = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Limited(io.TextIOBase):
    """Hands the first characters on and drops the rest."""

    def __init__(self, stream, left=OUTPUT):
        self.stream, self.left = stream, left

    def write(self, text):
        shown = text[: self.left]
        self.left -= len(shown)
        if shown:
            self.stream.write(shown)
            if not self.left:
                self.stream.write(" ...\n")
        return len(text)

    def flush(self):
        self.stream.flush()


class Failure(Exception):
    """The function gave no answer.

    Attributes:
        kind (str): "time", "gap", "stopped" or "error".
        error (BaseException): what it raised.
        line (str): where in the student's code, as "line 7: x = a[9]"; empty if that is not known.
    """

    def __init__(self, kind, error, line=""):
        super().__init__(kind)
        self.kind, self.error, self.line = kind, error, line


@contextlib.contextmanager
def guarded(seconds=None, stream=None, function=None):
    """Context for code of a student: what it raises becomes a `Failure`, what it prints is limited.

    Args:
        seconds (float): time that it may take; None for `SECONDS`.
        stream (Limited): where its output goes; None for a fresh limit on standard output.
        function (callable): the student's, to find the line of an error in it.
    """
    output, limit = stream or Limited(sys.stdout), SECONDS if seconds is None else seconds
    try:
        with contextlib.redirect_stdout(output), np.errstate(all="ignore"), time_limit(limit):
            yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever student's code raises
        kinds = {TimeUp: "time", NotImplementedError: "gap", SystemExit: "stopped"}
        raise Failure(kinds.get(type(error), "error"), error, _line(function, error)) from None


def call(function, arguments, seconds=None, stream=None):
    """What a function returns for copies of the arguments, and whether it wrote into them.

    Raises:
        Failure: if it raises, ends Python, or takes too long.
    """
    given = copy.deepcopy(arguments)
    with guarded(seconds, stream, function):
        answer = function(*given)
    return answer, not all(map(_unchanged, given, arguments))


def _unchanged(found, expected):
    return np.array_equal(found, expected) if isinstance(expected, np.ndarray) else True


def _line(function, error):
    """The last line of the student's own code that an error passed through."""
    path = getattr(getattr(function, "__code__", None), "co_filename", None)
    found, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == path:
            found = f"{trace.tb_lineno}: {linecache.getline(path, trace.tb_lineno).strip()}"
        trace = trace.tb_next
    return found.removesuffix(": ")
