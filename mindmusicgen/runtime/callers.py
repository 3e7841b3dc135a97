"""Several callers: one at a time computes, in the process that began to.

MindSpore's runtime serves one thread. Two that compile or run at the same time end the process or fail each other's
graphs, whether they share a model or not (seen in 2.10.0). And a fork copies none of the threads that a runtime has
started, so that the first graph of a forked child waits for ever. Whatever computes therefore takes its `turn`.
"""

import contextlib
import functools
import itertools
import os
import threading

from ..errors import InputError
from . import compiled
from .compiled import settle
from .device import current
from .interrupt import interruptible, keep_out_of_interrupts

_lock = threading.RLock()
_begun = False  # whether this process has computed
_orphaned = False  # whether it was forked from one that had
_inside = 0  # turns that the thread in them has entered


def _forked():
    global _lock, _orphaned, _inside
    _lock, _orphaned = threading.RLock(), _orphaned or _begun  # a thread that held the lock is not here
    _inside = 0


def _release_abandoned():
    if not _orphaned and _lock.acquire(blocking=False):
        try:
            if not _inside:
                compiled.release_abandoned()
        finally:
            _lock.release()


compiled.abandoned.append(_release_abandoned)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


@contextlib.contextmanager
def turn(check=None):
    """Context in which no other thread computes; the thread that is in it may enter it again.

    Args:
        check (callable): called ten times a second while others compute; may raise.

    Raises:
        InputError: in a process that was forked from one that had computed.
    """
    global _begun, _inside
    if _orphaned:
        raise InputError(
            "this process was forked from one that had run a model, and MindSpore's threads were not copied; start "
            "processes with multiprocessing.get_context('spawn'), and open the model in them"
        )
    keep_out_of_interrupts()
    while not _lock.acquire(timeout=0.1):
        if check is not None:
            check()
    _inside += 1
    try:
        _begun = True
        yield
        settle()
    except BaseException:
        with contextlib.suppress(Exception):
            settle()
        raise
    finally:
        _inside -= 1
        if not _inside:
            compiled.release_abandoned()
        _lock.release()


@contextlib.contextmanager
def alone():
    """`turn` and `interruptible` in one, for what takes long; yields the `Interrupts`."""
    with interruptible() as interrupts, turn(interrupts.check):
        yield interrupts


def serialised(method):
    """Let a method take its `turn`."""

    @functools.wraps(method)
    def call(*arguments, **named):
        with turn():
            return method(*arguments, **named)

    return call


class Unfinished:
    """The pieces that a model is making. `stop` ends the one that was worked on last, not one that waits or is done."""

    def __init__(self):
        self.turns, self.count = {}, itertools.count()  # event -> when it was worked on

    @contextlib.contextmanager
    def piece(self):
        """Context that yields a piece's event, which `stop` sets."""
        stopped = threading.Event()
        try:
            yield stopped
        finally:
            self.turns.pop(stopped, None)

    def works(self, stopped):
        """The piece is worked on now."""
        self.turns[stopped] = next(self.count)

    def stop(self):
        for stopped, _ in sorted(self.turns.copy().items(), key=lambda entry: entry[1])[-1:]:
            stopped.set()


class Single:
    """A model as it is, neither copied nor cast: a mixin that says so in place of what breaks later."""

    def __reduce_ex__(self, protocol):
        raise InputError(
            f"a {type(self).__name__} cannot be copied or pickled: its graphs belong to this process; open the model "
            "again with from_pretrained, in another process too"
        )

    def to(self, *places, **named):
        """The model, if that is its device and dtype; otherwise an InputError that says how it is opened so."""
        named.pop("non_blocking", None)
        asked = [one for one in (*places, *named.values()) if one is not None and not isinstance(one, bool)]
        wanted = [str(one).rpartition(".")[2].lower() for one in asked]
        target, number = current()
        own = (str(getattr(self, "dtype", None)).lower(), target.lower(), f"{target}:{number}".lower())
        if not set(wanted) <= set(own):
            raise InputError(
                f"a {type(self).__name__} does not change to {' '.join(wanted)[:60]}: dtype and device are chosen when "
                "it is opened, with from_pretrained(..., dtype='float16', device='Ascend')"
            )
        return self

    to_float = to
