"""What is true of a song, as numbers that the text encoder learns to tell from captions alone."""

import numpy as np
from captions import INSTRUMENTS, instruments, mood
from synthesiser import BEATS, STYLES

NAMES = (*STYLES, "drums", "minor", "bright", "happy", "calm", "energetic", "sad", *INSTRUMENTS)
FACTS = len(BEATS) + len(NAMES)


def song_facts(song):
    """0 or 1 for each of BEATS and of NAMES, [FACTS] float32."""
    holds = {song.style, song.mode, song.tone, mood(song), *instruments(song), "drums" if song.drums else ""}
    return np.array([*(beat == song.beat for beat in BEATS), *(name in holds for name in NAMES)], np.float32)
