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
    """Context that shows how many of `columns` are done, and before the first of them which graph is being compiled.

    Nobody knows how long that takes; how many there are is known.

    Args:
        columns (int): how many columns will be made.
        frame_rate (int): columns per second of audio.
        show (bool): whether to show; None asks `someone_watches`.
        graphs (int): how many are compiled on the way, if none is there yet.
    """

    def __init__(self, columns, frame_rate, show=None, graphs=2):
        self.frame_rate, self.graphs, self.begun = frame_rate, graphs, 0
        layout = "{l_bar}{bar}| {n:.1f}/{total:.1f} s of audio [{elapsed}<{remaining}]"
        self.bar = progress_bar(
            total=columns / frame_rate,
            desc="preparing",
            bar_format=layout,
            disable=not (someone_watches() if show is None else show),
            leave=False,
        )

    def __enter__(self):
        from .compiled import watchers  # not above: importing MindSpore takes a second, and a hub is asked without it

        self.watchers = watchers
        watchers.append(self.graph)
        return self

    def __exit__(self, *error):
        self.watchers.remove(self.graph)
        self.bar.close()

    def graph(self, kept):
        """The next graph is about to be compiled, or to be read from the cache."""
        self.begun += 1
        self.graphs = max(self.graphs, self.begun)
        self.bar.set_description(f"{'opening' if kept else 'compiling'} graph {self.begun} of {self.graphs}")

    def update(self, done):
        """`done` columns have been made so far."""
        if not done:
            return
        seconds = done / self.frame_rate
        if not self.bar.n:  # what compiling took says nothing of the time that is left
            self.bar.reset()
            self.bar.n = self.bar.initial = self.bar.last_print_n = seconds
        self.bar.set_description("making", refresh=False)
        self.bar.update(seconds - self.bar.n)
