"""Weights of 8 and of 4 bits: the kernels against NumPy on every instruction set, and a tiny model up to its music."""

import ctypes
import math
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
import soundfile
from mindspore import Tensor

from mindmusicgen import InputError, MusicgenForCausalLM, MusicgenForConditionalGeneration, T5EncoderModel, cli
from mindmusicgen.checkpoint.native import stored_quantization
from mindmusicgen.checkpoint.safetensors_file import open_safetensors, write_safetensors
from mindmusicgen.checkpoint.source import NATIVE
from mindmusicgen.generation import sampling
from mindmusicgen.models.layers import shared_parameter
from mindmusicgen.models.quantized import FourBitLinear, QuantizedLinear
from mindmusicgen.musicgen.checkpoint.convert import convert
from mindmusicgen.musicgen.checkpoint.info import describe
from mindmusicgen.musicgen.int8.decoder import FourBitMusicgenDecoder, QuantizedMusicgenDecoder, expand
from mindmusicgen.ops import native, packing, packing4
from mindmusicgen.ops import quantized as quantized_ops
from mindmusicgen.ops.memory import Arena

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = ("amx", "avx512", "avx2", "base")  # a CPU without one of them falls back to the next
LOWEST = -3.4028234e38
LAYOUTS = pytest.mark.parametrize("layout", [packing, packing4], ids=["int8", "int4"])
BITS = pytest.mark.parametrize("bits", ["int8", "int4"])


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """Path of the kernels, built from the sources of today if there is a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        if not quantized_ops.why_not():
            return native.library_path()
        pytest.skip("no C compiler (cc, gcc or clang), and the package was installed without its kernels")
    path = tmp_path_factory.mktemp("kernels") / "_kernels.so"
    flags = ["-O3", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-fvisibility=hidden", "-pthread"]
    sources = sorted((ROOT / "mindmusicgen/ops/csrc").glob("*.c"))
    subprocess.run([compiler, *flags, "-shared", "-fPIC", *sources, "-o", path, "-lm", "-Wl,-z,nodelete"], check=True)
    return str(path)


@pytest.fixture(scope="session", params=VARIANTS)
def kernels(request, library, tmp_path_factory):
    """The loaded library with one instruction set: a copy each, as the set is chosen at the first call."""
    loaded = ctypes.CDLL(shutil.copy(library, tmp_path_factory.mktemp(request.param) / "_kernels.so"))
    before = os.environ.get("MINDMUSICGEN_SIMD")
    os.environ["MINDMUSICGEN_SIMD"] = request.param
    multiply(loaded, np.ones((1, 1), np.float32), np.ones((1, 1), np.float32))
    os.environ.pop("MINDMUSICGEN_SIMD") if before is None else os.environ.update(MINDMUSICGEN_SIMD=before)
    return loaded


@pytest.fixture
def use_kernels(library, monkeypatch):
    """Cells made in this test use the kernels."""
    monkeypatch.setenv("MINDMUSICGEN_KERNELS", library)
    assert quantized_ops.why_not() == ""


def multiply(kernels, x, weight, layout=packing):
    """The kernel's product with a rounded weight, and the same in float64."""
    codes, scale = layout.pack(weight)
    y = np.full((len(x), len(weight)), np.nan, np.float32)
    assert native.call(kernels.QuantizedLinear, x, codes, scale, y) == 0
    with np.errstate(invalid="ignore", over="ignore"):
        return y, x.astype(np.float64) @ layout.unpack(codes, scale, *weight.shape).T.astype(np.float64)


def error(found, expected):
    """Root mean square of the difference over that of what is expected."""
    return float(np.sqrt(((found - expected) ** 2).mean() / (np.asarray(expected, np.float64) ** 2).mean()))


# ---- packing ----


@pytest.mark.parametrize("shape", [(1, 1), (16, 4), (3, 5), (17, 129), (40, 300), (1030, 8)])
def test_packing_rounds_to_the_nearest(shape):
    weight = np.random.default_rng(0).standard_normal(shape, np.float32)
    codes, scale = packing.pack(weight)
    assert (codes.shape, scale.shape) == packing.packed_shapes(*shape)
    back = packing.unpack(codes, scale, *shape)
    groups = [weight[:, i : i + packing.GROUP] for i in range(0, shape[1], packing.GROUP)]
    steps = np.concatenate([np.abs(g).max(1, keepdims=True) / 127 * np.ones_like(g) for g in groups], 1)
    assert (np.abs(back - weight) <= 0.5001 * steps).all()
    tensors = Tensor(codes), Tensor(scale)
    np.testing.assert_array_equal(quantized_ops.dequantised(*tensors, *shape).asnumpy(), back)


def test_packing_of_zeros_and_of_what_is_not_finite():
    codes, scale = packing.pack(np.zeros((3, 7), np.float32))
    assert not packing.unpack(codes, scale, 3, 7).any()
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            packing.pack(np.array([[1, bad]], np.float32))


def test_packing_twice_changes_nothing():
    weight = np.random.default_rng(1).standard_normal((20, 200), np.float32)
    once = packing.unpack(*packing.pack(weight), 20, 200)
    np.testing.assert_allclose(packing.unpack(*packing.pack(once), 20, 200), once, rtol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (16, 8), (3, 5), (17, 129), (40, 300), (130, 8)])
def test_packing_to_4_bits(shape):
    """Nothing is further from what is kept than the steps of its group ask, and better than plain rounding it is."""
    weight = np.random.default_rng(0).standard_normal(shape, np.float32)
    codes, scale = packing4.pack(weight)
    assert (codes.shape, scale.shape) == packing4.packed_shapes(*shape)
    assert (codes.dtype, scale.dtype) == packing4.DTYPES
    back = packing4.unpack(codes, scale, *shape)
    plain, steps = np.empty_like(weight), np.empty_like(weight)
    for first in range(0, shape[1], packing4.GROUP):
        group = slice(first, first + packing4.GROUP)
        steps[:, group] = np.abs(weight[:, group]).max(1, keepdims=True) / 7
        plain[:, group] = np.rint(weight[:, group] / steps[:, group]) * steps[:, group]
    assert (np.abs(back - weight) <= 1.1 * steps).all()
    assert ((back - weight) ** 2).sum() <= ((plain - weight) ** 2).sum() * 1.001 + 1e-6
    found = quantized_ops.dequantised4(Tensor(codes), Tensor(scale), *shape).asnumpy()
    np.testing.assert_array_equal(found, back)


def test_packing_to_4_bits_finds_what_has_4_bits():
    rng = np.random.default_rng(0)
    scale = rng.uniform(0.5, 2, (20, 5, 1)).astype(np.float16).astype(np.float32)
    codes = rng.integers(-8, 8, (20, 5, 32))
    codes[..., 0] = -8
    weight = (codes * scale).reshape(20, 160)
    np.testing.assert_array_equal(packing4.unpack(*packing4.pack(weight), 20, 160), weight)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_kernel_packs_the_same_4_bits(library, tmp_path, monkeypatch, variant):
    """Bit for bit, so that a folder does not depend on the machine that converted it."""
    monkeypatch.setenv("MINDMUSICGEN_SIMD", variant)
    loaded = ctypes.CDLL(shutil.copy(library, tmp_path / "kernels.so"))
    rng = np.random.default_rng(0)
    for shape, size in (((1, 1), 1), ((3, 5), 100), ((17, 129), 0.02), ((40, 300), 1e-3), ((66, 64), 3000)):
        weight = rng.standard_normal(shape, np.float32) * np.float32(size) + np.float32(size / 2)
        weight[:, shape[1] // 2 + 1 :] *= 1e-3  # scales below the normal numbers of float16
        weight[1:2] = 0
        for found, expected in zip(
            packing4.pack(weight, kernel=lambda *a: native.call(loaded.Pack4, *a)), packing4.pack(weight), strict=True
        ):
            np.testing.assert_array_equal(found, expected)
    codes, scale = packing4.pack(weight)
    for wrong in ((weight[0], codes, scale), (weight, codes[:1], scale), (weight, codes, scale.astype(np.float32))):
        assert native.call(loaded.Pack4, *map(np.ascontiguousarray, wrong)) != 0


def test_what_4_bits_cannot_hold_is_refused():
    for bad, words in ((np.nan, "finite"), (np.inf, "finite"), (1e5, "choose int8")):
        with pytest.raises(ValueError, match=words):
            packing4.pack(np.array([[1, bad]], np.float32))
    with pytest.raises(ValueError, match="choose int8"):
        packing4.pack(np.full((4, 4), 1e-6, np.float32))
    assert not packing4.unpack(*packing4.pack(np.zeros((3, 7), np.float32)), 3, 7).any()


# ---- the kernels alone ----


@LAYOUTS
@pytest.mark.parametrize("rows", [1, 2, 3, 4, 5, 7, 8, 16, 33])
@pytest.mark.parametrize("size_in,size_out", [(1, 1), (3, 5), (64, 16), (65, 130), (128, 48), (130, 37), (1000, 37)])
def test_linear_is_the_product_with_rounded_weights(kernels, rows, size_in, size_out, layout):
    rng = np.random.default_rng(rows)
    x = rng.standard_normal((rows, size_in), np.float32) * 10
    y, want = multiply(kernels, x, rng.standard_normal((size_out, size_in), np.float32), layout)
    assert error(y, want) < 1e-4


@LAYOUTS
def test_linear_of_extreme_values(kernels, layout):
    """The largest sums of a group, values of very different size beside each other, and zeros."""
    y, want = multiply(kernels, np.full((3, 256), 7, np.float32), np.full((33, 256), -3, np.float32), layout)
    np.testing.assert_allclose(y, want, rtol=1e-5)
    signs = np.where(np.arange(256) % 2, 1, -1).astype(np.float32)
    y, want = multiply(kernels, np.stack([signs, -signs]), np.tile(signs, (16, 1)), layout)
    np.testing.assert_allclose(y, want, rtol=1e-5)
    x = np.random.default_rng(0).standard_normal((2, 384), np.float32)
    x[0, :128] *= 1e30
    x[0, 128:] *= 1e-20
    x[1] = 0
    y, want = multiply(kernels, x, np.random.default_rng(1).standard_normal((16, 384), np.float32), layout)
    assert error(y[0] / 1e30, want[0] / 1e30) < 1e-4 and not y[1].any()


@LAYOUTS
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_linear_passes_on_what_is_not_finite(kernels, bad, layout):
    x = np.ones((3, 140), np.float32)
    x[1, 139] = bad
    y, _ = multiply(kernels, x, np.ones((20, 140), np.float32), layout)
    assert np.isnan(y[1]).all() and np.isfinite(y[[0, 2]]).all()


@LAYOUTS
def test_linear_refuses_other_shapes_and_dtypes(kernels, layout):
    x, y = np.ones((2, 64), np.float32), np.empty((2, 32), np.float32)
    codes, scale = layout.pack(np.ones((32, 64), np.float32))
    good = [x, codes, scale, y]
    assert native.call(kernels.QuantizedLinear, *good) == 0
    changes = {0: [x.astype(np.float64), x[0], x[:, :40]], 1: [codes.astype(np.int16), codes[:1]]}
    changes |= {2: [scale[:1], scale[..., :8], scale.astype(np.float64)], 3: [y[:1], y[:, :16]]}
    for index, others in changes.items():
        for other in others:
            arguments = [np.ascontiguousarray(other if i == index else a) for i, a in enumerate(good)]
            assert native.call(kernels.QuantizedLinear, *arguments) != 0, (index, other.shape)
    assert native.call(kernels.QuantizedLinear, x, codes, scale) != 0


class Layer:
    """Random weights and buffers of one decoder layer, and what it computes, in float64 with a cache of 8 bits."""

    def __init__(self, rows, heads, size, inner, length, position, text, seed=0, layout=packing):
        rng = np.random.default_rng(seed)
        dim, self.size, self.position = heads * size, size, position
        self.rows, self.heads, self.rng = rows, heads, rng
        self.x = self.draw(rows, dim)
        shapes = ((3 * dim, dim), (dim, dim), (dim, dim), (dim, dim), (inner, dim), (dim, inner))
        self.packed = [layout.pack(self.draw(*s) / np.float32(math.sqrt(s[1]))) for s in shapes]
        self.weights = [layout.unpack(*p, *s).astype(np.float64) for p, s in zip(self.packed, shapes, strict=True)]
        self.norms = [self.draw(dim) * np.float32(0.1) + np.float32(i % 2 == 0) for i in range(6)]
        self.cache = [np.zeros(*shape) for shape in quantized_ops.cache_shapes(rows, heads, length, size)]
        self.past = self.draw(rows, heads, position, size), self.draw(rows, heads, position, size)
        self.cross = self.draw(rows, heads, text, size), self.draw(rows, heads, text, size)
        self.mask = np.zeros((rows, 1, 1, text), np.float32)
        self.mask[..., text - text // 3 :] = LOWEST

    def draw(self, *shape):
        return self.rng.standard_normal(shape, np.float32)

    def fill(self, kernels):
        assert native.call(kernels.FillCache, *self.past, *self.cache, np.ones(1, np.float32)) == 0
        for scales in self.cache[1::2]:  # what was never written does not matter
            scales[:, :, self.position + 1 :] = np.nan

    def arguments(self):
        n, w = self.norms, self.packed
        first = [*n[:2], *w[0], *w[1], *n[2:4], *w[2], *w[3], *n[4:], *w[4], *w[5]]
        place = np.array([self.position], np.int32)
        return [self.x, place, *first, *self.cache, *self.cross, self.mask, np.full_like(self.x, np.nan)]

    def expected(self, x):
        """The outputs for GELU and ReLU."""
        shape, x = (self.rows, self.heads, 1, self.size), np.asarray(x, np.float64)
        x0 = norm(x, *self.norms[:2]) @ self.weights[0].T
        q, k, v = (part.reshape(shape) for part in np.split(x0, 3, axis=1))
        keys, values = (np.concatenate([rounded(a), rounded(b)], 2) for a, b in zip(self.past, (k, v), strict=True))
        x = x + attended(q, keys, values, 0).reshape(x.shape) @ self.weights[1].T
        q = (norm(x, *self.norms[2:4]) @ self.weights[2].T).reshape(shape)
        x = x + attended(q, *self.cross, self.mask).reshape(x.shape) @ self.weights[3].T
        inner = norm(x, *self.norms[4:]) @ self.weights[4].T
        gelu = inner * 0.5 * (1 + np.vectorize(math.erf)(inner / math.sqrt(2)))
        return [x + act @ self.weights[5].T for act in (gelu, np.maximum(inner, 0))]


def norm(x, weight, bias):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * weight + bias


def rounded(x):
    """Keys or values as the cache holds them."""
    step = np.abs(x).max(-1, keepdims=True) / 127
    return np.rint(x / step) * step


def attended(q, k, v, mask):
    scores = q @ k.swapaxes(2, 3) / math.sqrt(q.shape[-1]) + mask
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


LAYERS = {  # rows, heads, size, inner, length, position, text
    "smallest": (1, 1, 4, 16, 16, 0, 1),
    "odd": (3, 3, 5, 48, 50, 17, 7),
    "last column": (2, 3, 20, 48, 64, 63, 7),
    "tile border": (2, 2, 16, 32, 64, 15, 16),
    "many blocks": (2, 2, 64, 64, 1536, 1450, 16),
    "block border": (1, 2, 64, 64, 1024, 512, 16),
    "large head": (2, 2, 130, 64, 528, 520, 5),
    "rows": (9, 4, 8, 64, 64, 30, 33),
}


@LAYOUTS
@pytest.mark.parametrize("sizes", LAYERS.values(), ids=LAYERS)
def test_layer_matches_reference(kernels, sizes, layout):
    layer = Layer(*sizes, layout=layout)
    layer.fill(kernels)
    arguments = layer.arguments()
    assert native.call(kernels.QuantizedLayer, *arguments) == 0
    assert error(arguments[-1], layer.expected(layer.x)[0]) < 1e-4


def test_layer_passes_on_what_is_not_finite(kernels):
    layer = Layer(2, 2, 16, 32, 64, 5, 16)
    layer.fill(kernels)
    layer.x[1, 3] = np.nan
    arguments = layer.arguments()
    assert native.call(kernels.QuantizedLayer, *arguments) == 0
    assert np.isnan(arguments[-1][1]).all() and np.isfinite(arguments[-1][0]).all()


def test_layer_refuses_wrong_arguments(kernels):
    good = Layer(2, 2, 16, 32, 64, 5, 16).arguments()
    assert native.call(kernels.QuantizedLayer, *good) == 0
    for place in (-1, 64):
        wrong = [np.array([place], np.int32) if i == 1 else a for i, a in enumerate(good)]
        assert native.call(kernels.QuantizedLayer, *wrong) != 0
    for index in range(len(good)):
        wrong = [np.concatenate([a, a]) if i == index else a for i, a in enumerate(good)]
        assert native.call(kernels.QuantizedLayer, *wrong) != 0, index
    assert native.call(kernels.QuantizedLayer, *good[:-1]) != 0


def test_layer_of_matrices_of_different_bits(kernels):
    """Activations are rounded for the matrix that comes next."""
    four, eight = (Layer(3, 2, 20, 48, 64, 17, 7, layout=layout) for layout in (packing4, packing))
    for i in (0, 3, 4):
        eight.packed[i], eight.weights[i] = four.packed[i], four.weights[i]
    eight.fill(kernels)
    arguments = eight.arguments()
    assert native.call(kernels.QuantizedLayer, *arguments) == 0
    assert error(arguments[-1], eight.expected(eight.x)[0]) < 1e-4


@LAYOUTS
def test_instruction_sets_agree(library, tmp_path, monkeypatch, layout):
    """Sums of whole numbers: nothing but the last rounding may differ."""
    results = []
    for variant in VARIANTS:
        monkeypatch.setenv("MINDMUSICGEN_SIMD", variant)
        loaded = ctypes.CDLL(shutil.copy(library, tmp_path / f"{variant}.so"))
        layer = Layer(2, 4, 64, 512, 128, 100, 16, layout=layout)
        layer.fill(loaded)
        arguments = layer.arguments()
        assert native.call(loaded.QuantizedLayer, *arguments) == 0
        results.append(arguments[-1])
    for other in results[1:]:
        assert error(other, results[0]) < 3e-5


class Decoder:
    """Two random layers with what stands before and behind them, and the logits of one step, in float64."""

    def __init__(self, pieces, rows, books=3, codes=20, heads=2, size=20, layout=packing):
        rng = np.random.default_rng(0)
        self.position, dim = 17, heads * size
        self.layers = [Layer(rows, heads, size, 48, 50, self.position, 7, seed, layout) for seed in range(2)]
        heads = rng.standard_normal((books * codes, dim), np.float32)
        coarse = packing.pack(heads)
        self.packed = [*coarse, *packing.pack(heads - packing.unpack(*coarse, *heads.shape))]
        self.heads = heads
        self.embedding = rng.standard_normal((books * (codes + 1), dim), np.float32)
        self.positions = rng.standard_normal((50, dim), np.float32)
        self.norm = rng.standard_normal((2, dim), np.float32)
        self.ids = rng.integers(0, codes + 1, (pieces, books)).astype(np.int32)
        self.shape = (rows, books, codes)

    def arguments(self, steps=1, room=3):
        pieces, books = self.ids.shape
        numbers = [np.array([n], t) for n, t in ((1, "f"), (1, "i"), (2, "f"))]  # greedy
        forced, uniforms = np.full((room, pieces, books), -1, np.int32), np.zeros((room, pieces, books), np.float32)
        first = [self.ids, np.array([self.position], np.int32), np.array([steps], np.int32), forced, uniforms]
        first += [np.full(room, 3, np.float32), *numbers, self.embedding, self.positions, *self.norm, *self.packed]
        rest = [a for layer in self.layers for a in layer.arguments()[2:-2]]
        return [
            *first,
            self.layers[0].mask,
            *rest,
            np.full((room, pieces, books), -7, np.int32),
            np.full(self.shape, np.nan, np.float32),
        ]

    def expected(self, activation):
        rows, books, codes = self.shape
        tables = self.embedding.reshape(books, codes + 1, -1)
        x = self.positions[self.position] + sum(tables[k][self.ids[:, k]] for k in range(books))
        x = np.concatenate([x] * (rows // len(x)))
        for layer in self.layers:
            x = layer.expected(x)[activation]
        return (norm(x, *self.norm) @ self.heads.T).reshape(self.shape)


@LAYOUTS
@pytest.mark.parametrize("pieces,rows", [(1, 1), (2, 2), (1, 2), (3, 6)])
def test_decode_step_matches_reference(kernels, pieces, rows, layout):
    for activation, kernel in enumerate((kernels.QuantizedDecode, kernels.QuantizedDecodeRelu)):
        decoder = Decoder(pieces, rows, layout=layout)
        for layer in decoder.layers:
            layer.fill(kernels)
        *_, columns, logits = arguments = decoder.arguments()
        assert native.call(kernel, *arguments) == 0
        want = decoder.expected(activation)
        assert error(logits, want) < 1e-4
        if rows > pieces:
            want = want[pieces:] + (want[:pieces] - want[pieces:]) * 3
        np.testing.assert_array_equal(columns[0], want.argmax(-1))
        assert not columns[1:].any()


def test_decode_steps_in_one_call_are_those_of_several(kernels):
    found = []
    for parts in ((3,), (1, 2), (1, 1, 1)):
        decoder, columns = Decoder(1, 2), []
        for layer in decoder.layers:
            layer.fill(kernels)
        for steps in parts:
            arguments = decoder.arguments(steps)
            assert native.call(kernels.QuantizedDecode, *arguments) == 0
            columns.append(arguments[-2][:steps])
            decoder.ids, decoder.position = columns[-1][-1], decoder.position + steps
        found.append(np.concatenate(columns))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_decode_refuses_wrong_arguments(kernels):
    decoder = Decoder(1, 2)
    for layer in decoder.layers:
        layer.fill(kernels)
    good = decoder.arguments()
    for index in set(range(len(good))) - {10}:  # there may be more positions
        wrong = [np.concatenate([a, a]) if i == index else a for i, a in enumerate(good)]
        assert native.call(kernels.QuantizedDecode, *wrong) != 0, index
    for index, value in ((0, 21), (0, -1), (1, 50), (1, -1), (2, 4), (2, -1), (7, 0)):
        wrong = [np.full_like(a, value) if i == index else a for i, a in enumerate(good)]
        assert native.call(kernels.QuantizedDecode, *wrong) != 0, (index, value)
    assert native.call(kernels.QuantizedDecode, *good[:-1]) != 0
    assert native.call(kernels.QuantizedDecode, *good) == 0


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("top_k,top_p", [(1, 2), (5, 2), (64, 2), (64, 0.7), (20, 0.9), (64, 1e-6), (64, 0.99)])
def test_choice_is_that_of_the_plain_operations(library, guided, top_k, top_p):
    rng, kernel = np.random.default_rng(top_k), ctypes.CDLL(library).Choose
    logits = rng.standard_normal((100 * (1 + guided), 4, 64), np.float32) * 3
    logits[:10] = np.round(logits[:10])  # equal ones
    uniforms, forced = rng.random((100, 4), np.float32), np.full((100, 4), -1, np.int32)
    uniforms[::7], forced[::9] = 0, 3
    numbers = [np.array([n], t) for n, t in ((3, "f"), (0.8, "f"), (top_k, "i"), (top_p, "f"))]
    found = np.full((100, 4), -7, np.int32)
    assert native.call(kernel, logits, forced, uniforms, *numbers, found) == 0
    plain = sampling.guide(Tensor(logits), Tensor(numbers[0])) if guided else Tensor(logits)
    plain = sampling.choose(sampling.filter_logits(plain, *map(Tensor, numbers[1:])), Tensor(uniforms)).asnumpy()
    plain = np.where(forced == -1, plain, forced)
    assert (found != plain).sum() <= 2  # uniforms on the border between two codes


def test_choice_refuses_other_shapes(library):
    kernel = ctypes.CDLL(library).Choose
    numbers = [np.array([n], t) for n, t in ((3, "f"), (1, "f"), (5, "i"), (2, "f"))]
    logits, codes = np.zeros((2, 4, 8), np.float32), np.full((1, 4), -1, np.int32)
    uniforms = np.zeros((1, 4), np.float32)
    assert native.call(kernel, logits, codes, uniforms, *numbers, codes.copy()) == 0
    for wrong in (
        (logits[:, :3], codes, uniforms),
        (logits, codes.astype(np.int64), uniforms),
        (logits[0], codes, uniforms),
    ):
        wrong = map(np.ascontiguousarray, wrong)
        assert native.call(kernel, *wrong, *numbers, codes.copy()) != 0
    logits[0, 0, 0] = np.nan
    assert native.call(kernel, logits, codes, uniforms, *numbers, codes.copy()) == 0


def test_arena():
    arena = Arena(Arena.room([((3, 5), np.uint8), ((7,), np.float32)]))
    first, second = arena.take((3, 5), np.uint8), arena.take((7,), np.float32)
    first[...], second[...] = 1, 2
    assert first.ctypes.data % 64 == second.ctypes.data % 64 == 0 and first.sum() == 15 and second.sum() == 14
    assert Arena(0).take((0,), np.uint8).size == 0


# ---- in MindSpore ----


@pytest.mark.parametrize("kind", [QuantizedLinear, FourBitLinear])
@pytest.mark.parametrize("shape", [(2, 70), (1, 3, 70), (2, 40, 70)])
def test_linear_cell(use_kernels, shape, kind):
    rng = np.random.default_rng(0)
    cell = kind(70, 19)
    codes, scale = kind.layout.pack(rng.standard_normal((19, 70), np.float32))
    cell.weight.set_data(Tensor(codes))
    cell.scale.set_data(Tensor(scale))
    x = rng.standard_normal(shape, np.float32)
    want = x @ kind.layout.unpack(codes, scale, 19, 70).T
    assert error(ms.jit(cell.construct, fullgraph=True)(Tensor(x)).asnumpy(), want) < 1e-4
    plain = ms.jit(cell.plain, fullgraph=True)(Tensor(x.reshape(-1, 70)), cell.weight, cell.scale).asnumpy()
    assert error(plain.reshape(want.shape), want) < 1e-6


SETTINGS = {"max_new_tokens": 12, "do_sample": False, "guidance_scale": 3.0}


def tokens(golden, prompts=1):
    size = golden.model.config.text_encoder.vocab_size
    ids = np.random.default_rng(0).integers(2, size, (prompts, 6)).astype(np.int32)
    return {"input_ids": Tensor(ids), "attention_mask": Tensor(np.ones_like(ids))}


def open_quantised(golden, folder, bits):
    return MusicgenForConditionalGeneration.from_pretrained(str(golden.write(folder)), quantization=bits)


def codes_of(model, inputs, **settings):
    model.codec_graphs.eager = frozenset({"decode"})  # its graph takes seconds to compile
    made = model.generate(**inputs, **(SETTINGS | settings), return_dict_in_generate=True)
    assert np.isfinite(made.audio_values.asnumpy()).all()
    return made.audio_codes.asnumpy()


def logits_of(model, golden):
    rng, books = np.random.default_rng(1), golden.model.config.decoder.num_codebooks
    codes = rng.integers(0, golden.model.config.decoder.vocab_size, (books, 9)).astype(np.int32)
    return model.logits(*tokens(golden).values(), Tensor(codes)).asnumpy()


@pytest.mark.parametrize(
    "bits,kind,most", [("int8", QuantizedMusicgenDecoder, 0.05), ("int4", FourBitMusicgenDecoder, 0.25)]
)
def test_logits_are_near(use_kernels, quad, tmp_path, bits, kind, most):
    model = open_quantised(quad, tmp_path / "quad", bits)
    assert isinstance(model.decoder, kind) and model.decoder.fused
    assert 1e-6 < error(logits_of(model, quad), logits_of(quad.model, quad)) < most


@BITS
@pytest.mark.parametrize("prompts,guidance", [(1, 3.0), (3, 3.0), (1, 1.0)])
def test_steps_equal_those_of_the_plain_operations(use_kernels, quad, tmp_path, prompts, guidance, bits):
    """Greedy codes with the kernels, and with the same rounded weights in float32 and a float cache."""
    model, inputs = open_quantised(quad, tmp_path / "quad", bits), tokens(quad, prompts)
    found = codes_of(model, inputs, guidance_scale=guidance)
    model.use_decoder(expand(model.decoder, model.config.decoder), None)
    expected = codes_of(model, inputs, guidance_scale=guidance)
    assert found.shape == expected.shape and (found == expected).mean() > 0.8


@BITS
def test_prefill_continues_as_steps_do(use_kernels, quad, tmp_path, bits):
    model, inputs = open_quantised(quad, tmp_path / "quad", bits), tokens(quad)
    whole = codes_of(model, inputs)
    rest = codes_of(model, inputs, audio_codes=whole[:, :, :4], max_new_tokens=whole.shape[2] - 4 + 3)
    shared = min(whole.shape[2], rest.shape[2])
    assert (whole[:, :, :shared] == rest[:, :, :shared]).mean() > 0.8


@pytest.mark.parametrize("bits,other", [("int8", "int4"), ("int4", "int8")])
def test_convert_and_open(use_kernels, quad, tmp_path, bits, other):
    source, target = str(quad.write(tmp_path / "float")), str(tmp_path / "packed")
    convert(source, target, quantize=bits)
    assert stored_quantization(target) == bits and stored_quantization(source) is None
    model = MusicgenForConditionalGeneration.from_pretrained(target)
    direct = MusicgenForConditionalGeneration.from_pretrained(source, quantization=bits)
    assert model.quantization == direct.quantization == bits
    np.testing.assert_array_equal(codes_of(model, tokens(quad)), codes_of(direct, tokens(quad)))
    again = MusicgenForConditionalGeneration.from_pretrained(target, quantization=bits)
    np.testing.assert_array_equal(logits_of(again, quad), logits_of(model, quad))
    convert(target, str(tmp_path / "again"))
    first, second = ((tmp_path / name / NATIVE).read_bytes() for name in ("packed", "again"))
    assert first == second
    assert bits in describe(target)
    for refused in (
        lambda: MusicgenForConditionalGeneration.from_pretrained(target, quantization=other),
        lambda: model.quantize(other),
        lambda: convert(target, str(tmp_path / "other"), quantize=other),
    ):
        with pytest.raises(InputError, match=f"{bits}.*{other}"):
            refused()
    # What is not the decoder opens alone, the decoder does not.
    T5EncoderModel.from_pretrained(target)
    with pytest.raises(InputError, match="quantised"):
        MusicgenForCausalLM.from_pretrained(target)


def test_quantize_in_place(use_kernels, quad, tmp_path):
    model = MusicgenForConditionalGeneration.from_pretrained(str(quad.write(tmp_path / "quad")))
    before = codes_of(model, tokens(quad))
    assert model.quantize("int8") is model
    after = codes_of(model, tokens(quad))
    assert before.shape == after.shape
    decoder = model.decoder
    assert model.quantize("int8").decoder is decoder
    for refused in (lambda: model.save_pretrained(str(tmp_path / "saved")), model.initialise):
        with pytest.raises(InputError, match="quantised"):
            refused()


@pytest.mark.parametrize("bits,layout", [("int8", packing), ("int4", packing4)])
def test_without_the_kernels(quad, tmp_path, monkeypatch, bits, layout):
    """Says so once, and computes in float32 with the rounded weights."""
    monkeypatch.setenv("MINDMUSICGEN_KERNELS", "0")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = open_quantised(quad, tmp_path / "quad", bits)
    assert [str(w.message) for w in caught if bits in str(w.message)] == [
        f"{bits} weights are expanded to float32, because MINDMUSICGEN_KERNELS=0 is set"
    ]
    assert model.quantization is None
    weight = quad.model.decoder.layers[0].fc1.weight.asnumpy()
    want = layout.unpack(*layout.pack(weight), *weight.shape)
    np.testing.assert_array_equal(model.decoder.layers[0].fc1.weight.asnumpy(), want)
    assert codes_of(model, tokens(quad)).shape[0] == 1
    # Converting does not need them.
    convert(str(tmp_path / "quad"), str(tmp_path / "packed"), quantize=bits)
    assert stored_quantization(str(tmp_path / "packed")) == bits


@pytest.mark.parametrize(
    "arguments,words",
    [
        ({"quantization": "int3"}, "int3"),
        ({"quantization": "int4", "dtype": "float16"}, "float16"),
        ({"quantization": "int8", "dtype": "float16"}, "float16"),
    ],
)
def test_what_there_is_not_is_refused(quad, tmp_path, arguments, words):
    with pytest.raises(InputError, match=words):
        MusicgenForConditionalGeneration.from_pretrained(str(quad.write(tmp_path / "quad")), **arguments)


def rewrite(path, change, metadata):
    """Write a file again with other tensors or another header."""
    tensors = {name: tensor.read() for name, tensor in open_safetensors(path).items()}
    change(tensors)
    entries = [(name, a.shape, a.dtype, lambda a=a: a) for name, a in tensors.items()]
    write_safetensors(path, entries, metadata)


GOOD = {"format": "mindspore", "quantization": "int8", "quantization_version": packing.VERSION}
NAME = "decoder.layers.0.fc1"


@pytest.mark.parametrize(
    "change,metadata,words",
    [
        (lambda t: None, GOOD | {"quantization_version": "0"}, "version 0.*convert the model again"),
        (lambda t: None, GOOD | {"quantization": "int3"}, "int3.*convert the model again"),
        (lambda t: None, GOOD | {"quantization": "int4"}, "int4, version 2.*convert the model again"),
        (lambda t: None, GOOD | {"quantization": "int4", "quantization_version": "1"}, "does not fit|has shape"),
        (lambda t: None, {"format": "mindspore"}, "convert the model again|does not fit"),
        (lambda t: t.pop(f"{NAME}.scale"), GOOD, f"lacks {NAME}.scale"),
        (lambda t: t.update({f"{NAME}.weight": t[f"{NAME}.weight"][:1]}), GOOD, f"{NAME}.weight has shape"),
        (lambda t: t.update({f"{NAME}.weight": t[f"{NAME}.weight"].astype(np.int8)}), GOOD, "holds .* as I8"),
    ],
)
def test_bad_folders_are_refused(quad, tmp_path, change, metadata, words):
    convert(str(quad.write(tmp_path / "float")), str(tmp_path / "int8"), quantize="int8")
    rewrite(tmp_path / "int8" / NATIVE, change, metadata)
    with pytest.raises(InputError, match=words):
        MusicgenForConditionalGeneration.from_pretrained(str(tmp_path / "int8"))


@BITS
def test_rounding_while_reading_equals_rounding_afterwards(quad, tmp_path, bits):
    """From Hugging Face's layout and from this package's own, one tensor at a time: every code and scale the same."""
    folders = [str(quad.write(tmp_path / "float")), str(tmp_path / "native")]
    convert(*folders)
    after = MusicgenForConditionalGeneration.from_pretrained(folders[0]).quantize(bits)
    expected = {name: parameter.asnumpy() for name, parameter in after.parameters_and_names()}
    for folder in folders:
        made = MusicgenForConditionalGeneration.from_pretrained(folder, quantization=bits)
        found = {name: parameter.asnumpy() for name, parameter in made.parameters_and_names()}
        assert found.keys() == expected.keys()
        for name, values in found.items():
            np.testing.assert_array_equal(values, expected[name], name)


def test_quantised_weights_and_cache_lie_where_they_were_made():
    """MindSpore copies an array for a Parameter that is given by name: 0.4 GB of nothing, for musicgen-small."""
    values = np.zeros((64, 1024), np.uint8)
    assert np.shares_memory(shared_parameter(values).asnumpy(), values)
    assert np.shares_memory(shared_parameter(values, "named").asnumpy(), values)
    assert not shared_parameter(values).requires_grad


@BITS
def test_weights_that_are_not_finite_are_refused(quad, tmp_path, bits):
    model = MusicgenForConditionalGeneration.from_pretrained(str(quad.write(tmp_path / "quad")))
    model.decoder.layers[0].fc1.weight.asnumpy()[0, 0] = np.nan
    with pytest.raises(InputError, match=f"{NAME} cannot be quantised"):
        model.quantize(bits)


@BITS
def test_command_line(use_kernels, tmp_path, capsys, bits):
    sys.path.insert(0, str(ROOT / "scripts"))
    from random_checkpoint import build

    source, target = str(tmp_path / "float"), str(tmp_path / "packed")
    build("tiny", source)
    assert cli.main(["convert", source, "--output", target, "--quantize", bits]) == 0

    def made(folder, *more):
        path = tmp_path / "out.wav"
        words = [
            "generate",
            "a song",
            "--model",
            folder,
            "--max-new-tokens",
            "20",
            "--seed",
            "1",
            "--force",
            "--output",
            str(path),
        ]
        assert cli.main([*words, *more]) == 0
        samples, _ = soundfile.read(path)
        return samples

    converted = made(target)
    np.testing.assert_array_equal(made(source, "--quantization", bits), converted)
    assert (made(source) != converted).any()
    for words in (
        ["convert", source, "--output", target, "--quantize", "int3"],
        ["generate", "--quantization", "int3"],
    ):
        assert cli.main(words) == 2
        assert "int3" in capsys.readouterr().err


def test_opening_keeps_no_page_of_the_weights_it_looked_through(use_kernels, tmp_path):
    """Looking for NaN reads all of them; 0.7 GB of musicgen-small's would stay."""
    convert("demo", str(tmp_path / "int8"), quantize="int8")
    model = MusicgenForConditionalGeneration.from_pretrained(str(tmp_path / "int8"))
    regions = Path("/proc/self/smaps").read_text(errors="replace").split("VmFlags")
    ours = [region for region in regions if f"{tmp_path}/int8/" in region]
    resident = sum(int(re.search(r"\nRss: +(\d+) kB", region)[1]) for region in ours)
    assert model.mapped and len(ours) > 10 and resident < 1000, resident


def test_matrices_of_the_same_number_of_tiles_are_told_apart():
    """MindSpore takes operators that are alike in name and attributes for one, and gave the second the first's size."""
    x = Tensor(np.random.default_rng(0).standard_normal((3, 64), np.float32))
    for size in (18, 30, 25):
        weight = np.random.default_rng(size).standard_normal((size, 64), np.float32)
        cell = QuantizedLinear(64, size)
        for parameter, value in zip((cell.weight, cell.scale), packing.pack(weight), strict=True):
            parameter.set_data(Tensor(value))
        found = cell(x).asnumpy()
        assert found.shape == (3, size)
        np.testing.assert_allclose(found, x.asnumpy() @ weight.T, atol=0.5)
