"""Operators of training against NumPy in float64, and training with them against MindSpore's own operations."""

import ctypes
import os
import shutil

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn
from tiny_codec import CODEC
from transformers import EncodecConfig, MusicgenConfig, MusicgenDecoderConfig, T5Config

from mindmusicgen import MusicgenForConditionalGeneration
from mindmusicgen.models.layers import LayerNorm, Linear, initialise
from mindmusicgen.musicgen.loss import CodebookCrossEntropy
from mindmusicgen.musicgen.training.language_model import LanguageModelLoss
from mindmusicgen.ops import gradients, native
from mindmusicgen.ops.attention import lowest
from mindmusicgen.training.adamw import AdamW, adamw
from mindmusicgen.training.loop import Trainer, TrainingStep, WarmupCosine

pytestmark = pytest.mark.skipif(bool(native.why_not()), reason="the kernels cannot run here")


def drawn(seed, *shapes):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape, np.float32) for shape in shapes]


def compute(kernel, inputs, *shapes):
    """The results of a kernel, which have these shapes."""
    results = [np.full(shape, np.nan, np.float32) for shape in shapes]
    assert native.call(kernel, *inputs, *results) == 0
    return results


def close(found, expected):
    expected = np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * max(1, np.abs(expected).max()))


@pytest.fixture(scope="module", params=["avx512", "avx2", "base"])
def kernels(request, tmp_path_factory):
    """The installed library with one instruction set: a copy each, as the sets are chosen at the first calls."""
    loaded = ctypes.CDLL(shutil.copy(native.library_path(), tmp_path_factory.mktemp(request.param) / "_kernels.so"))
    before = os.environ.get("MINDMUSICGEN_SIMD")
    os.environ["MINDMUSICGEN_SIMD"] = request.param
    one = np.ones((1, 1), np.float32)
    compute(loaded.ProductInput, (one, one), (1, 1))  # chooses in two files, the next in the third
    compute(loaded.SelfAttend, (np.ones((1, 1, 3), np.float32), np.ones(1, np.int32)), (1, 1, 1), (1, 1, 1, 2))
    os.environ.pop("MINDMUSICGEN_SIMD") if before is None else os.environ.update(MINDMUSICGEN_SIMD=before)
    return loaded


@pytest.mark.parametrize(
    ("rows", "wide", "out"), [(1, 1, 1), (5, 3, 7), (130, 300, 70), (257, 64, 97), (700, 33, 32), (12, 520, 64)]
)
def test_products(kernels, rows, wide, out):
    x, weight, base, gate, dy = drawn(rows, (rows, wide), (out, wide), (rows, out), (rows, wide), (rows, out))
    x64, weight64, dy64 = (array.astype(np.float64) for array in (x, weight, dy))
    close(compute(kernels.ProductForward, (x, weight), (rows, out))[0], x64 @ weight64.T)
    close(compute(kernels.ProductAdded, (x, weight, base), (rows, out))[0], x64 @ weight64.T + base)
    close(compute(kernels.ProductInput, (dy, weight), (rows, wide))[0], dy64 @ weight64)
    close(compute(kernels.ProductGated, (dy, weight, gate), (rows, wide))[0], dy64 @ weight64 * (gate > 0))
    close(compute(kernels.ProductWeight, (dy, x), (out, wide))[0], dy64.T @ x64)


def test_a_right_matrix_of_several_pieces(kernels):
    """Panels of it hold so many numbers that they are laid out in two turns."""
    x, dy = drawn(3, (9000, 600), (9000, 3))
    close(compute(kernels.ProductWeight, (dy, x), (3, 600))[0], dy.T.astype(np.float64) @ x)


def test_feed_forward(kernels):
    x, first, second, base = drawn(1, (131, 37), (90, 37), (37, 90), (131, 37))
    y, hidden = compute(kernels.FeedForward, (x, first, second, base), (131, 37), (131, 90))
    expected = np.maximum(x.astype(np.float64) @ first.T, 0)
    close(hidden, expected)
    close(y, expected @ second.T + base)


@pytest.mark.parametrize("dim", [3, 64, 130])
def test_layer_norm(kernels, dim):
    x, dy, weight, bias = drawn(dim, (150, dim), (150, dim), dim, dim)
    x += 5
    y, stats = compute(kernels.LayerNorm, (x, weight, bias, np.array([1e-5], np.float32)), x.shape, (150, 2))
    x64, slope = x.astype(np.float64), dy.astype(np.float64) * weight
    scale = 1 / np.sqrt(x64.var(1, keepdims=True) + 1e-5)
    normed = (x64 - x64.mean(1, keepdims=True)) * scale
    np.testing.assert_allclose(y, normed * weight + bias, atol=2e-5)
    dx, dweight, dbias = compute(kernels.LayerNormGradient, (x, weight, stats, dy), x.shape, dim, dim)
    expected = scale * (slope - slope.mean(1, keepdims=True) - normed * (slope * normed).mean(1, keepdims=True))
    np.testing.assert_allclose(dx, expected, atol=1e-4 if dim > 3 else 1e-3)
    np.testing.assert_allclose(dweight, (dy * normed).sum(0), atol=1e-3)
    np.testing.assert_allclose(dbias, dy.sum(0, dtype=np.float64), atol=1e-4)


def attention(q, k, v, mask, dy):
    """Attention of [B, H, ., d] in float64 with an additive mask [B, 1, T, S], and its gradients."""
    q, k, v, dy = (array.astype(np.float64) for array in (q, k, v, dy))
    scores = q @ k.swapaxes(2, 3) / np.sqrt(q.shape[3]) + mask
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    slopes = dy @ v.swapaxes(2, 3)
    slopes = weights * (slopes - (slopes * weights).sum(-1, keepdims=True)) / np.sqrt(q.shape[3])
    return weights @ v, slopes @ k, slopes.swapaxes(2, 3) @ q, weights.swapaxes(2, 3) @ dy


def heads_first(x, parts, heads):
    """[B, T, parts H d] -> parts of [B, H, T, d]"""
    return x.reshape(*x.shape[:2], parts, heads, -1).transpose(2, 0, 3, 1, 4)


def heads_last(*arrays):
    """The other way round."""
    rows, _, columns, _ = arrays[0].shape
    return np.stack(arrays).transpose(1, 3, 0, 2, 4).reshape(rows, columns, -1)


@pytest.mark.parametrize(("columns", "heads", "size"), [(1, 1, 1), (50, 3, 5), (96, 2, 64), (300, 2, 40)])
def test_self_attention(kernels, columns, heads, size):
    qkv, dy = drawn(columns, (2, columns, 3 * heads * size), (2, columns, heads * size))
    number, shape = np.array([heads], np.int32), (2, heads, columns, 2)
    y, stats = compute(kernels.SelfAttend, (qkv, number), dy.shape, shape)
    found = compute(kernels.SelfAttendGradient, (qkv, number, y, stats, dy), qkv.shape)[0]
    mask = np.where(np.tril(np.ones((columns, columns))) > 0, 0, -np.inf)
    out, *slopes = attention(*heads_first(qkv, 3, heads), mask, heads_first(dy, 1, heads)[0])
    close(y, heads_last(out))
    close(found, heads_last(*slopes))


@pytest.mark.parametrize(("columns", "length", "heads", "size"), [(1, 1, 1, 1), (50, 13, 3, 5), (70, 48, 2, 64)])
def test_cross_attention(kernels, columns, length, heads, size):
    """A row that may see nothing sees everything alike."""
    dim = heads * size
    q, kv, dy = drawn(length, (3, columns, dim), (3, length, 2 * dim), (3, columns, dim))
    mask = np.zeros((3, length), np.float32)
    mask[0, (length + 1) // 2 :] = mask[1] = lowest(ms.float32)
    inputs = q, kv, mask, np.array([heads], np.int32)
    y, stats = compute(kernels.CrossAttend, inputs, q.shape, (3, heads, columns, 2))
    dq, dkv = compute(kernels.CrossAttendGradient, (*inputs, y, stats, dy), q.shape, kv.shape)
    mask[1] = 0  # equal scores
    q[1] = 0
    out, *slopes = attention(
        heads_first(q, 1, heads)[0], *heads_first(kv, 2, heads), mask[:, None, None], heads_first(dy, 1, heads)[0]
    )
    close(y, heads_last(out))
    close(dq[[0, 2]], heads_last(slopes[0])[[0, 2]])
    close(dkv[[0, 2]], heads_last(*slopes[1:])[[0, 2]])
    close(dkv[1, :, dim:], heads_last(slopes[2])[1])


@pytest.mark.parametrize("size", [3, 64, 101])
def test_code_losses(kernels, size):
    rng = np.random.default_rng(size)
    logits, slopes = 5 * rng.standard_normal((3, 11, 4 * size), np.float32), rng.standard_normal(4, np.float32)
    labels = rng.integers(-1, size + 1, (3, 4, 11)).astype(np.int32)
    labels[:, 3] = size  # nothing counts
    losses, each = compute(kernels.CodeLosses, (logits, labels), 4, labels.shape)
    found = compute(kernels.CodeLossesGradient, (logits, labels, each, slopes), logits.shape)[0]
    x = logits.astype(np.float64).reshape(3, 11, 4, size).swapaxes(1, 2)
    counted = (labels >= 0) & (labels < size)
    counts = np.maximum(counted.sum((0, 2)), 1)
    sums = np.log(np.exp(x).sum(-1))
    chosen = np.take_along_axis(x, labels.clip(0, size - 1)[..., None], 3)[..., 0]
    close(losses, ((sums - chosen) * counted).sum((0, 2)) / counts)
    expected = np.exp(x - sums[..., None]) - (np.arange(size) == labels[..., None])
    expected = expected * (counted * (slopes / counts)[:, None])[..., None]
    close(found, expected.swapaxes(1, 2).reshape(logits.shape))


def test_embedding(kernels):
    table, positions, dy = drawn(2, (4 * 9, 70), (20, 70), (3, 11, 70))
    codes = np.random.default_rng(0).integers(0, 9, (3, 4, 11)).astype(np.int32)
    rows = codes + 9 * np.arange(4).reshape(4, 1)
    close(compute(kernels.EmbedCodes, (table, codes, positions), dy.shape)[0], table[rows].sum(1) + positions[:11])
    expected = np.zeros(table.shape)
    np.add.at(expected, rows, dy[:, None])
    close(compute(kernels.EmbedCodesGradient, (table, codes, dy), table.shape)[0], expected)
    for wrong in (-1, 9):
        codes[1, 2, 3] = wrong
        assert native.call(kernels.EmbedCodes, table, codes, positions, np.empty(dy.shape, np.float32)) != 0


def test_sum_of_squares(kernels):
    (x,) = drawn(0, (3, 40001))
    found = compute(kernels.SumOfSquares, (x,), 1)[0]
    np.testing.assert_allclose(found, (x.astype(np.float64) ** 2).sum(), rtol=1e-6)


def test_adamw_kernel(kernels):
    x, m, v, gradient = drawn(4, *[(40001,)] * 4)
    v = np.abs(v)
    rate, decay, scale, beta1, beta2, eps = numbers = [
        np.array([n], np.float32) for n in (0.1, 0.2, 3, 0.9, 0.98, 1e-8)
    ]
    g = scale * gradient
    expected_m, expected_v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
    expected = x - rate * (expected_m / (np.sqrt(expected_v) + eps) + decay * x)
    compute(kernels.AdamW, (x, m, v, gradient, *numbers), 1)
    for found, wanted in ((x, expected), (m, expected_m), (v, expected_v)):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_shapes_that_do_not_fit_are_refused(kernels):
    a, b, c = np.ones((2, 3), np.float32), np.ones((4, 5), np.float32), np.ones((2, 4), np.float32)
    assert native.call(kernels.ProductForward, a, b, c) != 0
    assert native.call(kernels.ProductForward, a, np.ones((4, 3), np.int32), c) != 0
    assert native.call(kernels.SumOfSquares, a.astype(np.float64), np.ones(1, np.float32)) != 0
    assert native.call(kernels.SelfAttend, np.ones((1, 2, 9), np.float32), np.array([2], np.int32), a, b) != 0


def tiny(activation):
    """A model with random weights, the same each time."""
    text = T5Config(vocab_size=30, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, dropout_rate=0.0)
    decoder = MusicgenDecoderConfig(
        vocab_size=16,
        pad_token_id=16,
        bos_token_id=16,
        hidden_size=32,
        ffn_dim=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        activation_function=activation,
        dropout=0.0,
    )
    parts = {"text_encoder": text, "audio_encoder": EncodecConfig(**CODEC), "decoder": decoder}
    config = MusicgenConfig(**{name: part.to_dict() for name, part in parts.items()})
    return MusicgenForConditionalGeneration(config).initialise(0, std=0.2)


def batch():
    rng = np.random.default_rng(5)
    mask = np.ones((3, 9), np.int32)
    mask[1, 5:] = 0
    codes = rng.integers(0, 17, (3, 4, 24)).astype(np.int32)
    return rng.integers(3, 30, (3, 9)).astype(np.int32), mask, np.array([1, 1, 0], np.float32), codes


def taken(network):
    """Losses and gradients of the batch."""
    run = ms.jit(ms.value_and_grad(network, None, network.trainable_params(), has_aux=True), fullgraph=True)
    (loss, parts), slopes = run(*map(Tensor, batch()))
    names = [parameter.name for parameter in network.trainable_params()]
    named = {name: slope.asnumpy() for name, slope in zip(names, slopes, strict=True)}
    return np.array([float(part.asnumpy()) for part in (loss, *parts)]), named


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_language_models_gradients_are_those_of_plain_operations(activation, monkeypatch):
    network = LanguageModelLoss(tiny(activation)).set_train(True)
    assert network.fused is not None
    losses, found = taken(network)
    monkeypatch.setenv("MINDMUSICGEN_KERNELS", "0")
    network = LanguageModelLoss(tiny(activation)).set_train(True)
    assert network.fused is None
    expected_losses, expected = taken(network)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-5)
    assert found.keys() == expected.keys() and len(found) > 20
    for name, slope in expected.items():
        np.testing.assert_allclose(found[name], slope, rtol=0, atol=1e-4 * np.abs(slope).max(), err_msg=name)


class Small(nn.Cell):
    """A loss with matrices and vectors."""

    metric_names = ("loss",)

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = Linear(6, 40, bias=True), LayerNorm(40), Linear(40, 3)
        initialise(self)
        self.wide = Parameter(Tensor(drawn(6, (300, 200))[0]), name="wide")  # more than a task of the optimizer

    def construct(self, x):
        loss = (self.second(self.norm(self.first(x))) ** 2).mean() + 1e-3 * (self.wide**2).sum()
        return loss, ()


def steps(network):
    """What three steps make of the parameters, and the optimizer's own."""
    parameters = network.set_train(True).trainable_params()
    groups = [
        {"params": [p for p in parameters if (p.ndim > 1) == wide], "weight_decay": 0.3 * wide} for wide in (1, 0)
    ]
    optimizer = adamw(groups, WarmupCosine(0.01, 2, 10), 0.9, 0.98)
    step = TrainingStep(network, optimizer, 0.5)
    norms = [float(step.run(Tensor(x))[2].asnumpy()) for x in drawn(8, *[(20, 6)] * 3)]
    return optimizer, norms, {p.name: p.asnumpy() for p in (*parameters, *optimizer.get_parameters())}


def test_adamw_is_mindspores(monkeypatch):
    optimizer, norms, found = steps(Small())
    assert isinstance(optimizer, AdamW) and min(norms) > 0.5  # else nothing is scaled
    monkeypatch.setenv("MINDMUSICGEN_KERNELS", "0")
    optimizer, expected_norms, expected = steps(Small())
    assert not isinstance(optimizer, AdamW)
    np.testing.assert_allclose(norms, expected_norms, rtol=1e-5)
    assert list(found) == list(expected)  # the names, by which a run goes on
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-4, atol=2e-6, err_msg=name)


def test_a_run_without_kernels_goes_on_with_them(tmp_path, monkeypatch):
    batches = drawn(9, *[(20, 6)] * 4)

    def train(stop=None):
        trainer = Trainer(Small(), str(tmp_path / "run"), 4, learning_rate=0.01, warmup=1)
        trainer.resume()

        def drawn_batch(step):
            if step == stop:
                raise KeyboardInterrupt
            return (batches[step],)

        trainer.fit(drawn_batch, every=1, show=False)
        return trainer

    monkeypatch.setenv("MINDMUSICGEN_KERNELS", "0")
    with pytest.raises(KeyboardInterrupt):
        train(stop=2)
    monkeypatch.delenv("MINDMUSICGEN_KERNELS")
    trainer = train()
    assert isinstance(trainer.optimizer, AdamW)
    found = {name: p.asnumpy() for name, p in trainer.state().items()}
    monkeypatch.setenv("MINDMUSICGEN_KERNELS", "0")
    shutil.rmtree(tmp_path / "run")
    for name, p in train().state().items():
        np.testing.assert_allclose(found[name], p.asnumpy(), rtol=1e-4, atol=2e-6, err_msg=name)


def test_losses_are_codebook_cross_entropy():
    """Of the operator in a graph, with its gradient, and of the plain cell."""
    rng = np.random.default_rng(7)
    logits, labels = rng.standard_normal((2, 5, 3 * 7), np.float32), rng.integers(0, 8, (2, 3, 5)).astype(np.int32)
    op, plain = gradients.code_losses_op(), CodebookCrossEntropy(7)

    def fused(x, wanted):
        return op(x, wanted)[0].sum()

    def usual(x, wanted):
        return plain(x.reshape(2, 5, 3, 7).swapaxes(1, 2), wanted).sum()

    (loss, slope), (expected, expected_slope) = (
        ms.jit(ms.value_and_grad(function, 0), fullgraph=True)(Tensor(logits), Tensor(labels))
        for function in (fused, usual)
    )
    np.testing.assert_allclose(loss.asnumpy(), expected.asnumpy(), rtol=1e-5)
    np.testing.assert_allclose(slope.asnumpy(), expected_slope.asnumpy(), atol=1e-6)
