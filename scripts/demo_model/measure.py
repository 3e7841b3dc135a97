"""What can be heard in a piece of music, by measures that know nothing of how it was made: librosa's tempo, onsets and
chroma, key profiles, silence; a small classifier of style, tone, drums and instruments.

Waveforms are float arrays [samples] at 32 kHz. `librosa` and its `scikit-learn` are needed (the extra `demo`).
"""

import numpy as np
from instruments import FRAME, RATE

HOP = 512
QUIET = 10 ** (-40 / 20)  # of full scale: below it a twentieth of a second counts as silence
PROFILES = {  # how much each step of the scale belongs to a key (Krumhansl and Kessler, 1982)
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}


def spectrogram(audio, size=1024, hop=320):
    """Magnitudes, [frames, size / 2 + 1]."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(audio, size // 2), size)[::hop]
    return np.abs(np.fft.rfft(windows * np.hanning(size), axis=1)).astype(np.float32)


def onsets(audio):
    """Strength of onsets, 62.5 values a second."""
    import librosa

    return librosa.onset.onset_strength(y=np.asarray(audio, np.float32), sr=RATE, hop_length=HOP)


def librosa_tempo(audio):
    """Beats a minute, as librosa hears them: the best single lag, of lags 3 to 5 % apart at fast tempi."""
    import librosa

    return float(librosa.feature.tempo(onset_envelope=onsets(audio), sr=RATE, hop_length=HOP)[0])


def tempo(audio):
    """Beats a minute by a comb: the tempo at whose first eight beats the onsets are most like themselves.

    Half a percent fine, with librosa's preference for tempi near 120 (a normal distribution over octaves). A single lag
    takes a dotted rhythm for the beat; eight multiples of it do not fit the bar.
    """
    import librosa

    hop = RATE // 200
    envelope = librosa.onset.onset_strength(y=np.asarray(audio, np.float32), sr=RATE, hop_length=hop)
    count = len(envelope)
    power = np.abs(np.fft.rfft(envelope - envelope.mean(), 2 * count)) ** 2
    alike = np.fft.irfft(power)[:count] / (count - np.arange(count))
    tempi = np.exp(np.arange(np.log(50), np.log(210), 0.005))
    lags = 60 / tempi * RATE / hop
    comb = np.mean([np.interp(beat * lags, np.arange(count), alike) for beat in range(1, 9)], axis=0)
    return float(tempi[np.argmax(comb * np.exp(-0.5 * np.log2(tempi / 120) ** 2))])


def tempo_error(found, asked, meter=4):
    """Relative error when half and double the tempo count as right; in three, a bar for a beat as well."""
    factors = (0.5, 1, 2) if meter != 3 else (1 / 3, 0.5, 1, 2, 3)
    return min(abs(found * factor - asked) / asked for factor in factors)


def pulse(audio):
    """How regular the beat is, 0 to 1: the highest autocorrelation of the onsets from a quarter of a second to two."""
    envelope = onsets(audio)
    envelope = envelope - envelope.mean()
    power = float(envelope @ envelope)
    if power < 1e-6:
        return 0.0
    lags = range(int(0.25 * RATE / HOP), min(int(2 * RATE / HOP), len(envelope) - 1))
    return max(float(envelope[:-lag] @ envelope[lag:]) / power * len(envelope) / (len(envelope) - lag) for lag in lags)


def key_fit(audio):
    """(correlation of the mean chroma with the best key's profile, that key's tonic, its mode)."""
    import librosa

    chroma = librosa.feature.chroma_cqt(y=np.asarray(audio, np.float32), sr=RATE, hop_length=2048).mean(axis=1)
    if chroma.std() < 1e-6:
        return 0.0, 0, "major"
    return max(
        (float(np.corrcoef(chroma, np.roll(profile, tonic))[0, 1]), tonic, mode)
        for mode, profile in PROFILES.items()
        for tonic in range(12)
    )


def longest_silence(audio):
    """Seconds of the longest stretch below -40 dBFS."""
    size = RATE // 20
    loud = np.sqrt(np.mean(audio[: len(audio) // size * size].reshape(-1, size) ** 2, axis=1)) >= QUIET
    longest = run = 0
    for value in loud:
        run = 0 if value else run + 1
        longest = max(longest, run)
    return longest / 20


def held(codes):
    """Share of codes that equal the one before, for each codebook: [K]."""
    return (codes[:, 1:] == codes[:, :-1]).mean(axis=1)


def log_mel_distance(x, y):
    """Mean difference of log-mel spectrograms in nats: 80 bands, windows of 64 ms, quiet parts blurred."""
    from mindmusicgen.training.spectral import mel_filters

    mels = mel_filters(80, 2048, RATE)
    a, b = (np.log(spectrogram(wave, 2048, 512) @ mels * 2 / 2048 + 2e-4) for wave in (x, y))
    return float(np.abs(a - b).mean())


def level(audio):
    """Root mean square in dB below full scale."""
    return float(20 * np.log10(np.sqrt(np.mean(np.square(audio, dtype=np.float64))) + 1e-12))


def border_clicks(audio):
    """Largest jumps at borders of frames over the largest elsewhere; 1 where borders cannot be heard."""
    jumps = np.abs(np.diff(audio, n=2))
    borders = np.zeros(len(jumps), bool)
    borders[FRAME - 2 :: FRAME] = borders[FRAME - 1 :: FRAME] = True
    return float(np.percentile(jumps[borders], 99.5) / (np.percentile(jumps[~borders], 99.5) + 1e-9))


def features(audio):
    """What the classifier sees: means, deviations and rises of 32 mel bands, and the onsets' autocorrelation."""
    import librosa

    mels = np.log(
        librosa.feature.melspectrogram(y=np.asarray(audio, np.float32), sr=RATE, n_mels=32, hop_length=HOP) + 1e-4
    )
    rises = np.maximum(np.diff(mels, axis=1), 0)
    envelope = onsets(audio)
    envelope = (envelope - envelope.mean()) / (envelope.std() + 1e-6)
    lags = [float(envelope[:-lag] @ envelope[lag:]) / len(envelope) for lag in range(8, 125, 3)]
    return np.concatenate([mels.mean(1), mels.std(1), rises.mean(1), np.percentile(rises, 95, axis=1), lags])


class Judge:
    """Tells style, tone, drums and instruments by ear: logistic regressions on `features`."""

    def fit(self, waves, labels):
        """`labels` is a list of dicts, each with the same names; returns the judge."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        seen = np.stack([features(wave) for wave in waves])
        self.models = {}
        for name in labels[0]:
            model = make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=2000))
            self.models[name] = model.fit(seen, [label[name] for label in labels])
        return self

    def __call__(self, wave):
        """What is heard: a dict with the names of the labels."""
        seen = features(wave)[None]
        return {name: model.predict(seen)[0] for name, model in self.models.items()}
