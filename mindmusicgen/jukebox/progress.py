"""A bar for each level of a run, with the time at which it will end, and what it will take once that is known."""

import time

from ..language import said
from ..runtime.compiled import watchers
from ..runtime.progress import progress_bar, someone_watches
from ..runtime.telling import tell

MEASURED = 48  # steps after the first chunk, which compiles, from which the time that is left is told
WORTH_TELLING = 60.0  # seconds that a level takes, when no bar is shown


class LevelBar:
    """Context that counts the steps of a level, shows them, tells what is left, and asks for the interrupt key.

    Args:
        level (int): the prior's number.
        work (tuple[int]): its steps, and the known positions that its windows take up: see `estimates.level_work`.
        known_seconds (float): about how long one of those takes, until it has been measured in a window.
        later (callable): from the seconds of a step and of a known position to those of the levels after this one.
        show (bool): whether to show a bar; None asks `someone_watches`.
        interrupts (Interrupts): asked for the interrupt key.
        callback (callable): called with level, steps done and steps in all after every chunk; False stops the run.
    """

    def __init__(self, level, work, known_seconds, later, show, interrupts, callback=None):
        self.level, (self.steps, self.known), self.later = level, work, later
        self.interrupts, self.callback, self.guess, self.show = interrupts, callback, known_seconds, show
        self.done, self.counted, self.taken = 0, 0, 0.0
        self.told, self.compiling, self.last = False, False, None
        self.bar = progress_bar(
            total=self.steps,
            desc=f"level {level}",
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} codes [{elapsed}<{remaining}{postfix}]",
            disable=not (someone_watches() if show is None else show),
            leave=False,
        )

    def __enter__(self):
        watchers.append(self._compiles)
        return self

    def __exit__(self, *error):
        watchers.remove(self._compiles)
        self.bar.close()

    def _compiles(self, kept):
        self.compiling = True

    def begun(self, positions):
        """A window has taken up so many known positions."""
        now = time.monotonic()
        if positions and self.last is not None and not self.compiling:
            self.guess = (now - self.last) / positions
        self.known -= positions
        self.compiling, self.last = False, now

    def tick(self, made):
        """So many steps are done.

        Raises:
            Stopped: if the callback says so.
            KeyboardInterrupt: if the user interrupts.
        """
        self.interrupts.check()
        now = time.monotonic()
        if self.last is not None and not self.compiling:
            self.counted, self.taken = self.counted + made, self.taken + now - self.last
        self.done, self.compiling, self.last = self.done + made, False, now
        if self.counted >= MEASURED:
            self._tell()
        self.bar.update(made)
        if self.callback is not None and self.callback(self.level, self.done, self.steps) is False:
            raise Stopped

    def _tell(self):
        step = self.taken / self.counted
        left = step * (self.steps - self.done) + self.guess * self.known
        end = time.strftime("%a %H:%M", time.localtime(time.time() + left))
        self.bar.set_postfix_str(f"until {end}", refresh=False)
        watched = not self.bar.disable or self.show is None and left >= WORTH_TELLING
        if not self.told and watched:
            line = said(f"level {self.level}: {self.steps} steps, about {left / 60:.0f} min, until {end}")
            rest = self.later(step, self.guess)
            more = said(f"; the levels after it about {rest / 60:.0f} min more") if rest else ""
            tell(line + more, error=True)
        self.told = True


class Stopped(Exception):
    """The callback asked to end the run: what is complete is on disk."""
