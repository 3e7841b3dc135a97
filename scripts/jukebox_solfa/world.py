"""The small world of the model: tunes of equal notes, the words that name them, and the codes of three levels.

    tune = np.array([7, 8, 9, REST])     # a note each: 0 to 6 the low do to ti, 7 to 13 the high ones
    words_of(tune)                       # "do re mi --"
    sound(tune, "harp")                  # [4 * SLOT] float32 at 22.05 kHz
    Codes.load(path).of(tune, "harp")    # codes of each level, the finest first

The codes are given and not learnt. Those of the coarsest level say which note sounds and for how long, and nothing of
the instrument: that is what the levels below add. Theirs are clusters of the waveform itself. A note sounds the same
each time, and its waves begin anew with each note, so that the same music has the same codes.
"""

import functools

import numpy as np

RATE = 22050
HOPS = (32, 128, 512)  # samples of a code, the finest level first
SLOT = 8192  # samples of a note: 16 codes of the coarsest level, 0.37 s
AGES = SLOT // HOPS[2]
DEGREES = (24, 27, 30, 32, 36, 40, 45)  # of a scale in pure intervals
SYLLABLES = ("do", "re", "mi", "fa", "so", "la", "ti")
UNIT = RATE / 2048  # Hz: whole numbers of waves fit into four codes of the coarsest level; the high do has 258 Hz
ARTISTS, GENRES = ("bass", "soprano"), ("flute", "organ", "harp")
PITCHES = len(DEGREES) * len(ARTISTS)
REST, PAUSE = PITCHES, "--"
FREE = ("oh", "ah", "na", "hm")  # words that leave the note to the singer
CODES = 512  # of each level; the coarsest uses AGES * (PITCHES + 1)
MOST_NOTES = 16
PARTIALS = {  # (number, strength, decay a second, and that for each number)
    "flute": ((1, 2, 3), (1.0, 0.22, 0.08), 1.0, 0.0),
    "organ": ((1, 2, 4, 6), (1.0, 0.8, 0.5, 0.35), 0.4, 0.0),
    "harp": (tuple(range(1, 9)), tuple(1 / n**0.7 for n in range(1, 9)), 3.0, 1.2),
}
ATTACKS = {"flute": 0.04, "organ": 0.01, "harp": 0.003}  # seconds
RELEASE = 0.03


def frequency(pitch):
    """Hz of a note."""
    return UNIT * DEGREES[pitch % 7] / (2 if pitch < 7 else 1)


@functools.cache
def note(pitch, instrument):
    """The sound of a note, [SLOT] float32."""
    if pitch == REST:
        return np.zeros(SLOT, np.float32)
    time = np.arange(SLOT) / RATE
    numbers, strengths, decay, each = PARTIALS[instrument]
    made = np.zeros(SLOT)
    for number, strength in zip(numbers, strengths, strict=True):
        envelope = np.exp(-time * (decay + each * number))
        made += strength * envelope * np.sin(2 * np.pi * number * frequency(pitch) * time)
    made *= np.minimum(1, time / ATTACKS[instrument]) * np.minimum(1, (SLOT / RATE - time) / RELEASE)
    return (0.5 * made / np.abs(made).max()).astype(np.float32)


def sound(tune, instrument):
    """The sound of a tune, [notes * SLOT] float32."""
    return np.concatenate([note(int(pitch), instrument) for pitch in tune])


def words_of(tune):
    """The words that name a tune, as the model reads them."""
    return " ".join(PAUSE if pitch == REST else SYLLABLES[pitch % 7] for pitch in tune)


def top_codes(tune):
    """Codes of the coarsest level, [notes * AGES] int32."""
    return (np.asarray(tune)[:, None] * AGES + np.arange(AGES)).reshape(-1).astype(np.int32)


class Codes:
    """The codes of the two finer levels: for each note and instrument, a row.

    Args:
        tables (list): of each level, codes [instruments, PITCHES + 1, SLOT / hop].
    """

    def __init__(self, tables):
        self.tables = tables

    @classmethod
    def found(cls, rounds=40):
        """By clustering blocks of the waveform; silence is code 0."""
        return cls([clustered(hop, rounds) for hop in HOPS[:2]])

    @classmethod
    def load(cls, path):
        """From the file that `save` wrote."""
        with np.load(path) as stored:
            return cls([stored["bottom"], stored["middle"]])

    def save(self, path):
        """Write them."""
        np.savez_compressed(path, bottom=self.tables[0], middle=self.tables[1])

    def of(self, tune, instrument):
        """Codes of each level of a tune, the finest first."""
        rows = [table[GENRES.index(instrument), tune].reshape(-1).astype(np.int32) for table in self.tables]
        return [*rows, top_codes(tune)]


def blocks(hop):
    """The world's waveform in blocks, [instruments, PITCHES + 1, SLOT / hop, hop] float32."""
    made = [[note(pitch, instrument).reshape(-1, hop) for pitch in range(PITCHES + 1)] for instrument in GENRES]
    return np.array(made)


def clustered(hop, rounds):
    """Codes of a level, by Lloyd's algorithm from blocks that are far from each other."""
    found = blocks(hop)
    points = found.reshape(-1, hop)
    size = (points**2).sum(1)
    centres, near = [np.zeros(hop, np.float32)], size.copy()
    for _ in range(CODES - 1):  # the farthest block is the next centre
        centres.append(points[near.argmax()])
        near = np.minimum(near, ((points - centres[-1]) ** 2).sum(1))
    centres = np.array(centres)
    for _ in range(rounds):
        codes = (size[:, None] - 2 * points @ centres.T + (centres**2).sum(1)).argmin(1)
        for code in range(1, CODES):
            members = points[codes == code]
            if len(members):
                centres[code] = members.mean(0)
    return codes.reshape(found.shape[:3]).astype(np.int16)


def melody(rng, count, low):
    """A tune that singers would make up: small steps, from do to do."""
    degrees, degree = [], 0
    for left in range(count - 1, -1, -1):  # notes after this one
        degrees.append(degree)
        ways = degree + np.array([-2, -1, -1, 0, 1, 1, 2])
        ways = ways[(ways >= 0) & (ways <= min(6, 2 * max(left - 1, 0)))]  # do must stay in reach
        degree = int(rng.choice(ways)) if len(ways) else 0
    return np.array(degrees) + (0 if low else len(DEGREES))


def song(rng):
    """A tune with what the model is told of it: notes, instrument, artist, genre, lyrics.

    Half of the tunes are notes of any kind, so that nothing but the words tells them.
    """
    count = MOST_NOTES if rng.random() < 0.5 else int(rng.integers(3, MOST_NOTES + 1))
    low = bool(rng.random() < 0.5)
    tune = melody(rng, count, low)
    told = rng.random() < 0.9
    if told and rng.random() < 0.7:
        tune = rng.integers(0, 7, count) + (0 if low else 7)
    if told:
        tune = np.where(rng.random(count) < 0.08, REST, tune)
    words = words_of(tune).split(" ")
    if told and rng.random() < 0.3:
        words = [str(rng.choice(FREE)) if pitch != REST and rng.random() < 0.25 else word
                 for word, pitch in zip(words, tune, strict=True)]  # fmt: skip
    lyrics = ""
    if told:
        gaps = ["\n" if rng.random() < 0.1 else " " for _ in words]
        lyrics = "".join(word + gap for word, gap in zip(words, gaps, strict=True))[:-1]
        lyrics = (str.lower, str.title, str.upper)[int(rng.choice(3, p=[0.7, 0.15, 0.15]))](lyrics)
    instrument = GENRES[rng.integers(len(GENRES))]
    artist = ARTISTS[0 if low else 1] if rng.random() < 0.9 else "unknown"
    genre = instrument if rng.random() < 0.9 else "unknown"
    return tune, instrument, artist, genre, lyrics
