"""Spectral distances between waveforms as graph code: short-time Fourier transforms are matrix products.

Multi-resolution spectral losses: "Parallel WaveGAN" (Yamamoto et al., 2020); mel scale losses for codecs: "High
Fidelity Neural Audio Compression" (Defossez et al., 2022).
"""

import numpy as np
from mindspore import Tensor, nn, ops

FLOOR = 2e-4  # added to mel magnitudes before the logarithm: a sine of amplitude 1 has 0.5, a soft hi-hat 1e-3


def mel_filters(num_mels, fft_size, sampling_rate):
    """Triangular filters on the mel scale, [fft_size // 2 + 1, num_mels] float32, each with sum 1."""

    def to_mel(hertz):
        return 2595 * np.log10(1 + hertz / 700)

    edges = 700 * (10 ** (np.linspace(0, to_mel(sampling_rate / 2), num_mels + 2) / 2595) - 1)
    bins = np.arange(fft_size // 2 + 1)[:, None] * sampling_rate / fft_size
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0, np.minimum(rising, falling))
    nearest = np.abs(bins - edges[1:-1]).argmin(axis=0)  # a filter narrower than a bin takes the nearest one
    empty = filters.sum(axis=0) == 0
    filters[nearest[empty], np.flatnonzero(empty)] = 1
    return (filters / filters.sum(axis=0)).astype(np.float32)


class Spectrogram(nn.Cell):
    """Magnitudes of a short-time Fourier transform with a Hann window and hops of a quarter window.

    Args:
        fft_size (int): samples in a window; the waveform's length must be a multiple of fft_size / 4.

    Inputs:
        - **x** (Tensor) - [B, N] float32.

    Outputs:
        Tensor of shape [B, N / hop - 3, fft_size / 2 + 1]; a sine of amplitude 1 has a peak of 0.5.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, fft_size):
        super().__init__()
        self.hop = fft_size // 4
        window = np.hanning(fft_size + 1)[:-1]
        angles = 2 * np.pi * np.outer(np.arange(fft_size), np.arange(fft_size // 2 + 1)) / fft_size
        basis = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * window[:, None] / window.sum()
        self.basis = Tensor(basis.astype(np.float32))
        self.bins = fft_size // 2 + 1
        self.matmul = ops.MatMul()

    def construct(self, x):
        rows, length = x.shape
        hops = length // self.hop
        x = x.reshape(rows, hops, self.hop)
        frames = hops - 3
        taps = (x[:, :frames], x[:, 1 : 1 + frames], x[:, 2 : 2 + frames], x[:, 3:])
        windows = ops.concat(taps, 2).reshape(rows * frames, 4 * self.hop)
        parts = self.matmul(windows, self.basis).reshape(rows, frames, 2, self.bins)
        power = (parts * parts).sum(axis=2)
        return ops.sqrt(power + 1e-9)  # the gradient of a root is infinite at 0


class SpectralLoss(nn.Cell):
    """Mean absolute difference of log-mel spectrograms, over several window sizes.

    Args:
        sampling_rate (int): samples per second.
        resolutions (Sequence[tuple[int, int]]): window size in samples and number of mel bands.

    Inputs:
        - **x**, **y** (Tensor) - waveforms, [B, N].

    Outputs:
        Scalar Tensor, in natural-log units, averaged over the resolutions.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, sampling_rate, resolutions=((2048, 80), (512, 48), (128, 20))):
        super().__init__()
        self.transforms = nn.CellList([Spectrogram(size) for size, _ in resolutions])
        self.filters = [Tensor(mel_filters(mels, size, sampling_rate)) for size, mels in resolutions]

    def construct(self, x, y):
        total = 0
        rows = x.shape[0]
        both = ops.concat((x, y), 0)
        for i in range(len(self.transforms)):
            mels = ops.log(ops.matmul(self.transforms[i](both), self.filters[i]) + FLOOR)
            total = total + ops.abs(mels[:rows] - mels[rows:]).mean()
        return total / len(self.transforms)
