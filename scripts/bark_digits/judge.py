"""Which digits are said? Each word is compared with the synthesiser's by dynamic time warping of its cepstra.

Needs NumPy and SciPy alone: a test hears the shipped model with it.
"""

import numpy as np
from scipy.fft import dct

RATE, STEP, WINDOW, BANDS = 24000, 240, 600, 32  # 10 ms steps
QUIET, GAP = 0.03, 9  # of the loudest step; steps of silence between two words
LONGEST, SHORTEST = 120, 8  # steps of a word


def _filters():
    def mel(hertz):
        return 2595 * np.log10(1 + hertz / 700)

    edges = 700 * (10 ** (np.linspace(mel(100), mel(8000), BANDS + 2) / 2595) - 1)
    bins = np.fft.rfftfreq(1024, 1 / RATE)[:, None]
    rising, falling = (bins - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - bins) / np.diff(edges)[1:]
    return np.maximum(0, np.minimum(rising, falling))


FILTERS = _filters()


def cepstra(audio):
    """[steps, 13]: mel cepstra of a word, without its loudness."""
    count = max(1, (len(audio) - WINDOW) // STEP + 1)
    frames = np.pad(audio, (0, WINDOW))[STEP * np.arange(count)[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    power = np.abs(np.fft.rfft(frames, 1024)) ** 2 @ FILTERS
    found = dct(np.log(power + 1e-3 * power.max() + 1e-9), norm="ortho")[:, :13]
    found[:, 0] = 0.3 * (found[:, 0] - found[:, 0].mean())
    return found


def split(audio):
    """The words of a text: what stands between silences."""
    count = len(audio) // STEP
    loud = np.sqrt((audio[: count * STEP].reshape(count, STEP) ** 2).mean(1)) if count else np.zeros(0)
    heard = np.flatnonzero(loud > QUIET * max(loud.max(initial=0), 1e-3))
    if not len(heard):
        return []
    cuts = np.flatnonzero(np.diff(heard) > GAP)
    firsts, lasts = heard[np.append(0, cuts + 1)], heard[np.append(cuts, len(heard) - 1)]
    return [
        audio[max(0, a - 1) * STEP : (b + 2) * STEP] for a, b in zip(firsts, lasts, strict=True) if b - a >= SHORTEST
    ]


def distance(one, other):
    """Mean distance of two words along the best path, at most twice as fast as each other."""
    cost = np.sqrt(((one[:, None] - other) ** 2).sum(-1))
    rows, columns = cost.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0
    for i in range(rows):
        for j in range(columns):
            total[i + 1, j + 1] = cost[i, j] + min(total[i, j], total[i, j + 1] + 0.3, total[i + 1, j] + 0.3)
    return total[-1, -1] / max(rows, columns)


def hear(audio, templates):
    """What is said: [(label, distance)] of each word, (None, None) for what is too long for one.

    Args:
        audio (numpy.ndarray): [samples].
        templates (dict): cepstra by label; a label is (digit, voice).
    """
    heard = []
    for word in split(audio):
        own = cepstra(word)
        if len(own) > LONGEST:
            heard.append(((None, None), np.inf))
            continue
        heard.append(min(((key, distance(own, known)) for key, known in templates.items()), key=lambda one: one[1]))
    return heard


def wrong(said, meant):
    """Edit distance of two lists."""
    row = list(range(len(meant) + 1))
    for i, one in enumerate(said, 1):
        before, row = row, [i]
        for j, other in enumerate(meant, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (one != other)))
    return row[-1]
