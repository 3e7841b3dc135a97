"""Chroma: the strongest of the twelve pitch classes, eight times a second; what a melody model hears of a recording.

Section 2.3 of "Simple and Controllable Music Generation" (Copet et al., 2023); the filters are those that Ellis'
"Chroma feature analysis and synthesis" (2007) brought into the field. The numbers follow transformers'
`MusicgenMelodyFeatureExtractor`, without torch.
"""

import functools

import numpy as np

from ...errors import InputError
from ...sound.samples import as_clip, checked_rate

N_FFT, HOP_LENGTH, NUM_CHROMA = 16384, 4096, 12  # half a second at 32 kHz, every eighth of a second
A0 = 27.5  # Hz, the lowest note of a piano; pitch is counted from here
CENTRE, SPREAD = 5.0, 2.0  # octaves above A0 that count most, and how far around them
FRAMES_AT_ONCE = 256  # of a spectrogram: 30 s, 70 MB


@functools.lru_cache(maxsize=4)
def chroma_filters(sampling_rate, n_fft=N_FFT, num_chroma=NUM_CHROMA):
    """How much each frequency of a spectrum counts for each pitch class.

    Args:
        sampling_rate (int): samples per second of the audio.
        n_fft (int): samples in a window.
        num_chroma (int): pitch classes in an octave; the first is C.

    Returns:
        numpy.ndarray: [num_chroma, n_fft // 2 + 1] float64, read-only.
    """
    pitch = num_chroma * np.log2(np.arange(1, n_fft) * (sampling_rate / n_fft / A0))
    # 0 Hz has no pitch: it is put so far below the first frequency that no class gets much of it.
    pitch = np.concatenate([[pitch[0] - 1.5 * num_chroma], pitch])
    width = np.append(np.maximum(np.diff(pitch), 1.0), 1.0)  # low frequencies lie more than a class apart
    half = np.round(num_chroma / 2)
    distance = (pitch - np.arange(num_chroma)[:, None] + half) % num_chroma - half
    filters = np.exp(-0.5 * (2 * distance / width) ** 2)
    filters /= np.sqrt((filters**2).sum(axis=0))
    filters *= np.exp(-0.5 * ((pitch / num_chroma - CENTRE) / SPREAD) ** 2)
    filters = np.roll(filters, -3 * (num_chroma // 12), axis=0)  # from A first to C first
    filters = np.ascontiguousarray(filters[:, : n_fft // 2 + 1])
    filters.flags.writeable = False
    return filters


def chroma_energies(audio, sampling_rate, n_fft=N_FFT, hop_length=HOP_LENGTH, num_chroma=NUM_CHROMA):
    """The energy of each pitch class over time; see `chroma_features`.

    Returns:
        numpy.ndarray: [1 + samples // hop_length, num_chroma] float64; audio shorter than n_fft counts as that long.

    Raises:
        InputError: if this is no audio of one channel, or the rate is none that audio has.
    """
    audio, sampling_rate = as_clip("audio", audio), checked_rate(sampling_rate)
    if len(audio) > 1:
        raise InputError(f"audio has {len(audio)} channels; chroma is of one: mix them, or give one")
    audio = np.asarray(audio[0], np.float64)
    missing = max(n_fft - len(audio), 0)
    audio = np.pad(audio, (missing // 2, missing - missing // 2))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(audio, n_fft // 2, mode="reflect"), n_fft)[::hop_length]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi / n_fft * np.arange(n_fft))
    filters = chroma_filters(sampling_rate, n_fft, num_chroma).T
    scale = (hann**2).sum()
    parts = []
    for start in range(0, len(windows), FRAMES_AT_ONCE):
        spectrum = np.fft.rfft(windows[start : start + FRAMES_AT_ONCE] * hann, axis=1)
        parts.append((spectrum.real**2 + spectrum.imag**2) / scale @ filters)
    return np.concatenate(parts)


def chroma_features(audio, sampling_rate, n_fft=N_FFT, hop_length=HOP_LENGTH, num_chroma=NUM_CHROMA):
    """The strongest pitch class of each frame, one-hot. Silence counts as the first class, C.

    Args:
        audio (numpy.ndarray): samples of one channel, [samples].
        sampling_rate (int): samples per second.
        n_fft (int): samples in a window.
        hop_length (int): samples from one window to the next.
        num_chroma (int): pitch classes in an octave; the first is C.

    Returns:
        numpy.ndarray: [1 + samples // hop_length, num_chroma] float32; audio shorter than n_fft counts as that long.

    Raises:
        InputError: if this is no audio of one channel, or the rate is none that audio has.
    """
    energies = chroma_energies(audio, sampling_rate, n_fft, hop_length, num_chroma)
    return np.eye(num_chroma, dtype=np.float32)[energies.argmax(axis=1)]
