"""A progress bar in seconds of audio, shown where a person is watching."""

import contextlib
import sys

from tqdm.auto import tqdm

from .telling import Patient


def someone_watches():
    """Whether standard error is a terminal or the code runs in a notebook."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # gone, closed, None
        if sys.stderr.isatty():
            return True
    return "ipykernel" in sys.modules


def progress_bar(**options):
    """A tqdm bar on standard error that goes on counting when nobody can see it any more."""
    return tqdm(file=Patient(sys.stderr), **options)


class Progress:
    """Context that shows how many of `columns` are done.

    Args:
        columns (int): how many columns will be made.
        frame_rate (int): columns per second of audio.
        show (bool): whether to show; None asks `someone_watches`.
    """

    def __init__(self, columns, frame_rate, show=None):
        self.frame_rate = frame_rate
        layout = "{l_bar}{bar}| {n:.1f}/{total:.1f} s of audio [{elapsed}<{remaining}]"
        self.bar = progress_bar(
            total=columns / frame_rate,
            bar_format=layout,
            disable=not (someone_watches() if show is None else show),
            leave=False,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.bar.close()

    def update(self, done):
        """`done` columns have been made so far."""
        self.bar.update(done / self.frame_rate - self.bar.n)
