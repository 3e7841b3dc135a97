"""Songs for training: drawn from a seed, composed, and mixed to a waveform.

    song = draw_song(seed)          # what it is: genre, tempo, key, instruments
    audio = render(song)            # float32 mono at 32 kHz

The same seed gives the same song. Every song starts on the first beat of a bar.
"""

from dataclasses import dataclass

import numpy as np
from instruments import LONGEST, RATE, drum, note
from scipy import signal

MODES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
PROGRESSIONS = {  # scale degrees, one chord a bar
    "major": ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 4, 4), (1, 4, 0, 0), (0, 3, 0, 4), (0, 2, 3, 4)),
    "minor": ((0, 5, 2, 6), (0, 3, 4, 0), (0, 6, 5, 6), (0, 0, 3, 4), (0, 5, 3, 6)),
}
# hits as (drum, beats in the bar, loudness); patterns in three end with " waltz"
PATTERNS = {
    "backbeat": (("kick", (0, 2, 2.5), 1), ("snare", (1, 3), 0.8), ("hat", np.arange(0, 4, 0.5), 0.3)),
    "four on the floor": (("kick", (0, 1, 2, 3), 1), ("open hat", (0.5, 1.5, 2.5, 3.5), 0.3), ("clap", (1, 3), 0.6)),
    "techno": (("kick", (0, 1, 2, 3), 1), ("hat", np.arange(0, 4, 0.25), 0.2), ("open hat", (0.5, 1.5, 2.5, 3.5), 0.3)),
    "rock": (("kick", (0, 1.5, 2), 1), ("snare", (1, 3), 0.9), ("hat", np.arange(0, 4, 0.5), 0.35)),
    "boom bap": (("kick", (0, 1.75, 2.5), 1), ("snare", (1, 3), 0.7), ("hat", np.arange(0, 4, 0.5), 0.25)),
    "one drop": (("kick", (2,), 1), ("snare", (2,), 0.5), ("hat", np.arange(0, 4, 0.5), 0.3)),
    "half time": (("kick", (0,), 1), ("snare", (2,), 0.8), ("hat", (0, 1, 2, 3), 0.3)),
    "swing": (("kick", (0, 2), 0.6), ("ride", (0, 1, 1.5, 2, 3, 3.5), 0.4), ("snare", (1, 3), 0.25)),
    "jazz waltz": (("kick", (0,), 0.8), ("ride", (0, 1, 1.5, 2), 0.4), ("snare", (1, 2), 0.25)),
    "waltz": (("kick", (0,), 1), ("snare", (1, 2), 0.4), ("hat", (0, 1, 2), 0.3)),
}
# what a genre is made of; None among the choices means that the part may be missing
GENRES = {
    "80s pop": {
        "bpm": (100, 132), "drums": ("backbeat", "four on the floor"), "bass": ("synth bass",),
        "chords": (("pad", "held"), ("saw", "stabs")), "lead": ("saw", "square", "bell", None),
        "tone": ("neutral", "bright"),
    },
    "rock": {
        "bpm": (100, 168), "drums": ("rock", "backbeat"), "bass": ("synth bass", "upright bass"),
        "chords": (("saw", "beats"), ("organ", "held")), "lead": ("saw", "organ", None), "tone": ("neutral", "bright"),
    },
    "techno": {
        "bpm": (122, 150), "mode": ("minor",), "drums": ("techno", "four on the floor"), "bass": ("synth bass",),
        "chords": (("saw", "stabs"), ("pad", "held"), None), "lead": ("pluck", "square", None),
        "tone": ("dark", "bright"),
    },
    "house": {
        "bpm": (116, 130), "drums": ("four on the floor",), "bass": ("synth bass", "sub bass"),
        "chords": (("organ", "stabs"), ("piano", "stabs")), "lead": ("pluck", "flute", None),
        "tone": ("neutral", "bright"),
    },
    "disco": {
        "bpm": (108, 130), "drums": ("four on the floor",), "bass": ("synth bass",),
        "chords": (("piano", "stabs"), ("pad", "held")), "lead": ("saw", "flute", None), "tone": ("bright",),
    },
    "lo-fi hip hop": {
        "bpm": (66, 94), "drums": ("boom bap", "half time"), "bass": ("upright bass", "sub bass"), "swing": 0.16,
        "chords": (("piano", "held"), ("pluck", "beats")), "lead": ("piano", "flute", "bell", None), "tone": ("dark",),
    },
    "jazz": {
        "bpm": (96, 176), "drums": ("swing",), "bass": ("upright bass",), "swing": 0.16,
        "chords": (("piano", "stabs"), ("organ", "stabs")), "lead": ("flute", "piano", "organ"), "tone": ("neutral",),
    },
    "jazz waltz": {
        "bpm": (90, 176), "drums": ("jazz waltz",), "bass": ("upright bass",), "swing": 0.16, "meter": 3,
        "chords": (("piano", "oom-pah"),), "lead": ("flute", "piano", None), "tone": ("neutral", "dark"),
    },
    "waltz": {
        "bpm": (84, 180), "drums": ("waltz", None), "bass": ("upright bass",), "meter": 3,
        "chords": (("piano", "oom-pah"), ("organ", "oom-pah")), "lead": ("flute", "bell", "piano"),
        "tone": ("neutral",),
    },
    "ambient": {
        "bpm": (60, 84), "drums": (None,), "bass": ("sub bass", None), "chords": (("pad", "held"),),
        "lead": ("bell", "flute", None), "tone": ("dark", "neutral"),
    },
    "chiptune": {
        "bpm": (112, 180), "drums": ("backbeat", "rock"), "bass": ("square",),
        "chords": (("square", "arpeggio"), None), "lead": ("square",), "tone": ("bright",),
    },
    "ballad": {
        "bpm": (60, 84), "drums": ("half time", "backbeat", None), "bass": ("upright bass", "sub bass"),
        "chords": (("piano", "beats"), ("piano", "arpeggio")), "lead": ("flute", "piano", None),
        "tone": ("neutral", "dark"),
    },
    "folk": {
        "bpm": (76, 144), "drums": (None, "half time"), "bass": ("upright bass",), "chords": (("pluck", "arpeggio"),),
        "lead": ("flute", "pluck", None), "tone": ("neutral", "bright"),
    },
    "reggae": {
        "bpm": (64, 96), "drums": ("one drop",), "bass": ("sub bass",), "chords": (("organ", "stabs"),),
        "lead": ("organ", "flute", None), "tone": ("neutral", "dark"),
    },
}  # fmt: skip
MELODIES = {  # onsets of a bar in beats, the last entry is its end
    4: ((0, 1, 2, 3, 4), (0, 0.5, 1, 2, 2.5, 3, 4), (0, 1.5, 2, 3, 4), (0, 2, 3, 4), (0.5, 1, 1.5, 2.5, 3, 3.5, 4)),
    3: ((0, 1, 2, 3), (0, 2, 3), (0, 1, 1.5, 2, 3), (0, 0.5, 1, 2, 3)),
}


@dataclass(frozen=True)
class Song:
    """What a song is; `render` turns it into sound, `captions` into words."""

    seed: int
    genre: str
    bpm: int
    meter: int  # beats in a bar
    key: int  # semitones above C
    mode: str
    seconds: float
    tone: str
    swing: float
    drums: str | None
    bass: str | None
    chords: tuple | None  # (timbre, style)
    lead: str | None
    kit: int


def draw_song(seed):
    """The song of a seed."""
    rng = np.random.default_rng([seed, 1])

    def pick(options):
        return options[rng.integers(len(options))]

    genre = pick(list(GENRES))
    plan = GENRES[genre]
    low, high = plan["bpm"] if rng.random() < 0.5 else (60, 180)  # any genre at any tempo, so that words decide
    bpm = rng.uniform(low, high)
    bpm = int(round(bpm / 5) * 5) if rng.random() < 0.6 else int(round(bpm))
    meter = plan.get("meter", 4)
    drums = pick(plan["drums"])
    if rng.random() < 0.25:  # the presence of drums must not follow from the genre either
        drums = None if drums else pick([name for name in PATTERNS if name.endswith("waltz") == (meter == 3)])
    return Song(
        seed=seed,
        genre=genre,
        bpm=bpm,
        meter=meter,
        key=int(rng.integers(12)),
        mode=pick(plan.get("mode", ("major", "minor"))),
        seconds=float(rng.uniform(10.5, 16) if rng.random() < 0.9 else rng.uniform(8, 10.5)),
        tone=pick(plan["tone"]) if rng.random() < 0.7 else pick(("dark", "bright")),
        swing=plan.get("swing", 0.0),
        drums=drums,
        bass=pick(plan["bass"]),
        chords=pick(plan["chords"]) if drums or genre != "techno" else ("saw", "stabs"),
        lead=pick(plan["lead"]),
        kit=int(rng.integers(3)),
    )


class Mixer:
    """Adds notes and hits into a mono buffer."""

    def __init__(self, song):
        self.beat = 60 / song.bpm
        self.swing = song.swing
        self.buffer = np.zeros(int(song.seconds * RATE), np.float32)

    def place(self, beats):
        """First sample of a position in beats; swing delays what lies off the beat."""
        late = self.swing if beats % 1 == 0.5 else 0.0
        return int((beats + late) * self.beat * RATE)

    def add(self, wave, beats, loudness):
        start = self.place(beats)
        wave = wave[: max(len(self.buffer) - start, 0)]
        self.buffer[start : start + len(wave)] += np.float32(loudness) * wave

    def add_note(self, timbre, midi, beats, length, loudness, tone):
        samples = int(min(length * self.beat, LONGEST) * RATE)
        wave = note(timbre, int(midi), tone)[:samples].copy()
        release = min(len(wave), int((0.12 if timbre == "pad" else 0.025) * RATE))
        wave[len(wave) - release :] *= np.linspace(1, 0, release, dtype=np.float32)
        self.add(wave, beats, loudness)


def _pitch(song, degree, octave):
    """MIDI note of a scale degree (7 is an octave up)."""
    scale = MODES[song.mode]
    return 12 * (octave + 1) + song.key + 12 * (degree // 7) + scale[degree % 7]


def _voicing(song, root):
    """The triad on a degree, each note moved into the octave around middle C."""
    return sorted(54 + (_pitch(song, root + step, 4) - 54) % 12 for step in (0, 2, 4))


def _add_drums(mixer, song, bars, rng):
    for bar in range(bars):
        start = bar * song.meter
        for name, beats, loudness in PATTERNS[song.drums]:
            for beat in beats:
                mixer.add(drum(name, song.kit), start + float(beat), 0.85 * loudness * rng.uniform(0.9, 1.05))
        if bar % 4 == 3 and rng.random() < 0.5:  # a small fill
            for beat in (song.meter - 0.5, song.meter - 0.25):
                mixer.add(drum("snare", song.kit), start + beat, 0.5)


def _add_bass(mixer, song, roots, rng):
    style = rng.integers(3)
    for bar, root in enumerate(roots):
        start, low = bar * song.meter, _pitch(song, root, 2)
        low = low - 12 if low > 46 else low
        if song.genre in ("disco", "techno", "80s pop", "chiptune") and style != 2:
            hits = [(i / 2, low + 12 * (i % 2), 0.45) for i in range(2 * song.meter)]
        elif song.genre in ("jazz", "jazz waltz"):
            hits = [(i, _pitch(song, root + (0, 2, 4, 5)[i], 2), 0.9) for i in range(song.meter)]
        elif song.genre in ("ambient", "ballad", "waltz"):
            hits = [(0, low, song.meter * 0.95)]
        elif style == 0:
            hits = [(i, low, 0.9) for i in range(song.meter)]
        else:
            hits = [(0, low, 1.4), (1.5, low, 0.45), (2, low + 7, 0.9)][: 3 if song.meter == 4 else 2]
        for beat, midi, length in hits:
            mixer.add_note(
                song.bass, midi, start + beat, length, 0.42, "neutral" if song.tone == "bright" else song.tone
            )


def _add_chords(mixer, song, roots):
    timbre, style = song.chords
    for bar, root in enumerate(roots):
        start, notes = bar * song.meter, _voicing(song, root)
        if style == "held":
            hits = [(0, song.meter, notes)]
        elif style == "beats":
            hits = [(i, 0.9, notes) for i in range(song.meter)]
        elif style == "stabs":
            hits = [(i + 0.5, 0.35, notes) for i in range(song.meter)]
        elif style == "oom-pah":
            hits = [(i, 0.5, notes) for i in range(1, song.meter)]
        else:
            around = [*notes, notes[1] + 12]
            hits = [(i / 2, 0.6, [around[(0, 1, 2, 3, 2, 1)[i % 6]]]) for i in range(2 * song.meter)]
        for beat, length, pitches in hits:
            for midi in pitches:
                mixer.add_note(timbre, midi, start + beat, length, 0.3 if len(pitches) == 1 else 0.17, song.tone)


def _add_lead(mixer, song, roots, rng):
    """A motif of two bars, repeated with its end changed: A B A C."""
    rhythms = [MELODIES[song.meter][rng.integers(len(MELODIES[song.meter]))] for _ in range(2)]
    moves = [[int(rng.choice([-2, -1, -1, 0, 1, 1, 2])) for _ in range(8)] for _ in range(3)]
    for bar, root in enumerate(roots):
        rhythm, steps = rhythms[bar % 2], moves[2 if bar % 4 == 3 else bar % 2]
        degree = root + 7 + (0, 2, 4)[(bar // 2) % 3]
        degree = degree - 7 if degree > 12 else degree
        for i in range(len(rhythm) - 1):
            degree = degree if i == 0 else min(max(degree + steps[i], 3), 15)
            length = 0.92 * (rhythm[i + 1] - rhythm[i])
            mixer.add_note(song.lead, _pitch(song, degree, 4), bar * song.meter + rhythm[i], length, 0.33, song.tone)


def render(song):
    """The sound of a song: float32, mono, 32 kHz, peak below 1, without direct current."""
    rng = np.random.default_rng([song.seed, 2])
    mixer = Mixer(song)
    bars = int(np.ceil(song.seconds / mixer.beat / song.meter))
    progression = PROGRESSIONS[song.mode][rng.integers(len(PROGRESSIONS[song.mode]))]
    roots = [progression[bar % len(progression)] for bar in range(bars)]
    if song.bass:
        _add_bass(mixer, song, roots, rng)
    if song.chords:
        _add_chords(mixer, song, roots)
    if song.lead:
        _add_lead(mixer, song, roots, rng)
    if song.tone == "dark":
        sections = signal.butter(1, 3000, "lowpass", fs=RATE, output="sos")
        mixer.buffer = signal.sosfilt(sections, mixer.buffer).astype(np.float32)
    if song.drums:
        _add_drums(mixer, song, bars, rng)
    x = mixer.buffer
    x = x - x.mean()
    x *= 0.13 / max(float(np.sqrt(np.mean(x * x))), 1e-4)
    x = np.tanh(x)  # a soft limiter; music at this loudness rarely reaches it
    fade = int(0.03 * RATE)
    x[-fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return x
