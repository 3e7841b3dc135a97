"""One progress bar over the three stages, in units of about a step's work; and where a call is stopped."""

from ..runtime.progress import progress_bar, someone_watches
from .stages import fine_windows

PASS = 55  # a pass of the fine stage takes as long as so many steps, and so does a prefill of the coarse stage
PREFILL = 50


class Work:
    """Context that counts what is done of a call, shows it, and asks whether to go on.

    Args:
        settings (settings.Settings): of the call.
        rows (int): pieces.
        show (bool): whether to show a bar; None asks `someone_watches`.
        callback (callable): called with how much of how much is done; returning False stops.
        event (threading.Event): set to stop.
        interrupts (Interrupts): asked for the interrupt key.
    """

    def __init__(self, settings, rows, show, callback, event, interrupts):
        self.settings, self.rows = settings, rows
        self.callback, self.event, self.interrupts, self.stopped = callback, event, interrupts, False
        self.shares = self._shares([settings.semantic.max_new_tokens] * rows)
        self.bar = progress_bar(
            total=sum(self.shares),
            desc="preparing",
            bar_format="{l_bar}{bar}| [{elapsed}<{remaining}]",
            disable=not (someone_watches() if show is None else show),
            leave=False,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.bar.close()

    def _shares(self, tokens):
        """The work of each stage for so many semantic tokens of each row."""
        frames = [self.settings.frames(count) for count in tokens]
        window = self.settings.coarse.sliding_window_len
        windows = sum(len(fine_windows(count, 0, self.settings)) for count in frames)
        passes = windows * (self.settings.fine.n_fine_codebooks - 2)
        return [max(tokens), round(2 * max(frames) * (1 + PREFILL / window)), passes * PASS]

    def spoken(self, tokens):
        """The semantic stage is over: now it is known how much is left."""
        self.shares = [self.shares[0], *self._shares([len(row) for row in tokens])[1:]]
        self.bar.total = sum(self.shares)

    def semantic(self, done, steps):
        return self._show("semantic", self.shares[0] * done / steps)

    def coarse(self, done, steps):
        return self._show("coarse", self.shares[0] + self.shares[1] * done / steps)

    def fine(self, done, steps):
        return self._show("fine", self.shares[0] + self.shares[1] + self.shares[2] * done / steps)

    def _show(self, stage, done):
        """Whether to go on."""
        self.interrupts.check()
        self.bar.set_description(stage, refresh=False)
        self.bar.update(done - self.bar.n)
        refused = self.callback is not None and self.callback(round(done), round(sum(self.shares))) is False
        self.stopped = self.stopped or refused or self.event.is_set()
        return not self.stopped
