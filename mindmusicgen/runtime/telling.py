"""Words for the user. Telling must not end the doing: a terminal, pipe or log may go away while music is made."""

import contextlib
import json
import os
import sys
import unicodedata


def printable(text):
    """A text as one line that a terminal shows and does not obey; what is no printable character is escaped as in JSON.

    Args:
        text: anything; its `str` is shown. Names and captions from files may hold line breaks, and the codes that
            colour, clear or retitle a terminal.

    Returns:
        str
    """
    shown = (c if c.isprintable() or unicodedata.category(c) == "Zs" else json.dumps(c)[1:-1] for c in str(text))
    return "".join(shown)


def quoted(name):
    """A name in quotes for a sentence: its beginning and its end if it is long."""
    name = os.fspath(name)
    return repr(name if len(name) <= 80 else f"{name[:38]}...{name[-38:]}")


class Patient:
    """A text stream that drops what cannot be handed on any more.

    Args:
        stream (io.TextIOBase): such as sys.stderr; None drops everything.
    """

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def write(self, text):
        try:
            try:
                self.stream.write(text)
            except UnicodeEncodeError:  # a terminal of few characters
                encoding = self.stream.encoding
                self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        except (OSError, ValueError, AttributeError):  # gone, closed, None
            pass
        return len(text)

    def flush(self):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            self.stream.flush()


def tell(line, error=False):
    """Print one line to standard output, or to standard error; where nobody listens any more, nothing happens."""
    print(printable(line), file=Patient(sys.stderr if error else sys.stdout), flush=True)


@contextlib.contextmanager
def patient_streams():
    """Context in which writing to standard output and standard error raises nothing, whoever writes.

    At its end, what a stream that is gone still holds is dropped: Python would fail over it when it exits.
    """
    streams = sys.stdout, sys.stderr
    try:
        with contextlib.redirect_stdout(Patient(sys.stdout)), contextlib.redirect_stderr(Patient(sys.stderr)):
            yield
    finally:
        for stream in streams:
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                with contextlib.suppress(OSError, ValueError, AttributeError):
                    nowhere = os.open(os.devnull, os.O_WRONLY)
                    os.dup2(nowhere, stream.fileno())
                    os.close(nowhere)
