"""One progress bar over steps, pictures and sound, in units of about a step's work; and where a call is stopped."""

from ..runtime.progress import progress_bar, someone_watches

DECODING = 9  # the autoencoder and the vocoder take as long as so many steps with guidance of as many seconds


class Work:
    """Context that counts what is done of a call, shows it with the seconds left, and asks whether to go on.

    Args:
        request (settings.Request): of the call.
        show (bool): whether to show a bar; None asks `someone_watches`.
        event (threading.Event): set to stop.
        interrupts (Interrupts): asked for the interrupt key.
    """

    def __init__(self, request, show, event, interrupts):
        self.event, self.interrupts, self.rows = event, interrupts, request.rows
        self.step_size = self.rows * (1 if request.guided else 0.5)
        decoding = 0 if request.output_type == "latent" else DECODING * self.rows
        self.bar = progress_bar(
            total=len(request.table.timesteps) * self.step_size + decoding,
            desc="preparing",
            bar_format="{l_bar}{bar}| [{elapsed}<{remaining}]",
            disable=not (someone_watches() if show is None else show),
            leave=False,
        )

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.bar.close()

    def step(self):
        """A step is done; whether to go on."""
        if not self.bar.n:  # the first took as long as compiling, which says nothing of the time that is left
            self.bar.reset()
        self._show("making", self.step_size)
        return not self.event.is_set()

    def decoded(self):
        """A waveform's picture or its sound is done."""
        self._show("decoding", DECODING / 2)

    def _show(self, what, amount):
        self.interrupts.check()
        self.bar.set_description(what, refresh=False)
        self.bar.update(amount)
