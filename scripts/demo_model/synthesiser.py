"""Songs for training: drawn from a seed, composed for the four players of `instruments`, and mixed to a waveform.

    song = draw_song(seed)          # what it is: style, tempo, key, instruments
    codes = compose(song, frames)   # what each player does in each frame, [4, frames]
    audio = mix(codes)              # float32 mono at 32 kHz

The same seed gives the same song. A beat has a whole number of frames, so that repeated bars are repeated codes. Every
song starts on the first beat of a bar.
"""

from dataclasses import dataclass

import numpy as np
from instruments import BASS_NOTES, LEAD_NOTES, PLAYERS, RATE, count_silence, mix, player

FRAME_RATE = 50
BEATS = (18, 20, 22, 24, 26, 28, 32, 36, 40, 44, 50)  # frames; 3000 / them is the bpm: 167 to 60
KEYS = {
    "C": (0, "major"),
    "G": (7, "major"),
    "F": (5, "major"),
    "Am": (9, "minor"),
    "Em": (4, "minor"),
    "Dm": (2, "minor"),
}
MODES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
PROGRESSIONS = {  # scale degrees, one chord a bar; diminished triads are left out
    "major": (
        (0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 4, 4), (1, 4, 0, 0), (0, 3, 0, 4), (0, 2, 3, 4), (5, 3, 0, 4), (0, 1, 3, 4),
    ),
    "minor": ((0, 5, 2, 6), (0, 3, 4, 0), (0, 6, 5, 6), (0, 0, 3, 4), (0, 5, 3, 6), (0, 2, 6, 3)),
}  # fmt: skip
# hits as (drums that sound together, beats in the bar); the later line wins where two ask for the same moment
PATTERNS = {
    "backbeat": ((("hat",), (0.5, 1.5, 3.5)), (("kick", "hat"), (0, 2, 2.5)), (("snare", "hat"), (1, 3))),
    "four on the floor": ((("open hat",), (0.5, 1.5, 2.5, 3.5)), (("kick",), (0, 2)), (("kick", "clap"), (1, 3))),
    "techno": ((("hat",), (0.5, 1.5, 2.5)), (("open hat",), (3.5,)), (("kick",), (0, 1, 2)), (("kick", "clap"), (3,))),
    "rock": ((("hat",), (0.5, 2.5, 3.5)), (("kick", "hat"), (0, 1.5, 2)), (("snare", "hat"), (1, 3))),
    "driving": (
        (("hat",), (0.5, 1.5, 2.5)), (("kick", "hat"), (0, 2)), (("snare", "hat"), (1, 3)), (("kick",), (3.5,)),
    ),
    "boom bap": (
        (("hat",), (0.5, 1.5, 3.5)), (("kick", "hat"), (0, 2.5)), (("hat",), (2,)), (("snare", "hat"), (1, 3)),
    ),
    "one drop": ((("hat",), (0, 0.5, 1, 1.5, 2.5, 3, 3.5)), (("kick", "snare", "hat"), (2,))),
    "half time": ((("kick", "hat"), (0,)), (("hat",), (1, 3)), (("snare", "hat"), (2,))),
    "swing": ((("kick", "ride"), (0,)), (("ride",), (1.5, 2, 3.5)), (("snare", "ride"), (1, 3))),
    "waltz": ((("kick",), (0,)), (("snare", "hat"), (1, 2))),
    "jazz waltz": ((("kick", "ride"), (0,)), (("ride",), (1, 1.5)), (("snare", "ride"), (2,))),
}  # fmt: skip
FILLS = {4: ((("low tom",), 3.5), (("high tom",), 3.0)), 3: ((("high tom",), 2.0), (("low tom",), 2.5))}
DARK, BRIGHT = "dark", "bright"
# What a style is made of. Chords are (instrument, manner); None among the choices means that the player may be silent.
STYLES = {
    "80s pop": {
        "beats": (24, 26, 28), "kit": "electronic", "drums": ("backbeat", "four on the floor"),
        "bass": {BRIGHT: (("synth bass", "octaves"), ("synth bass", "eighths")), DARK: (("synth bass", "eighths"),)},
        "chords": {BRIGHT: (("synth chords", "offbeats"),), DARK: (("synth pad", "held"),)},
        "lead": {BRIGHT: ("synth lead", "bells"), DARK: ("flute", None)},
    },
    "rock": {
        "beats": (18, 20, 22, 24, 26, 28), "kit": "acoustic", "drums": ("rock", "driving"),
        "bass": {BRIGHT: (("plucked bass", "eighths"),), DARK: (("plucked bass", "eighths"),)},
        "chords": {BRIGHT: (("guitar", "eighths"), ("guitar", "beats")), DARK: (("guitar", "beats"),)},
        "lead": {BRIGHT: ("synth lead", None), DARK: (None,)},
    },
    "techno": {
        "beats": (20, 22, 24), "kit": "electronic", "mode": ("minor",), "drums": ("techno",),
        "bass": {BRIGHT: (("synth bass", "offbeats"),), DARK: (("synth bass", "offbeats"), ("deep bass", "offbeats"))},
        "chords": {BRIGHT: (("synth chords", "syncopated"),), DARK: (("synth pad", "held"), None)},
        "lead": {BRIGHT: ("square lead", "synth lead"), DARK: (None,)},
    },
    "lo-fi hip hop": {
        "beats": (32, 36, 40), "kit": "soft", "drums": ("boom bap", "half time"), "swing": True,
        "bass": {DARK: (("deep bass", "long"), ("plucked bass", "root and fifth"))},
        "chords": {DARK: (("electric piano", "two"), ("electric piano", "syncopated"))},
        "lead": {DARK: ("flute", "bells", None)},
    },
    "reggae": {
        "beats": (36, 40, 44), "kit": "acoustic", "drums": ("one drop",),
        "bass": {BRIGHT: (("deep bass", "riddim"),), DARK: (("deep bass", "riddim"),)},
        "chords": {BRIGHT: (("guitar", "offbeats"),), DARK: (("electric piano", "offbeats"),)},
        "lead": {BRIGHT: ("synth lead", None), DARK: ("flute", None)},
    },
    "jazz": {
        "beats": (18, 20, 22, 24, 26, 28), "kit": "soft", "drums": ("swing",), "swing": True,
        "bass": {BRIGHT: (("plucked bass", "walking"),), DARK: (("plucked bass", "walking"),)},
        "chords": {BRIGHT: (("piano", "charleston"),), DARK: (("electric piano", "charleston"),)},
        "lead": {BRIGHT: ("bells",), DARK: ("flute", None)},
    },
    "waltz": {
        "beats": (18, 20, 22, 24, 26, 28), "kit": "soft", "meter": 3, "drums": ("waltz", None),
        "bass": {BRIGHT: (("plucked bass", "ones"),), DARK: (("plucked bass", "ones"),)},
        "chords": {BRIGHT: (("piano", "oom-pah"),), DARK: (("electric piano", "oom-pah"),)},
        "lead": {BRIGHT: ("bells", "flute"), DARK: ("flute",)},
    },
    "ambient": {
        "beats": (40, 44, 50), "kit": "soft", "drums": (None,),
        "bass": {BRIGHT: (None,), DARK: (("deep bass", "long"), None)},
        "chords": {BRIGHT: (("synth pad", "held"),), DARK: (("synth pad", "held"),)},
        "lead": {BRIGHT: ("bells",), DARK: ("flute", None)},
    },
    "chiptune": {
        "beats": (18, 20, 22, 24), "kit": "electronic", "drums": ("backbeat", "driving"),
        "bass": {BRIGHT: (("synth bass", "octaves"), ("synth bass", "eighths"))},
        "chords": {BRIGHT: (("arpeggio", "held"),)},
        "lead": {BRIGHT: ("square lead",)},
    },
    "ballad": {
        "beats": (40, 44, 50), "kit": "acoustic", "drums": ("half time", None, None),
        "bass": {BRIGHT: (("plucked bass", "long"), None), DARK: (("deep bass", "long"), None)},
        "chords": {BRIGHT: (("piano", "eighths"), ("piano", "beats")), DARK: (("electric piano", "eighths"),)},
        "lead": {BRIGHT: ("bells", None), DARK: ("flute", None)},
    },
}  # fmt: skip
MELODIES = {  # onsets of a bar in beats
    4: (
        (0, 1, 2, 3), (0, 0.5, 1, 2, 2.5, 3), (0, 1.5, 2, 3), (0, 1, 1.5, 2), (0.5, 1, 1.5, 2.5, 3, 3.5),
        (0, 0.5, 1.5, 2.5),
    ),
    3: ((0, 1, 2), (0, 2), (0, 1, 1.5, 2), (0, 0.5, 1, 2)),
}  # fmt: skip
MANNERS = {  # onsets of chords in beats, and the longest a chord is held
    "eighths": (np.arange(0, 4, 0.5), 0.5), "beats": (np.arange(4), 0.9), "offbeats": (np.arange(0.5, 4), 0.4),
    "syncopated": ((0, 1.5, 3), 0.7), "two": ((0, 2), 1.2), "charleston": ((0, 1.5), 0.5), "oom-pah": ((1, 2), 0.6),
}  # fmt: skip


@dataclass(frozen=True)
class Song:
    """What a song is; `compose` turns it into codes, `captions` into words."""

    seed: int
    style: str
    beat: int  # frames
    key: str
    tone: str
    drums: str | None
    kit: str
    bass: tuple | None  # (instrument, manner)
    chords: tuple | None  # (instrument, manner)
    lead: str | None

    @property
    def bpm(self):
        """Beats a minute."""
        return 60 * FRAME_RATE / self.beat

    @property
    def meter(self):
        """Beats in a bar."""
        return STYLES[self.style].get("meter", 4)

    @property
    def mode(self):
        """major or minor."""
        return KEYS[self.key][1]


def draw_song(seed):
    """The song of a seed."""
    rng = np.random.default_rng([seed, 1])

    def pick(options):
        return options[rng.integers(len(options))]

    style = pick(list(STYLES))
    plan = STYLES[style]
    tone = pick(list(plan["chords"]))
    drums = pick(plan["drums"])
    if rng.random() < 0.22:  # whether there are drums must not follow from the style alone
        drums = None if drums else {"waltz": "waltz", "ambient": "half time", "ballad": "half time"}[style]
    chords = pick(plan["chords"][tone])
    modes = plan.get("mode", ("major", "minor"))
    return Song(
        seed=seed,
        style=style,
        beat=pick(plan["beats"]),
        key=pick([key for key, (_, mode) in KEYS.items() if mode in modes]),
        tone=tone,
        drums=drums,
        kit=plan["kit"],
        bass=pick(plan["bass"][tone]),
        chords=chords or (None if drums else ("synth pad", "held")),
        lead=pick(plan["lead"][tone]),
    )


class Score:
    """The states of the four players, filled note by note."""

    def __init__(self, song, frames):
        self.beat, self.swing = song.beat, STYLES[song.style].get("swing", False)
        self.codes = np.zeros((len(PLAYERS), frames), np.int16)

    def place(self, beats):
        """The frame of a position in beats; swing delays what lies between the beats."""
        late = 1 / 6 if self.swing and beats % 1 == 0.5 else 0.0
        return int(np.floor((beats + late) * self.beat + 0.5))

    def add(self, name, key, beats, length=99.0):
        """A player plays a sound from a position, for at most `length` beats."""
        start, row = self.place(beats), self.codes[PLAYERS.index(name)]
        if start < len(row):
            states = player(name).sounds[key].states(max(self.place(beats + length) - start, 1))[: len(row) - start]
            row[start:] = 0
            row[start : start + len(states)] = states


def _pitch(song, degree):
    """Semitones above C of a scale degree; 7 is an octave up."""
    tonic, mode = KEYS[song.key]
    return tonic + 12 * (degree // 7) + MODES[mode][degree % 7]


def _chord(song, degree):
    root, third = _pitch(song, degree), _pitch(song, degree + 2)
    return root % 12, third - root


def _nearest(notes, pitch_class, around):
    """The note of a pitch class that lies nearest to another note."""
    return min((note for note in notes if note % 12 == pitch_class % 12), key=lambda note: abs(note - around))


def _play_drums(score, song, bars, rng):
    fill = rng.random() < 0.6
    for bar in range(bars):
        hits = {}
        for names, beats in PATTERNS[song.drums]:
            hits.update({float(beat): names for beat in beats})
        if fill and bar % 4 == 3:
            hits.update({beat: names for names, beat in FILLS[song.meter]})
        for beat in sorted(hits):
            score.add("drums", (song.kit, hits[beat]), bar * song.meter + beat)


def _bass_line(manner, song, degree, following):
    """What the bass does in a bar: (beat, pitch class, octave above the lowest, length in beats)."""
    root, fifth = _pitch(song, degree), _pitch(song, degree + 4)
    fifth = fifth if fifth % 12 in {note % 12 for note in BASS_NOTES} and (fifth - root) == 7 else root
    count = song.meter
    if manner == "octaves":
        return [(i / 2, root, i % 2, 0.5) for i in range(2 * count)]
    if manner == "eighths":
        return [(i / 2, root, 0, 0.5) for i in range(2 * count)]
    if manner == "offbeats":
        return [(i + 0.5, root, 0, 0.5) for i in range(count)]
    if manner == "root and fifth":
        return [(0, root, 0, 1.4), (1.5, root, 0, 0.5), (2, fifth, 0, 1.0)]
    if manner == "riddim":
        return [(0, root, 0, 0.9), (1.5, root, 0, 0.5), (2, fifth, 0, 0.9), (3, root, 1, 0.9)]
    if manner == "walking":
        third, step = _pitch(song, degree + 2), _pitch(song, following + (1 if following < degree else -1))
        return [(0, root, 0, 0.95), (1, third, 0, 0.95), (2, fifth, 0, 0.95), (3, step, 0, 0.95)]
    if manner == "ones":
        return [(0, root, 0, 1.0)]
    return [(0, root, 0, 2.0), (count // 2, root, 0, 2.0)]  # long


def _play_bass(score, song, degrees):
    instrument, manner = song.bass
    for bar, degree in enumerate(degrees):
        following = degrees[(bar + 1) % len(degrees)]
        for beat, pitch, octave, length in _bass_line(manner, song, degree, following):
            low = next((note for note in BASS_NOTES if note % 12 == pitch % 12), None)
            if low is not None:
                score.add("bass", (instrument, low + 12 * octave), bar * song.meter + beat, length)


def _play_chords(score, song, degrees):
    instrument, manner = song.chords
    for bar, degree in enumerate(degrees):
        sound, start = (instrument, _chord(song, degree)), bar * song.meter
        if manner == "held":
            if bar == 0 or degree != degrees[bar - 1] or bar % 4 == 0:
                score.add("chords", sound, start)
            continue
        onsets, length = MANNERS[manner]
        for beat in onsets:
            if beat < song.meter:
                score.add("chords", sound, start + float(beat), length)


def _play_lead(score, song, degrees, rng):
    """A motif of two bars, repeated with its end changed: A B A C; long notes end by themselves."""
    choices, scale = MELODIES[song.meter], {_pitch(song, degree) % 12 for degree in range(7)}
    notes = [note for note in LEAD_NOTES if note % 12 in scale]
    rhythms = [choices[rng.integers(len(choices))] for _ in range(2)]
    rhythms = [rhythm[::2] if STYLES[song.style]["beats"][0] > 36 and len(rhythm) > 4 else rhythm for rhythm in rhythms]
    moves = [[int(rng.choice([-2, -1, -1, 0, 1, 1, 2])) for _ in range(8)] for _ in range(3)]
    heights = [int(rng.choice([0, 2, 4])) for _ in range(4)]
    for bar, degree in enumerate(degrees):
        rhythm, steps = rhythms[bar % 2], moves[2 if bar % 4 == 3 else bar % 2]
        note = _nearest(notes, _pitch(song, degree + heights[bar % 4]), 75)
        for i, beat in enumerate(rhythm):
            place = notes.index(note)
            note = notes[min(max(place + (steps[i] if i else 0), 0), len(notes) - 1)]
            end = rhythm[i + 1] if i + 1 < len(rhythm) else song.meter + rhythms[(bar + 1) % 2][0]
            score.add("lead", (song.lead, note), bar * song.meter + beat, 0.92 * (end - beat))


def compose(song, frames):
    """What the players do: [4, frames] int16, the codes of the demo's codec."""
    rng = np.random.default_rng([song.seed, 2])
    score = Score(song, frames)
    bars = -(-frames // (song.beat * song.meter))
    options = PROGRESSIONS[song.mode]
    first, second = (options[rng.integers(len(options))] for _ in range(2))
    degrees = [(second if bar % 16 >= 8 else first)[bar % 4] for bar in range(bars)]
    if song.drums:
        _play_drums(score, song, bars, rng)
    if song.chords:
        _play_chords(score, song, degrees)
    if song.bass:
        _play_bass(score, song, degrees)
    if song.lead:
        _play_lead(score, song, degrees, rng)
    return count_silence(score.codes)


def render(song, seconds=12.0):
    """The sound of a song: float32, mono, 32 kHz, peak below 1."""
    return mix(compose(song, int(seconds * FRAME_RATE)))


__all__ = ["RATE", "Song", "compose", "draw_song", "mix", "render"]
