"""Ctrl-C, and the stop button of a notebook, end a run cleanly.

Every run of a compiled graph makes MindSpore install a SIGINT handler that ends the whole process, notebook kernel
included, and a KeyboardInterrupt raised while it compiles is lost (both seen in 2.7.0 and 2.10.0). Inside
`interruptible` the signal is therefore blocked and waited for by a thread of ours; the main thread asks `check`
where it is safe to stop. A second Ctrl-C ends the process at once.
"""

import contextlib
import os
import signal
import threading

_active = None


class Interrupts:
    """Receives SIGINT in a thread of its own while the main thread has it blocked."""

    def __init__(self):
        self.received, self.done = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._wait, daemon=True)

    def _wait(self):
        while not self.done.is_set():
            received = signal.sigtimedwait([signal.SIGINT], 0.02)  # a stream ends this thread at every chunk
            # A process that was stopped (Ctrl-Z) and goes on gets a result here that holds no signal (CPython).
            if received is not None and received.si_signo == signal.SIGINT:
                if self.received.is_set():
                    os._exit(130)
                self.received.set()

    def check(self):
        """Raise KeyboardInterrupt if the signal came."""
        if self.received.is_set():
            raise KeyboardInterrupt


@contextlib.contextmanager
def blocked():
    """Context that starts threads, as importing MindSpore does, which are never to receive SIGINT."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def keep_out_of_interrupts():
    """In a thread that is not the main one: let it receive no SIGINT, which would run MindSpore's handler there. Python
    raises KeyboardInterrupt in the main thread alone, so nothing is lost."""
    if threading.current_thread() is not threading.main_thread() and hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])


@contextlib.contextmanager
def interruptible():
    """Context that yields an `Interrupts`; at its end a pending interrupt is raised.

    Does nothing special outside the main thread, where Python handles no signals, or on systems without
    `sigtimedwait`.
    """
    global _active
    main = threading.current_thread() is threading.main_thread()
    if not main or _active is not None or not hasattr(signal, "sigtimedwait"):
        yield _active if main and _active is not None else Interrupts()
        return
    interrupts = Interrupts()
    with blocked():
        interrupts.thread.start()
        _active = interrupts
        try:
            yield interrupts
        finally:
            _active = None
            interrupts.done.set()
            interrupts.thread.join()
    interrupts.check()
