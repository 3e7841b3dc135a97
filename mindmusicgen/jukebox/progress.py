"""A bar for each level of a run, with the time at which it will end, and what it will take once that is known."""

import time

from ..language import said
from ..runtime.progress import progress_bar, someone_watches
from ..runtime.telling import tell

MEASURED = 24  # steps after the first chunk, which compiles, from which the time that is left is told


class LevelBar:
    """Context that counts the steps of a level, shows them, and asks for the interrupt key.

    Args:
        level (int): the prior's number.
        steps (int): that the level takes.
        show (bool): whether to show a bar; None asks `someone_watches`.
        interrupts (Interrupts): asked for the interrupt key.
        callback (callable): called with level, steps done and steps in all after every chunk; False stops the run.
    """

    def __init__(self, level, steps, show, interrupts, callback=None):
        self.level, self.steps, self.interrupts, self.callback = level, steps, interrupts, callback
        self.done, self.began, self.told, self.counted, self.shown = 0, None, False, 0, show
        self.bar = progress_bar(
            total=steps,
            desc=f"level {level}",
            bar_format="{l_bar}{bar}| {n_fmt}/{total_fmt} codes [{elapsed}<{remaining}{postfix}]",
            disable=not (someone_watches() if show is None else show),
            leave=False,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.bar.close()

    def tick(self, made):
        """So many steps are done.

        Raises:
            Stopped: if the callback says so.
            KeyboardInterrupt: if the user interrupts.
        """
        self.interrupts.check()
        self.done += made
        now = time.monotonic()
        if self.began is None:  # the first chunk compiled
            self.began, self.counted = now, self.done
        elif self.done - self.counted >= MEASURED:
            self._tell((now - self.began) / (self.done - self.counted) * (self.steps - self.done))
        self.bar.update(made)
        if self.callback is not None and self.callback(self.level, self.done, self.steps) is False:
            raise Stopped

    def _tell(self, left):
        end = time.strftime("%a %H:%M", time.localtime(time.time() + left))
        self.bar.set_postfix_str(f"until {end}", refresh=False)
        if not self.told and not self.bar.disable:
            tell(said(f"level {self.level}: {self.steps} steps, about {left / 60:.0f} min, until {end}"), error=True)
        self.told = True


class Stopped(Exception):
    """The callback asked to end the run: what is complete is on disk."""
