"""Spoken digits for a tiny Bark: words of a synthesiser, their semantic tokens, and their codes.

The world is small and closed: each digit is said in each voice in two ways, inside a row and at its end, and a text is
these words one behind the other with silence between them. Words fill whole units of 40 ms, which are two semantic
tokens and three frames of codes, so that a word has the same tokens and codes wherever it stands.

Semantic tokens are k-means over the log-mel spectrogram of the first voice, whoever speaks: they tell what is said and
not who says it. Those of silence count how long it has lasted so far: without that a network has to count the same
token over and over, and stays silent for ever when it is not sure. Codes are a residual k-means over a frame,
spectrum first and waveform after that; the codec's decoder learns to play them.
"""

import itertools
import os
import subprocess
import tempfile

import numpy as np
import soundfile
from scipy.cluster.vq import kmeans2
from scipy.signal import resample_poly

from mindmusicgen.training.spectral import mel_filters

RATE, HOP, UNIT = 24000, 320, 960  # samples per second, in a frame of codes, in a unit
TOKEN = UNIT // 2  # samples of a semantic token: 50 a second
FRAMES, TOKENS = UNIT // HOP, UNIT // TOKEN  # in a unit
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
VOICES = {  # voice and pitch of espeak-ng
    "v2/en_speaker_0": ("en-us", 45),
    "v2/en_speaker_1": ("en-us+f3", 60),
    "v2/en_speaker_2": ("en-us+m7", 25),
}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCABULARY = (*SPECIAL, *DIGITS, *"0123456789", ",", ".", "!", "?", "-")
COMMA = VOCABULARY.index(",")
SOUNDS, SILENCES = 128, 32  # semantic tokens of sounds, and of silence
SEMANTIC = SOUNDS + SILENCES
CODES, BOOKS, WIDTH = 256, 8, 64  # codes of a codebook, codebooks, their vectors' size
BEFORE, AFTER, SLOW, PAUSE, TAIL = 1, 2, 3, 6, 1  # units of silence around a word, more if slow, at a comma, at the end
LONGEST = 10  # digits of a text
MELS, WINDOW, FLOOR = 64, 1024, 1e-4


def synthesise(voice, pitch, text):
    """What espeak-ng says, [samples] at RATE, without the silence around it."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "said.wav")
        subprocess.run(["espeak-ng", "-v", voice, "-p", str(pitch), "-s", "170", "-w", path, text], check=True)
        audio, rate = soundfile.read(path)
    audio = resample_poly(audio, RATE // 150, rate // 150)
    heard = np.flatnonzero(np.abs(audio) > 0.004)
    audio = audio[max(0, heard[0] - 48) : heard[-1] + 240]
    fade = np.linspace(0, 1, 48)
    audio[:48] *= fade
    audio[-240:] *= np.repeat(fade[::-1], 5)
    return audio


def words():
    """{(voice, digit, last): samples}: each with silence around it, as long in every voice."""
    said = {}
    for name, digit, last in _keys():
        voice, pitch = VOICES[name]
        audio = synthesise(voice, pitch, DIGITS[digit] + ("." if last else ","))
        said[name, digit, last] = 0.08 * audio / np.sqrt(np.mean(audio**2))
    made = {}
    for (name, digit, last), audio in said.items():
        longest = max(len(said[other, digit, last]) for other in VOICES)
        units = -(-longest // UNIT)
        room = np.zeros((BEFORE + units + AFTER) * UNIT, np.float32)
        room[BEFORE * UNIT : BEFORE * UNIT + len(audio)] = audio
        made[name, digit, last] = np.clip(room, -0.95, 0.95)
    return made


def log_mel(audio, hop, count):
    """[frames, MELS]: of a window around the middle of each hop."""
    spread = np.pad(audio, WINDOW)
    starts = WINDOW + hop * np.arange(count) + hop // 2 - WINDOW // 2
    frames = spread[starts[:, None] + np.arange(WINDOW)] * np.hanning(WINDOW)
    magnitudes = np.abs(np.fft.rfft(frames)) / (WINDOW / 2)
    return np.log(magnitudes @ mel_filters(MELS, WINDOW, RATE) + FLOOR) - np.log(FLOOR)


def centroids(points, count, seed):
    """`count` centres of k-means over the distinct points; spare ones are far away."""
    distinct = np.unique(points.round(6), axis=0)
    found = np.full((count, points.shape[1]), 1e4 if len(distinct) < count else 0.0)
    if len(distinct) <= count:
        found[: len(distinct)] = distinct
        return found
    return kmeans2(distinct, count, 30, minit="++", seed=seed, missing="warn")[0]


def nearest(points, centres):
    distance = (points**2).sum(1)[:, None] - 2 * points @ centres.T + (centres**2).sum(1)
    return distance.argmin(1)


def _keys():
    """(voice, digit, last) of every word."""
    return list(itertools.product(VOICES, range(10), (False, True)))


class Digits:
    """The words, their tokens and codes, and the codebooks.

    Attributes:
        audio, codes, tokens: by (voice, digit, last): [samples], [BOOKS, frames], [tokens].
        silence: (tokens, codes) of a unit of silence: [TOKENS], [BOOKS, FRAMES].
        codebooks: [BOOKS, CODES, WIDTH] float32.
        left: what the codebooks leave of the frames, root mean square.
    """

    WORDS = ("audio", "codes", "tokens")

    def __init__(self, kept=None):
        if kept is None:
            self._make()
            return
        for what in self.WORDS:
            setattr(self, what, {key: kept[f"{what} {key}"] for key in _keys()})
        self.silence = kept["silent tokens"], kept["silent codes"]
        self.codebooks, self.left = kept["codebooks"], float(kept["left"])

    def save(self, path):
        """Keep all of it in an .npz file."""
        arrays = {f"{what} {key}": getattr(self, what)[key] for what in self.WORDS for key in _keys()}
        tokens, codes = self.silence
        arrays |= {"silent tokens": tokens, "silent codes": codes, "codebooks": self.codebooks, "left": self.left}
        np.savez(path, **arrays)

    def _make(self):
        self.audio = words()
        keys = list(self.audio)
        first = next(iter(VOICES))
        quiet = np.zeros(UNIT, np.float32)
        mels = [
            log_mel(self.audio[first, d, last], TOKEN, len(self.audio[first, d, last]) // TOKEN)
            for v, d, last in keys
            if v == first
        ]
        near = [np.concatenate([np.pad(m, ((1, 1), (0, 0)))[i : i + len(m)] for i in range(3)], 1) for m in mels]
        points = np.concatenate(near)
        centres = centroids(points, SOUNDS, 0)
        own = {key[1:]: nearest(p, centres) for key, p in zip([k for k in keys if k[0] == first], near, strict=True)}
        self.tokens = {key: own[key[1:]] for key in keys}
        vectors = [self._vectors(self.audio[key]) for key in keys] + [self._vectors(quiet)]
        raw = np.concatenate(vectors)
        _, _, axes = np.linalg.svd(raw - raw.mean(0), full_matrices=False)
        axes = axes[:WIDTH].T
        scale = np.sqrt((((raw - raw[-1]) @ axes) ** 2).mean())
        rest = [(v - raw[-1]) @ axes / scale for v in vectors]  # silence is the zero vector
        self.codebooks, codes = [], [[] for _ in rest]
        for book in range(BOOKS):
            table = centroids(np.concatenate(rest), CODES, book)
            for i, one in enumerate(rest):
                found = nearest(one, table)
                codes[i].append(found)
                rest[i] = one - table[found]
            self.codebooks.append(np.where(np.abs(table) > 1e3, 0, table))
        self.codebooks = np.array(self.codebooks, np.float32)
        self.left = np.sqrt((np.concatenate(rest) ** 2).mean())
        *codes, still = [np.array(one) for one in codes]
        self.codes = dict(zip(keys, codes, strict=True))
        still_token = nearest(np.zeros((TOKENS, points.shape[1])), centres)
        self.silence = still_token, still

    @staticmethod
    def _vectors(audio):
        count = len(audio) // HOP
        mels = log_mel(audio, HOP, count)
        waves = resample_poly(np.pad(audio, HOP // 2), 1, 4)[: (count + 1) * HOP // 4]
        waves = np.stack([waves[i * HOP // 4 : (i + 2) * HOP // 4] for i in range(count)])
        return np.concatenate([mels / 2, 4 * waves], 1)

    def say(self, ids, voice, slow=False):
        """(tokens, codes, audio) of a text of token ids, in a voice."""
        still_tokens, still_codes = self.silence
        spoken = [(i, (one - len(SPECIAL)) % 10) for i, one in enumerate(ids) if len(SPECIAL) <= one < COMMA]
        tokens, codes, audio = [], [], []

        def silence(units):
            tokens.append(np.tile(still_tokens, units))
            codes.append(np.tile(still_codes, units))
            audio.append(np.zeros(units * UNIT, np.float32))

        for number, (place, digit) in enumerate(spoken):
            key = voice, digit, number + 1 == len(spoken)
            tokens.append(self.tokens[key])
            codes.append(self.codes[key])
            audio.append(self.audio[key])
            behind = ids[place + 1 : place + 2]
            silence(slow * SLOW + PAUSE * (len(behind) > 0 and behind[0] == COMMA and number + 1 < len(spoken)))
        silence(TAIL)
        return counted(np.concatenate(tokens), still_tokens[0]), np.concatenate(codes, 1), np.concatenate(audio)


def counted(tokens, still):
    """Tokens with those of silence, all `still`, told apart by how many came before them."""
    made, lasted = tokens.copy(), 0
    for i, token in enumerate(tokens):
        lasted = lasted + 1 if token == still else 0
        if lasted:
            made[i] = SOUNDS + min(lasted, SILENCES) - 1
    return made


def digits_of(work):
    """The words kept in a folder, or made now: k-means may end elsewhere on another machine, or with more threads."""
    path = os.path.join(work, "digits.npz")
    os.makedirs(work, exist_ok=True)
    if not os.path.exists(path):
        Digits().save(path)
    with np.load(path) as file:
        return Digits(file)


def draw_text(rng, most=LONGEST):
    """Token ids of a text: digits as words or numerals, some commas, sometimes a mark at the end."""
    count = int(rng.integers(1, most + 1))
    ids, numerals = [], rng.random() < 0.3
    room = 16
    for i in range(count):
        if len(ids) >= room - 2:
            break
        ids.append(len(SPECIAL) + int(rng.integers(10)) + 10 * bool(numerals))
        if i + 1 < count and rng.random() < 0.15:
            ids.append(COMMA)
        elif i + 1 < count and rng.random() < 0.03:
            ids.append(VOCABULARY.index(str(rng.choice(["-", "[UNK]"]))))
    if ids[-1] < COMMA and rng.random() < 0.6:
        ids.append(VOCABULARY.index(str(rng.choice(list("...!?")))))
    return np.array(ids)
