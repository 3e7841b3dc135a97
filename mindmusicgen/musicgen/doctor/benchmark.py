"""A short benchmark of the demo model: how long a step, a second of music and a second of decoding take."""

import statistics
import time

import numpy as np

from . import golden


def measure(stages, gold, seconds):
    """Measure on what was compiled or will be; every figure is of a second run.

    Args:
        stages (Stages): the demo model on the device.
        gold (dict): golden values, whose first prompt is used.
        seconds (float): length of the music.

    Returns:
        dict[str, float]: `music_s`, `first_run_s` (compiling included), `step_ms` (median over the chunks, batch 1 with
        guidance), `codec_ms` for a second of audio, and `real_time_factor`: seconds of work for a second of music.
    """
    model, text = stages.model, (gold["states"][:1], gold["mask"][:1])
    arguments = golden.SETTINGS | {"max_new_tokens": None, "duration": seconds}
    marks = []

    def make():
        marks[:] = [(time.perf_counter(), 0)]
        # The text encoder is no part of this: it runs once for a prompt, however long the music.
        request = stages.request(*text, arguments=arguments)
        frames = model._generate_codes(request, lambda done, _: marks.append((time.perf_counter(), done)), False)
        return np.concatenate(list(frames), axis=2)

    def decode(codes):
        return model.decode(codes).asnumpy()

    started = time.perf_counter()
    decode(make())
    first = time.perf_counter() - started
    codes = make()
    made = marks[-1][0] - marks[0][0]
    steps = [(b[0] - a[0]) / (b[1] - a[1]) for a, b in zip(marks[1:], marks[2:], strict=False) if b[1] > a[1]]
    started = time.perf_counter()
    decode(codes)
    decoded = time.perf_counter() - started
    return {
        "music_s": seconds,
        "first_run_s": first,
        "step_ms": 1000 * statistics.median(steps),
        "codec_ms": 1000 * decoded / seconds,
        "real_time_factor": (made + decoded) / seconds,
    }
