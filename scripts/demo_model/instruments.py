"""Instruments of the demo's band: every sound it can make, cut into frames of a fiftieth of a second.

The band has four players: drums, chords, bass, lead. In a frame each of them is silent or some frames into one of its
sounds, so "sound and age" is all there is to say of a player, and a number for each such pair is its *state*. There are
fewer than 1,024 states a player: they are the codes of the demo's codec, a codebook for each player. What is left of
the 1,024 counts how long a player has been silent, so that the next beat can be foretold from where one is.

    codes [4, frames] -> `mix` -> float32 mono at 32 kHz

Nothing here is random: the same state is the same 640 samples in every song, which is what makes codes foretellable.
"""

import functools
from dataclasses import dataclass

import numpy as np
from scipy import signal

RATE = 32000
FRAME = 640  # samples
STATES = 1024  # of each player, silence (0) included
COUNTED = 42  # frames of silence that have a state of their own
FADE = 160  # samples over which a sound ends when another cuts it
PLAYERS = ("drums", "chords", "bass", "lead")

CLASSES = (0, 2, 4, 5, 6, 7, 9, 10, 11)  # pitch classes of the scales with no accidental, one sharp, one flat
BASS_NOTES = tuple(midi for midi in range(36, 60) if midi % 12 in CLASSES)
LEAD_NOTES = tuple(midi for midi in range(67, 85) if midi % 12 in CLASSES)
CHORDS = ((0, 4), (2, 3), (2, 4), (4, 3), (5, 4), (7, 3), (7, 4), (9, 3), (10, 4), (11, 3))  # root, size of its third

# frames of each sound; a pair is an attack and a loop that follows it for as long as the note is held
LENGTHS = {
    "piano": 18, "electric piano": 22, "synth chords": 12, "synth pad": (6, 16), "guitar": 18, "arpeggio": (0, 6),
    "synth bass": 14, "plucked bass": 18, "deep bass": 22,
    "flute": 20, "bells": 22, "square lead": 14, "synth lead": 14,
}  # fmt: skip
HITS = {"kick": 9, "snare": 9, "hat": 3, "open hat": 8, "clap": 8, "ride": 12, "low tom": 10, "high tom": 10}
KITS = ("acoustic", "electronic", "soft")
COMBINATIONS = (
    ("kick",), ("snare",), ("hat",), ("open hat",), ("clap",), ("ride",), ("low tom",), ("high tom",),
    ("kick", "hat"), ("snare", "hat"), ("kick", "clap"), ("kick", "snare"), ("kick", "ride"), ("snare", "ride"),
    ("kick", "snare", "hat"), ("kick", "open hat"), ("clap", "hat"), ("kick", "clap", "hat"), ("kick", "low tom"),
)  # fmt: skip
LOUDNESS = {  # root mean square of the first fifth of a second
    "piano": 0.075, "electric piano": 0.08, "synth chords": 0.075, "synth pad": 0.055, "guitar": 0.075,
    "arpeggio": 0.05, "synth bass": 0.085, "plucked bass": 0.09, "deep bass": 0.085, "flute": 0.055, "bells": 0.06,
    "square lead": 0.05, "synth lead": 0.055,
}  # fmt: skip


def frequency(midi):
    """Hertz of a MIDI note number."""
    return 440.0 * 2 ** ((midi - 69) / 12)


def voicing(chord):
    """MIDI notes of a triad, each in the octave above 55, so that chords follow each other by small steps."""
    root, third = chord
    return sorted(55 + (root + step - 55) % 12 for step in (0, third, 7))


def _time(frames):
    return np.arange(frames * FRAME) / RATE


def _partials(hertz, t, amplitudes, decays, stretch=0.0, detune=(0.0,)):
    """Sum of harmonics: amplitude and decay per second of each; `stretch` as of stiff strings."""
    wave = np.zeros_like(t)
    for k, (amplitude, decay) in enumerate(zip(amplitudes, decays, strict=True), 1):
        for cents in detune:
            f = hertz * k * np.sqrt(1 + stretch * k * k) * 2 ** (cents / 1200)
            if f < 0.42 * RATE:
                wave += amplitude / len(detune) * np.exp(-decay * t) * np.sin(2 * np.pi * f * t + 0.7 * k * k + cents)
    return wave


def _string(hertz, t, slope, decay, growth, count=20, stretch=1e-4):
    k = np.arange(1, count + 1)
    return _partials(hertz, t, k**-slope * (0.3 + np.abs(np.sin(0.9 * k))), decay + growth * k, stretch)


def _electric_piano(hertz, t):
    bell = np.exp(-9 * t) * np.sin(2 * np.pi * 4 * hertz * t)
    return np.exp(-1.6 * t) * np.sin(2 * np.pi * hertz * t + 0.8 * np.exp(-3 * t) * np.sin(2 * np.pi * hertz * t)
                                     + 0.25 * bell)  # fmt: skip


def _saw(hertz, t, cutoff, closing, detune=(-7.0, 7.0)):
    """Harmonics under a low-pass whose corner falls from `cutoff` hertz at `closing` per second."""
    wave = np.zeros_like(t)
    corner = 250 + cutoff * np.exp(-closing * t)
    for k in range(1, 28):
        for cents in detune:
            f = hertz * k * 2 ** (cents / 1200)
            if f < 0.42 * RATE:
                wave += np.sin(2 * np.pi * f * t + 0.3 * k) / k / np.sqrt(1 + (hertz * k / corner) ** 4)
    return wave


def _square(hertz, t):
    return sum(np.sin(2 * np.pi * hertz * k * t) / k for k in range(1, 24, 2) if hertz * k < 0.42 * RATE)


def _pad(hertz, t, loop):
    """Partials are multiples of the loop's rate, so the sound repeats exactly; two lines a partial make it swell."""
    step, wave = RATE / FRAME / loop, np.zeros_like(t)
    for k in range(1, 7):
        near = round(hertz * k / step)
        for offset, amplitude in ((0, 1.0), (1, 0.4)):
            wave += amplitude * k**-1.6 * np.sin(2 * np.pi * (near + offset) * step * t + 1.3 * k + 2.1 * offset)
    return wave


def _flute(hertz, t):
    vibrato = 0.004 * np.minimum(t / 0.15, 1) * np.sin(2 * np.pi * 5.5 * t) / 5.5
    phase = 2 * np.pi * hertz * (t + vibrato)
    return np.sin(phase) + 0.2 * np.sin(2 * phase) + 0.06 * np.sin(3 * phase)


def _bells(hertz, t):
    ratios, amplitudes, decays = (1, 2.76, 5.4, 8.9), (1, 0.5, 0.28, 0.1), (1.5, 3, 6, 12)
    return sum(a * np.exp(-d * t) * np.sin(2 * np.pi * hertz * r * t)
               for r, a, d in zip(ratios, amplitudes, decays, strict=True) if hertz * r < 0.42 * RATE)  # fmt: skip


def _tone(name, hertz, t):
    """One note of an instrument, before its attack and end are shaped."""
    if name == "piano":
        return _string(hertz, t, 1.1, 1.2, 0.5, stretch=2e-4)
    if name == "guitar":
        return _string(hertz, t, 0.8, 2.0, 0.75)
    if name == "electric piano":
        return _electric_piano(hertz, t)
    if name == "synth chords":
        return _saw(hertz, t, 7000, 7)
    if name == "synth lead":
        return _saw(hertz, t, 6000, 2, detune=(-5.0, 5.0))
    if name == "synth bass":
        return _saw(hertz, t, 1500, 9, detune=(0.0,))
    if name == "plucked bass":
        return _string(hertz, t, 1.3, 2.2, 0.8, count=12)
    if name == "deep bass":
        return _partials(hertz, t, (1, 0.25, 0.06), (0.8, 1.5, 3))
    if name == "flute":
        return _flute(hertz, t)
    if name == "bells":
        return _bells(hertz, t)
    return _square(hertz, t)


ATTACK = {"flute": 0.045, "synth pad": 0.12, "deep bass": 0.012, "electric piano": 0.004}  # seconds; others 0.002


def _sound(name, notes, lengths):
    """The samples of an instrument playing one or several notes, [frames, FRAME]; a loop ends as it begins."""
    attack, loop = lengths if isinstance(lengths, tuple) else (lengths, 0)
    t = _time(attack + loop)
    if name == "arpeggio":  # one note at a time, two frames each: the sound of old game consoles
        short = _time(2)
        wave = np.concatenate([_square(frequency(midi + 12), short) for midi in notes])
        wave *= np.tile(np.minimum(short / 0.002, 1) * np.minimum((short[-1] - short) / 0.003, 1), len(notes))
    else:
        wave = np.zeros_like(t)
        for place, midi in enumerate(notes):
            late = int(0.009 * RATE * place) if name == "guitar" else 0  # a strum
            tone = _pad(frequency(midi), t, loop) if loop else _tone(name, frequency(midi), t)
            wave[late:] += tone[: len(tone) - late] / np.sqrt(len(notes))
        wave *= np.minimum(t / ATTACK.get(name, 0.002), 1)
        if not loop:
            wave[-FRAME:] *= np.linspace(1, 0, FRAME)
    wave *= LOUDNESS[name] / np.sqrt(np.mean(wave[: 10 * FRAME] ** 2))
    return wave.reshape(-1, FRAME)


def _noise(seconds, low, high, seed):
    white = np.random.default_rng(seed).standard_normal(int(seconds * RATE))
    return signal.sosfilt(signal.butter(2, [low, high], "bandpass", fs=RATE, output="sos"), white)


def _hit(name, kit):
    """The samples of one drum of a kit."""
    number, t = KITS.index(kit), _time(HITS[name])
    seconds = HITS[name] * FRAME / RATE
    if name == "kick":
        low, drop, fade, loud = ((52, 120, 16, 0.5), (46, 190, 12, 0.55), (58, 60, 18, 0.36))[number]
        wave = np.sin(2 * np.pi * np.cumsum(low + drop * np.exp(-t * 38)) / RATE) * np.exp(-fade * t)
        wave += (0.12, 0.08, 0.02)[number] * _noise(seconds, 1500, 6000, number) * np.exp(-220 * t)
    elif name == "snare":
        hertz, fade, loud = ((190, 20, 0.3), (230, 26, 0.3), (170, 22, 0.16))[number]
        wave = 0.5 * np.sin(2 * np.pi * hertz * t) * np.exp(-28 * t)
        wave += _noise(seconds, (1500, 2200, 2500)[number], (9000, 11000, 7000)[number], 10 + number) * np.exp(
            -fade * t
        )
    elif name == "clap":
        bursts = sum(np.exp(-90 * np.maximum(t - d, 0)) * (t >= d) for d in (0.0, 0.011, 0.023))
        wave, loud = _noise(seconds, 900, 5000, 20 + number) * (bursts + 0.4 * np.exp(-18 * t)), 0.24
    elif name in ("low tom", "high tom"):
        hertz, loud = (95 if name == "low tom" else 150), 0.3
        wave = np.sin(2 * np.pi * np.cumsum(hertz * (1 + 0.5 * np.exp(-25 * t))) / RATE) * np.exp(-14 * t)
    else:
        fade, loud = {"hat": (70, 0.14), "open hat": (16, 0.13), "ride": (11, 0.1)}[name]
        loud *= (1.0, 1.0, 0.6)[number]
        wave = _noise(seconds, (7000, 6500, 5500)[number], 14500, 30 + number) * np.exp(-fade * t)
        if name == "ride":
            wave += 0.2 * np.sin(2 * np.pi * 3150 * t) * np.exp(-10 * t)
    wave *= np.minimum(t / 0.001, 1) * np.minimum((seconds - t) / 0.01, 1)
    return loud * wave / np.abs(wave).max()


def _combination(kit, names):
    wave = np.zeros(max(HITS[name] for name in names) * FRAME)
    for name in names:
        hit = _hit(name, kit)
        wave[: len(hit)] += hit
    return wave.reshape(-1, FRAME)


@dataclass(frozen=True)
class Sound:
    """Where a sound's states lie: from `first`, `attack` of them once and then `loop` of them again and again."""

    first: int
    attack: int
    loop: int

    def states(self, frames):
        """The states of the sound held for some frames: int array, shorter where the sound ends by itself."""
        age = np.arange(frames if self.loop else min(frames, self.attack))
        return self.first + np.where(age < self.attack, age, self.attack + (age - self.attack) % max(self.loop, 1))


@dataclass(frozen=True)
class Player:
    """A player's sounds by (instrument, note), and the samples of every state and of what would follow it."""

    sounds: dict
    frames: np.ndarray  # [STATES, FRAME]
    following: np.ndarray  # [STATES]: the state that goes on with the same sound, or the first counted silence
    silences: range  # the states that count the frames since a sound ended; after the last, 0


@functools.cache
def player(name):
    """One of PLAYERS."""
    made = {}
    if name == "drums":
        for kit in KITS:
            made.update({(kit, hits): (_combination(kit, hits), 0) for hits in COMBINATIONS})
    else:
        instruments, notes = {
            "chords": (("piano", "electric piano", "synth chords", "synth pad", "guitar", "arpeggio"), CHORDS),
            "bass": (("synth bass", "plucked bass", "deep bass"), BASS_NOTES),
            "lead": (("flute", "bells", "square lead", "synth lead"), LEAD_NOTES),
        }[name]
        for instrument in instruments:
            lengths = LENGTHS[instrument]
            for note in notes:
                pitches = voicing(note) if name == "chords" else [note]
                loop = lengths[1] if isinstance(lengths, tuple) else 0
                made[instrument, note] = (_sound(instrument, pitches, lengths), loop)
    frames, following = np.zeros((STATES, FRAME), np.float32), np.zeros(STATES, np.int64)
    sounds, first = {}, 1
    for key, (wave, loop) in made.items():
        count = len(wave)
        frames[first : first + count] = wave
        following[first : first + count - 1] = np.arange(first + 1, first + count)
        following[first + count - 1] = first + count - loop if loop else -1
        sounds[key] = Sound(first, count - loop, loop)
        first += count
    silences = range(first, min(first + COUNTED, STATES))
    following[following < 0] = first
    following[silences] = [*silences[1:], 0]
    return Player(sounds, frames, following, silences)


def count_silence(codes):
    """Codes [4, frames] in which each frame of silence after a sound says how long the silence has lasted."""
    counted = codes.copy()
    for name, row in zip(PLAYERS, counted, strict=True):
        silences, place = player(name).silences, np.arange(len(row))
        last = np.maximum.accumulate(np.where(row != 0, place, -1))  # the frame in which something sounded
        counting = (row == 0) & (last >= 0) & (place - last <= len(silences))
        row[counting] = (silences.start - 1 + place - last)[counting]
    return counted


def plain(codes):
    """The inverse, as the codec hears it: silence is 0, however long it has lasted."""
    heard = np.array(codes)
    for place, name in enumerate(PLAYERS):
        row = heard[..., place, :]
        row[np.isin(row, player(name).silences)] = 0
    return heard


def mix(codes, heard=PLAYERS):
    """The sound of states.

    Args:
        codes (numpy.ndarray): [4, frames] of ints, a row for each of PLAYERS.
        heard (Sequence[str]): the players that are not muted.

    Returns:
        numpy.ndarray: [frames * 640] float32. A sound that is cut by another fades within 5 ms.
    """
    codes = np.asarray(codes)
    audio = np.zeros((codes.shape[1], FRAME), np.float32)
    fade = np.linspace(1, 0, FADE, dtype=np.float32)
    for name, row in zip(PLAYERS, codes, strict=True):
        if name in heard:
            band = player(name)
            audio += band.frames[row]
            meant = band.following[row[:-1]]
            cut = np.where(meant == row[1:], 0, meant)
            audio[1:, :FADE] += band.frames[cut][:, :FADE] * fade
    return audio.reshape(-1)
