"""The small world of the model: drum loops of four seconds, their captions, and their latents.

    loop = LEARNT[0]              # what it is: rhythm, tempo, kit, variations
    text = caption(loop, rng)     # one of many ways to say it
    codes = compose(loop)         # what the demo's drummer does in each fiftieth of a second, [192]
    sound = audio(codes)          # [61440] float32 at 16 kHz
    latents = latents_of(codes, loop)  # [4, 48, 8] float32: the same as a picture

The latents are given and not learnt: a line is 80 ms, and its first channel has a column for each drum. So all
networks can be trained beside each other, and the UNet has nothing to learn that cannot be heard. Every stroke falls on
a line: a beat has 24, 32 or 40 fiftieths of a second, and nothing swings.
"""

import functools
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "demo_model"))

import synthesiser
from instruments import HITS, KITS, mix, player

RATE, HOP, BINS = 16000, 160, 64
LINE = 4  # frames of the band in a line of latents: 80 ms
LINES, COLUMNS = 48, 8
FRAMES = LINES * LINE
CHANNELS = ("strokes", "kit", "beat", "bar")
RHYTHMS = {  # the synthesiser's name, beats in a bar
    "rock": ("rock", 4), "disco": ("four on the floor", 4), "techno": ("techno", 4), "reggae": ("one drop", 4),
    "hip hop": ("boom bap", 4), "waltz": ("waltz", 3),
}  # fmt: skip
TEMPI = {"slow": 40, "medium": 32, "fast": 24}  # frames of a beat: 75, 94, 125 beats a minute


@dataclass(frozen=True)
class Loop:
    """What a loop is; the last three are variations, of which captions say nothing."""

    rhythm: str
    tempo: str
    kit: str
    open_hat: bool
    fill: bool
    kick: bool

    @property
    def beat(self):
        """Frames of a beat."""
        return TEMPI[self.tempo]

    @property
    def bpm(self):
        """Beats a minute."""
        return 60 * synthesiser.FRAME_RATE / self.beat

    @property
    def meter(self):
        """Beats in a bar."""
        return RHYTHMS[self.rhythm][1]


def facts(loop):
    """What a caption can say, as numbers of choices."""
    return list(RHYTHMS).index(loop.rhythm), list(TEMPI).index(loop.tempo), KITS.index(loop.kit)


CHOICES = (len(RHYTHMS), len(TEMPI), len(KITS))
ALL = [Loop(*one) for one in itertools.product(RHYTHMS, TEMPI, KITS, *[(False, True)] * 3)]
HELD_OUT = [loop for loop in ALL if (facts(loop)[0] + 2 * facts(loop)[1] + facts(loop)[2]) % 9 == 4]
LEARNT = [loop for loop in ALL if loop not in HELD_OUT]


def caption(loop, rng, full=False):
    """A text that says what a loop is: all of it, or a part."""

    def chance(probability):
        return full or rng.random() < probability

    words = [loop.tempo] if chance(0.8) else []
    words += [loop.kit] if chance(0.7) else []
    rng.shuffle(words)
    words.append(loop.rhythm if chance(0.9) else "")
    words.append(("drums", "beat", "drum loop", "")[rng.integers(4)])
    text = " ".join(word for word in words if word) or "drums"
    return f"{text}, {round(loop.bpm)} bpm" if rng.random() < 0.25 else text


def compose(loop):
    """What the drummer does, [FRAMES] ints."""
    row, last = np.zeros(FRAMES, np.int64), FRAMES // (loop.beat * loop.meter) - 1
    for bar in range(last + 2):
        strokes = {}
        for names, beats in synthesiser.PATTERNS[RHYTHMS[loop.rhythm][0]]:
            strokes.update({float(beat): names for beat in beats})
        if loop.kick:
            strokes[1.5] = ("kick", "hat") if 1.5 in strokes else ("kick",)
        if loop.open_hat:
            strokes[loop.meter - 0.5] = ("open hat",)
        if loop.fill and bar == last:
            strokes.update({beat: names for names, beat in synthesiser.FILLS[loop.meter]})
        for beat in sorted(strokes):
            start = int((bar * loop.meter + beat) * loop.beat)
            if start < FRAMES:
                states = player("drums").sounds[loop.kit, strokes[beat]].states(FRAMES)[: FRAMES - start]
                row[start:] = 0
                row[start : start + len(states)] = states
    return row


def audio(row):
    """The sound of codes, [samples] float32 at 16 kHz."""
    codes = np.zeros((4, len(row)), np.int64)
    codes[0] = row
    return resample_poly(mix(codes, heard=("drums",)), RATE, synthesiser.RATE).astype(np.float32)


@functools.cache
def sounds():
    """Of each state of the drummer the number of its sound, 0 for none, and its age in frames; and the sounds' keys."""
    band, keys = player("drums"), [None]
    number, age = np.zeros(len(band.frames), np.int64), np.zeros(len(band.frames), np.int64)
    for key, sound in band.sounds.items():
        keys.append(key)
        last = sound.first + sound.attack
        number[sound.first : last], age[sound.first : last] = len(keys) - 1, np.arange(last - sound.first)
    return number, age, keys


def latents_of(row, loop):
    """The picture of codes, [4, LINES, COLUMNS] float32, about zero mean and deviation 1."""
    made = np.zeros((len(CHANNELS), LINES, COLUMNS), np.float32)
    number, age, keys = sounds()
    for line, states in enumerate(row.reshape(LINES, LINE)):
        if number[states[0]]:
            share = np.mean(number[states] == number[states[0]])
            for hit in keys[number[states[0]]][1]:
                made[0, line, list(HITS).index(hit)] = share * 0.5 ** (age[states[0]] // LINE)
    made[1, :, 2 * KITS.index(loop.kit) : 2 * KITS.index(loop.kit) + 2] = 1
    beats = np.arange(LINES) * LINE / loop.beat
    for column in range(COLUMNS):
        made[2, :, column] = np.cos(2 * np.pi * (beats - column / COLUMNS))
        made[3, :, column] = np.cos(2 * np.pi * (beats / loop.meter - column / COLUMNS))
    return (made - MEAN) / DEVIATION


MEAN = np.array([0.08, 0.25, 0, 0], np.float32)[:, None, None]
DEVIATION = np.array([0.22, 0.43, 0.71, 0.71], np.float32)[:, None, None]
