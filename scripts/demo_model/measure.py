"""What can be measured in a piece of music: tempo, drums, accent, brightness, clicks; and distances between sounds.

NumPy and SciPy only. Waveforms are float arrays [samples] at 32 kHz.
"""

import numpy as np
from instruments import RATE
from scipy import signal

HOP = 320  # samples between two frames of the onset envelope: 10 ms
SLOWEST, FASTEST = 50, 200  # BPM that are considered


def spectrogram(audio, size=1024, hop=HOP):
    """Magnitudes, [frames, size / 2 + 1]."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(audio, size // 2), size)[::hop]
    return np.abs(np.fft.rfft(windows * np.hanning(size), axis=1)).astype(np.float32)


def onset_envelope(audio):
    """Spectral flux in 10 ms frames: how much louder, summed over log-spaced bands, the low ones counted four times."""
    magnitudes = spectrogram(audio)
    edges = np.unique(np.geomspace(1, magnitudes.shape[1], 25).astype(int))
    bands = np.stack([magnitudes[:, a:b].mean(axis=1) for a, b in zip(edges[:-1], edges[1:], strict=True)], axis=1)
    rises = np.maximum(np.diff(np.log1p(30 * bands), axis=0, prepend=np.log1p(30 * bands[:1])), 0)
    flux = rises.sum(axis=1) + 3 * rises[:, :6].sum(axis=1)
    return flux - signal.convolve(flux, np.ones(41) / 41, mode="same")


def tempo(audio):
    """Beats per minute from onsets: autocorrelation at half, 1, 2, 3 and 4 beats, with a weak preference for 130.

    Weights and preference were chosen on 150 synthesised songs, where 80 % come out within 8 % and all of them if half
    and double tempo count as right.

    Returns:
        float: the tempo; 0 if there are no onsets.
    """
    envelope = onset_envelope(audio)
    count = len(envelope)
    spectrum = np.fft.rfft(envelope, 2 * count)
    similarity = np.fft.irfft(spectrum * np.conj(spectrum))[:count]
    if similarity[0] < 1e-6:
        return 0.0
    similarity *= count / np.maximum(count - np.arange(count), 0.2 * count) / similarity[0]
    candidates = np.arange(SLOWEST, FASTEST, 0.5)
    scores = 0.0
    for beats, weight in ((0.5, 0.5), (1, 1), (2, 1), (3, 1), (4, 1)):
        scores += weight * np.interp(60 / candidates * beats * RATE / HOP, np.arange(count), similarity, right=0)
    preference = np.exp(-0.5 * (np.log2(candidates / 130) / 0.9) ** 2)
    return float(candidates[np.argmax(np.maximum(scores, 0) * preference)])


def tempo_error(found, asked):
    """(relative error, relative error when half and double tempo count as right)."""
    if found <= 0:
        return 1.0, 1.0
    plain = abs(found - asked) / asked
    return plain, min(abs(found * factor - asked) / asked for factor in (0.5, 1, 2))


def drum_score(audio):
    """(noise, thump): the 98th percentile of the rises above 5 kHz and below 150 Hz, relative to the mean loudness."""
    magnitudes = spectrogram(audio, 512)
    whole = magnitudes.mean() + 1e-6
    noise, thump = np.diff(magnitudes[:, 80:].mean(axis=1)), np.diff(magnitudes[:, :3].mean(axis=1))
    return tuple(float(np.percentile(np.maximum(rise, 0), 98) / whole) for rise in (noise, thump))


def has_drums(audio):
    """Whether drums are heard. The limits suit the demo's codec, which blurs what is short: chosen on 72 synthesised
    songs, where 92 % come out right as they are, and 90 % from the codec."""
    noise, thump = drum_score(audio)
    return noise > 0.21 or thump > 22


def brightness(audio):
    """Power of the sustained sound from 1.5 to 5 kHz over that from 0.1 to 1.5 kHz, as log10.

    A limit of -2.18 splits dark and bright songs: 87 % of 47 songs right, and only 64 % from the demo's codec, which
    fills quiet bands with noise."""
    power, hertz = np.median(spectrogram(audio), axis=0) ** 2, np.fft.rfftfreq(1024, 1 / RATE)
    high, low = (power[(hertz > a) & (hertz < b)].sum() for a, b in ((1500, 5000), (99, 1500)))
    return float(np.log10(high / (low + 1e-12) + 1e-9))


def accent(audio, bpm):
    """Whether bars of three fit better than bars of four: the difference of the autocorrelations, positive for 3."""
    envelope = np.maximum(onset_envelope(audio), 0)
    envelope = envelope - envelope.mean()

    def fit(beats):
        lag = int(round(60 / bpm * beats * RATE / HOP))
        if lag >= len(envelope):
            return 0.0
        return float(envelope[:-lag] @ envelope[lag:]) / (len(envelope) - lag)

    return (fit(3) + fit(6) - fit(4) - fit(8)) / (float(envelope @ envelope) / len(envelope) + 1e-9)


def faults(audio):
    """(share of samples at full scale, mean, largest jump at borders of 640 samples over the largest elsewhere)."""
    jumps = np.abs(np.diff(audio, n=2))
    borders = np.zeros(len(jumps), bool)
    borders[638::640] = borders[639::640] = True
    ratio = np.percentile(jumps[borders], 99.5) / (np.percentile(jumps[~borders], 99.5) + 1e-9)
    return float((np.abs(audio) >= 0.999).mean()), float(audio.mean()), float(ratio)


def si_sdr(reference, estimate):
    """Scale-invariant signal-to-distortion ratio in dB."""
    scale = float(reference @ estimate) / (float(reference @ reference) + 1e-9)
    noise = estimate - scale * reference
    return 10 * np.log10(scale**2 * float(reference @ reference) / (float(noise @ noise) + 1e-12) + 1e-12)


def stft_distance(reference, estimate, sizes=(2048, 1024, 512)):
    """Mean over window sizes of spectral convergence and of the log-magnitude difference in nats."""
    convergence, logarithmic = [], []
    for size in sizes:
        x, y = spectrogram(reference, size, size // 4), spectrogram(estimate, size, size // 4)
        convergence.append(np.linalg.norm(x - y) / (np.linalg.norm(x) + 1e-9))
        logarithmic.append(np.abs(np.log(x + 1e-2) - np.log(y + 1e-2)).mean())
    return float(np.mean(convergence)), float(np.mean(logarithmic))
