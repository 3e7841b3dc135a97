"""A progress bar in seconds of audio, shown where a person is watching."""

import contextlib
import sys

from tqdm.auto import tqdm

from .telling import Patient, tell

MOMENT = 1.0  # seconds in which a bar would only flicker


def someone_watches():
    """Whether standard error is a terminal or the code runs in a notebook."""
    with contextlib.suppress(OSError, ValueError, AttributeError):  # gone, closed, None
        if sys.stderr.isatty():
            return True
    return "ipykernel" in sys.modules


def announce(line):
    """Tell a line to whoever watches."""
    if someone_watches():
        tell(line, error=True)


def progress_bar(**options):
    """A tqdm bar on standard error that goes on counting when nobody can see it any more."""
    return tqdm(file=Patient(sys.stderr), **options)


def loading_bar(size):
    """A bar of the seconds left for `size` numbers to be read, where a person watches; not of what takes a moment."""
    return progress_bar(
        total=size,
        desc="loading",
        bar_format="{desc} {percentage:3.0f}%|{bar}| {remaining} left",
        delay=MOMENT,
        disable=not someone_watches(),
        leave=False,
    )


class Progress:
    """Context that shows how many of `columns` are done, and that graphs are prepared until the first of them are.

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
            desc="preparing",
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
        self.bar.set_description("making", refresh=False)
        self.bar.update(done / self.frame_rate - self.bar.n)
