"""Instruments of the synthesiser: notes and drum hits as float32 arrays at 32 kHz.

Everything is additive or noise through filters, and kept in a cache: a song asks for the same few notes again and
again. A note is made at full length once; the mixer cuts it and fades it out.
"""

import functools
import zlib

import numpy as np
from scipy import signal

RATE = 32000
NYQUIST = 0.45 * RATE  # partials stop here, below half the rate
LONGEST = 4.0  # seconds of the longest note

# partials as (frequency ratio, amplitude, decay per second); attack in seconds; what the envelope does while held
TIMBRES = {
    "saw": ([(k, 1 / k, 0.3) for k in range(1, 25)], 0.006),
    "square": ([(k, 1 / k, 0.2) for k in range(1, 24, 2)], 0.003),
    "organ": ([(1, 1, 0), (2, 0.8, 0), (3, 0.5, 0), (4, 0.35, 0), (6, 0.2, 0), (8, 0.15, 0)], 0.012),
    "flute": ([(1, 1, 0.1), (2, 0.22, 0.1), (3, 0.06, 0.1)], 0.05),
    "pluck": ([(k, 1 / k**1.1, 1.6 + 0.9 * k) for k in range(1, 16)], 0.002),
    "bell": ([(1, 1, 1.2), (2.76, 0.55, 2.2), (5.4, 0.3, 4.0), (8.93, 0.12, 7.0)], 0.002),
    "piano": ([(k * (1 + 0.0003 * k * k), 1 / k**1.4, 0.9 + 0.55 * k) for k in range(1, 13)], 0.003),
    "pad": ([(k, 1 / k**1.5, 0) for k in range(1, 13)], 0.25),
    "synth bass": ([(k, 1 / k**1.2, 0.8 + 0.5 * k) for k in range(1, 19)], 0.004),
    "sub bass": ([(1, 1, 0.3), (2, 0.18, 0.8), (3, 0.05, 1.5)], 0.008),
    "upright bass": ([(k, 1 / k**1.6, 1.8 + 0.6 * k) for k in range(1, 10)], 0.006),
}
LOWPASS = {"dark": 1100.0, "neutral": 4500.0, "bright": 14000.0}


def frequency(midi):
    """Hertz of a MIDI note number."""
    return 440.0 * 2 ** ((midi - 69) / 12)


@functools.lru_cache(maxsize=600)
def note(timbre, midi, tone="neutral"):
    """A note held for LONGEST seconds, without release; peak about 1.

    Args:
        timbre (str): a key of TIMBRES.
        midi (int): MIDI note number.
        tone (str): dark, neutral or bright: where a gentle low-pass sits.
    """
    partials, attack = TIMBRES[timbre]
    t = np.arange(int(LONGEST * RATE), dtype=np.float32) / RATE
    wave = np.zeros_like(t)
    detunes = (-0.0028, 0.0, 0.0031) if timbre == "pad" else (-0.0012, 0.0012) if timbre == "saw" else (0.0,)
    rng = np.random.default_rng(zlib.crc32(f"{timbre}{midi}".encode()))
    base = frequency(midi)
    for ratio, amplitude, decay in partials:
        hertz = base * ratio
        if hertz > NYQUIST:
            continue
        amplitude = amplitude / np.sqrt(1 + (hertz / LOWPASS[tone]) ** 4)
        envelope = np.exp(-decay * t) if decay else 1.0
        for detune in detunes:
            phase = 2 * np.pi * (hertz * (1 + detune) * t + rng.random())
            wave += np.float32(amplitude / len(detunes)) * envelope * np.sin(phase, dtype=np.float32)
    if timbre == "flute":
        wave *= 1 + 0.08 * np.sin(2 * np.pi * 5.2 * t, dtype=np.float32)
    wave *= np.minimum(t / attack, 1)
    return wave / max(np.abs(wave).max(), 1e-6)


def _noise(seconds, low, high, seed):
    rng = np.random.default_rng(seed)
    white = rng.standard_normal(int(seconds * RATE))
    sections = signal.butter(2, [low, high], "bandpass", fs=RATE, output="sos")
    return signal.sosfilt(sections, white).astype(np.float32)


@functools.cache
def drum(name, kit):
    """A drum hit: kick, snare, clap, hat, open hat or ride; `kit` (0 to 2) changes its colour."""
    seconds = {"kick": 0.35, "snare": 0.25, "clap": 0.2, "hat": 0.07, "open hat": 0.3, "ride": 0.5}[name]
    t = np.arange(int(seconds * RATE), dtype=np.float32) / RATE
    if name == "kick":
        low, drop, fade = ((48, 110, 14), (55, 160, 18), (42, 80, 9))[kit]
        hertz = low + drop * np.exp(-t * 35)
        wave = np.sin(2 * np.pi * np.cumsum(hertz) / RATE) * np.exp(-fade * t)
        wave += 0.25 * _noise(seconds, 1500, 6000, kit) * np.exp(-220 * t)
    elif name == "snare":
        hertz, fade = ((185, 17), (220, 24), (165, 13))[kit]
        wave = 0.6 * np.sin(2 * np.pi * hertz * t) * np.exp(-26 * t)
        wave += 1.2 * _noise(seconds, 1200, 9000, 10 + kit) * np.exp(-fade * t)
    elif name == "clap":
        bursts = sum(np.exp(-90 * np.maximum(t - d, 0)) * (t >= d) for d in (0.0, 0.011, 0.023))
        wave = _noise(seconds, 900, 5000, 20 + kit) * (bursts + 0.4 * np.exp(-18 * t))
    else:
        fade = {"hat": 60, "open hat": 12, "ride": 8}[name]
        wave = _noise(seconds, (7000, 6000, 8000)[kit], 15000, 30 + kit) * np.exp(-fade * t)
        if name == "ride":
            wave += 0.15 * np.sin(2 * np.pi * 3150 * t) * np.exp(-10 * t)
    wave *= np.minimum(t / 0.001, 1) * np.minimum((seconds - t) / 0.01, 1)
    return (wave / np.abs(wave).max()).astype(np.float32)
