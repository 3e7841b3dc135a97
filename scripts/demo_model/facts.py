"""What is true of a song, as numbers to learn from: of the whole song for the text encoder, of every frame for the
decoder."""

import numpy as np
from captions import BASSES, CHORDS, LEADS, mood
from synthesiser import GENRES

FRAME_RATE = 50
TEMPI = np.arange(58, 184, 2)  # BPM
NAMES = (
    *GENRES,
    *dict.fromkeys(("drums", "three", "minor", "bright", "dark", "happy", "calm", "energetic", "sad")),
    *dict.fromkeys((*BASSES.values(), *CHORDS.values(), *LEADS.values())),
)
FACTS = len(TEMPI) + len(NAMES)


def song_facts(song):
    """Numbers from 0 to 1, [FACTS]: how near the tempo is to each of TEMPI, and which of NAMES hold."""
    near = np.exp(-0.5 * ((TEMPI - song.bpm) / 2.5) ** 2)
    holds = {song.genre, song.mode, song.tone, mood(song), BASSES.get(song.bass), LEADS.get(song.lead)}
    holds |= {CHORDS.get(song.chords[0])} if song.chords else set()
    holds |= {"drums"} if song.drums else set()
    holds |= {"three"} if song.meter == 3 else set()
    return np.concatenate([near, [name in holds for name in NAMES]]).astype(np.float32)


def bar_starts(song):
    """Frames at which bars begin, in frames and parts of frames."""
    bar = 60 / song.bpm * song.meter * FRAME_RATE
    return np.arange(0, song.seconds * FRAME_RATE, bar)


def beat_angles(song, start, frames):
    """Where in the beat and in the bar each frame begins: cosine and sine of both angles, [frames, 4]."""
    beats = (start + np.arange(frames)) / FRAME_RATE * song.bpm / 60
    angles = 2 * np.pi * np.stack([beats, beats / song.meter], axis=1)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
