"""Losses and the trainable quantiser equal NumPy; a codec learns with them."""

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from tiny_codec import CODEC, RATE
from transformers import EncodecConfig

from mindmusicgen.models.encodec import Encodec, ResidualVectorQuantizer
from mindmusicgen.models.layers import initialise
from mindmusicgen.musicgen.loss import CodebookCrossEntropy
from mindmusicgen.training.codec import DEAD, CodecLoss, TrainableQuantizer
from mindmusicgen.training.loop import Trainer
from mindmusicgen.training.spectral import FLOOR, SpectralLoss, Spectrogram, mel_filters


def magnitudes(x, size):
    """A short-time Fourier transform in NumPy, [B, windows, bins]."""
    window = np.hanning(size + 1)[:-1]
    starts = range(0, x.shape[1] - size + 1, size // 4)
    return np.stack([np.abs(np.fft.rfft(x[:, s : s + size] * window)) for s in starts], 1) / window.sum()


def test_spectrogram():
    x = np.random.default_rng(0).standard_normal((2, 512)).astype(np.float32)
    found = Spectrogram(128)(Tensor(x)).asnumpy()
    assert found.shape == (2, 13, 65)
    np.testing.assert_allclose(found, np.sqrt(magnitudes(x, 128) ** 2 + 1e-9), rtol=1e-4, atol=1e-6)
    tone = np.sin(2 * np.pi * 8 * np.arange(512) / 128).astype(np.float32)[None]
    peaks = Spectrogram(128)(Tensor(tone)).asnumpy()
    assert (peaks.argmax(-1) == 8).all() and np.allclose(peaks.max(-1), 0.5, atol=1e-3)


@pytest.mark.parametrize(("mels", "size"), [(20, 128), (80, 256)])  # 80 filters are narrower than a bin
def test_mel_filters(mels, size):
    found = mel_filters(mels, size, 32000)
    assert found.shape == (size // 2 + 1, mels) and found.dtype == np.float32 and found.min() >= 0
    np.testing.assert_allclose(found.sum(0), 1, rtol=1e-5)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 16000 / 700), mels + 2) / 2595) - 1)
    hertz = np.arange(size // 2 + 1) * 32000 / size
    for band in range(mels):
        triangle = np.interp(hertz, edges[band : band + 3], [0, 1, 0])
        if triangle.sum() == 0:
            triangle[np.abs(hertz - edges[band + 1]).argmin()] = 1
        np.testing.assert_allclose(found[:, band], triangle / triangle.sum(), atol=1e-5)


def test_spectral_loss():
    x, y = np.random.default_rng(1).standard_normal((2, 3, 1024)).astype(np.float32)
    resolutions = ((256, 20), (128, 10))
    loss = SpectralLoss(RATE, resolutions)
    expected = 0
    for size, mels in resolutions:
        one, other = (np.log(magnitudes(a, size) @ mel_filters(mels, size, RATE) + FLOOR) for a in (x, y))
        expected += np.abs(one - other).mean() / 2
    assert float(loss(Tensor(x), Tensor(y)).asnumpy()) == pytest.approx(expected, rel=1e-3)
    assert float(loss(Tensor(x), Tensor(x)).asnumpy()) == 0


@pytest.fixture(scope="module")
def quantised():
    """Two steps of a quantiser in a graph: inputs, and after each step outputs, gradient and state."""
    rng = np.random.default_rng(2)
    quantizer = ResidualVectorQuantizer(EncodecConfig(**CODEC | {"target_bandwidths": [0.4]}))
    count, codes, dim = quantizer.embed.shape
    assert (count, codes) == (2, 16)
    quantizer.embed.set_data(Tensor(rng.standard_normal((count, codes, dim)).astype(np.float32)))
    cell = TrainableQuantizer(quantizer, decay=0.9)
    cell.counts.set_data(Tensor(np.full((count, codes), 3.0, np.float32)))
    cell.counts.asnumpy()[:, 5] = 0.02  # dead, unless something chooses it now
    cell.sums.set_data(Tensor(3 * quantizer.embed.asnumpy()))
    weights = Tensor(rng.standard_normal((2, 12, dim)).astype(np.float32))

    def weighted(x, fresh, strength):
        output, commitment, replaced = cell(x, fresh, strength)
        return (output * weights).sum(), output, commitment, replaced

    run = ms.jit(ms.value_and_grad(weighted, 0, None, has_aux=True), fullgraph=True)
    x = rng.standard_normal((2, 12, dim)).astype(np.float32)
    fresh = rng.integers(0, 24, (count, codes)).astype(np.int32)

    def kept():
        return [np.array(p.asnumpy()) for p in (quantizer.embed, cell.sums, cell.counts)]

    before = kept()
    (_, output, commitment, replaced), gradient = run(Tensor(x), Tensor(fresh), Tensor(np.array([0.7], np.float32)))
    found = [value.asnumpy() for value in (output, commitment, replaced, gradient)]
    return {"x": x, "fresh": fresh, "weights": weights.asnumpy(), "before": before, "after": kept(), "found": found}


def test_quantiser_moves_codes_to_what_chose_them(quantised):
    x, fresh = quantised["x"].reshape(24, -1), quantised["fresh"]
    residual, average, distance = x.copy(), 24 / 16, 0
    for stage, (table, sums, counts) in enumerate(zip(*quantised["before"], strict=True)):
        chosen = ((residual[:, None] - table[None]) ** 2).sum(-1).argmin(1)
        counts, sums = 0.9 * counts, 0.9 * sums
        for row, code in zip(residual, chosen, strict=True):
            counts[code] += 0.1
            sums[code] += 0.1 * row
        dead = counts < DEAD * average
        assert dead.sum() == quantised["found"][2][stage] and (dead.sum() == 0 or dead[5])
        counts[dead], sums[dead] = average, residual[fresh[stage][dead]] * average
        expected = (sums / counts[:, None], sums, counts)
        for found, wanted in zip(quantised["after"], expected, strict=True):
            np.testing.assert_allclose(found[stage], wanted, rtol=1e-4, atol=1e-5)
        if dead[5]:
            np.testing.assert_allclose(quantised["after"][0][stage, 5], residual[fresh[stage, 5]], rtol=1e-5)
        residual = residual - table[chosen]
        distance += (residual**2).mean()
    assert quantised["found"][2].sum() > 0  # the case of a dead code did occur
    assert float(quantised["found"][1]) == pytest.approx(distance, rel=1e-4)
    np.testing.assert_allclose(quantised["found"][0].reshape(24, -1), x - 0.7 * residual, rtol=1e-4, atol=1e-5)


def test_quantiser_passes_the_gradient_on(quantised):
    np.testing.assert_array_equal(quantised["found"][3], quantised["weights"])


def test_codebook_cross_entropy_counts_codes_only():
    rng = np.random.default_rng(3)
    logits, labels = rng.standard_normal((2, 3, 5, 7)).astype(np.float32), rng.integers(0, 7, (2, 3, 5))
    labels[0, 0, 3:], labels[1, 1, 0], labels[:, 2] = 7, -1, 7  # padding; the last codebook holds nothing else
    found = CodebookCrossEntropy(7)(Tensor(logits), Tensor(labels.astype(np.int32))).asnumpy()
    losses = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, labels.clip(0, 6)[..., None], 3)[..., 0]
    for codebook in range(2):
        counted = (labels[:, codebook] >= 0) & (labels[:, codebook] < 7)
        assert found[codebook] == pytest.approx(losses[:, codebook][counted].mean(), rel=1e-5)
    assert found[2] == 0


def test_the_codec_learns(tmp_path):
    small = {"upsampling_ratios": [16], "kernel_size": 3, "last_kernel_size": 3, "target_bandwidths": [1.6]}
    codec = Encodec(EncodecConfig(**CODEC | small))  # few convolutions: they take the time of compiling
    assert codec.quantizer.num_quantizers == 2
    initialise(codec)
    network = CodecLoss(codec)
    network.spectral = SpectralLoss(RATE, ((256, 20), (64, 8)))
    rng = np.random.default_rng(4)
    hertz = np.array([150, 220, 330, 480]).reshape(4, 1, 1)
    audio = (0.5 * np.sin(2 * np.pi * hertz * np.arange(512) / RATE)).astype(np.float32)
    fresh = network.draw(rng, 4, audio.shape[2] // 16)
    assert fresh.shape == (2, 16) and fresh.max() < 128
    table = np.array(codec.quantizer.embed.asnumpy())
    trainer = Trainer(network, str(tmp_path), 24, learning_rate=0.01, warmup=3)
    trainer.fit(lambda step: (audio, fresh, np.array([0.5], np.float32)), every=2, show=False)
    losses = [record["loss"] for record in trainer.history]
    assert losses[-1] < 0.8 * losses[0], losses
    assert trainer.history[0]["replaced codes"] > 0 and (codec.quantizer.embed.asnumpy() != table).any()
