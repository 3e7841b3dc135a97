"""The operators of csrc/rings.c against NumPy: every kind of attention, instruction set and form of weights."""

import ctypes
import shutil

import numpy as np
import pytest

from mindmusicgen.ops import bfloat16, native, packing
from mindmusicgen.ops.rings import KINDS

HEADS, SIZE, ROW, ROWS, PRIME, BEFORE, IDS, DIM, INNER, ROWS_OF_CROSS = 2, 21, 6, 4, 9, 4, 19, 37, 45, 5
POSITIONS, WIDTH = ROW * ROWS, HEADS * SIZE
LENGTHS = {"row": ROW, "column": POSITIONS, "previous": 2 * ROW, "prime": PRIME + 1, "dense": POSITIONS}


@pytest.fixture(scope="module", params=["base", "avx2", "avx512"])
def kernels(request, tmp_path_factory):
    """The library with one instruction set: a copy each, as the set is chosen at the first call."""
    path = native.library_path()
    if path is None:
        pytest.skip(native.why_not())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINDMUSICGEN_SIMD", request.param)
        library = ctypes.CDLL(shutil.copy(path, tmp_path_factory.mktemp(request.param) / "_kernels.so"))
        Network(1).fill(library, 1)
        Network(1).decode(library, BEFORE, 0, np.zeros(1, np.int32))
        yield library


class Network:
    """Random weights, what a window is about, and the buffers, for `samples` rows."""

    def __init__(self, samples, quantised=False, half=False, seed=0, kinds=KINDS):
        rng = np.random.default_rng(seed)
        self.samples, self.kinds, self.quantised, self.half = samples, kinds, quantised, half

        def draw(*shape, scale=0.3):
            return rng.standard_normal(shape, np.float32) * np.float32(scale)

        self.table, self.places, self.start = draw(IDS, DIM), draw(POSITIONS, DIM), draw(samples, DIM)
        self.conditions = draw(samples, POSITIONS - BEFORE, DIM)
        self.ids = rng.integers(0, IDS, (samples, POSITIONS)).astype(np.int32)
        self.layers, self.buffers = [], []
        for kind in kinds:
            ins, outs = (DIM, WIDTH, DIM, INNER), ((1 if kind == "cross" else 3) * WIDTH, DIM, INNER, DIM)
            matrices = [draw(out, size, scale=size**-0.5) for out, size in zip(outs, ins, strict=True)]
            if quantised:  # what the codes stand for
                matrices = [packing.unpack(*packing.pack(one), *one.shape) for one in matrices]
            norms = [(1 + draw(DIM, scale=0.1), draw(DIM, scale=0.1)) for _ in range(2)]
            self.layers.append((norms, matrices, [draw(len(one), scale=0.1) for one in matrices]))
            count = samples * HEADS * LENGTHS.get(kind, ROWS_OF_CROSS)
            kept = np.zeros((2, count, SIZE), np.uint16 if half and kind != "cross" else np.float32)
            if kind == "cross":
                kept[...] = draw(2, count, SIZE)
            self.buffers.append(kept)

    def arguments(self):
        """Sizes and kinds; tables; layers."""
        sizes = np.array([HEADS, ROW, ROWS, PRIME, BEFORE, 1], np.int32)
        outer = [self.table, self.places, self.start, self.conditions.reshape(-1, DIM)]
        inner = []
        for (norms, matrices, biases), (keys, values) in zip(self.layers, self.buffers, strict=True):
            for i, matrix in enumerate(matrices):
                inner += norms[i // 2] if i % 2 == 0 else ()
                inner += packing.pack(matrix) if self.quantised else (matrix,)
                inner += (biases[i],)
            inner += [keys, values]
        return [sizes, np.array([KINDS.index(kind) for kind in self.kinds], np.int32)], outer, inner

    def fill(self, library, known):
        """RingFill of the first positions: the last states."""
        facts, outer, inner = self.arguments()
        y = np.full((self.samples, DIM), np.nan, np.float32)
        place = [np.array([n], np.int32) for n in (known, 0)]
        assert native.call(library.RingFill, self.ids, *place, *facts, *outer, *inner, y) == 0
        return y

    def decode(self, library, position, steps, newest, settings=(1.0, 1, 2.0), most=3):
        """RingDecode: ids and the last logits."""
        facts, outer, inner = self.arguments()
        made = np.full((most, self.samples), -1, np.int32)
        logits = np.full((self.samples, IDS), np.nan, np.float32)
        place = [np.array([n], np.int32) for n in (position, steps)]
        filters = [np.array([n], t) for n, t in zip(settings, (np.float32, np.int32, np.float32), strict=True)]
        drawn = np.random.default_rng(1).random((most, self.samples), np.float32)
        asked = (newest, *place, *facts, *outer, self.table, drawn, *filters, *inner)
        self.code = native.call(library.RingDecode, *asked, made, logits)
        return made, logits

    def expected(self, ids):
        """The states and logits of every position but for rounding, [B, T, W] and [B, T, V], of ids [B, T]."""
        count = ids.shape[1]
        before = np.concatenate([self.start[:, None], self.table[ids[:, :-1]]], 1).astype(np.float64)
        added = np.concatenate([np.zeros((self.samples, BEFORE, DIM)), self.conditions], 1)[:, :count]
        x = before + self.places[:count] + added
        for kind, (norms, matrices, biases), kept in zip(self.kinds, self.layers, self.buffers, strict=True):
            mixed = self.mixed(kind, norm(x, *norms[0]) @ matrices[0].T + biases[0], kept)
            x = x + mixed @ matrices[1].T + biases[1]
            wide = norm(x, *norms[1]) @ matrices[2].T + biases[2]
            x = x + wide / (1 + np.exp(-1.702 * wide)) @ matrices[3].T + biases[3]
        return x, (x + added) @ self.table.T

    def mixed(self, kind, projected, kept):
        """Attention over whole sequences."""
        count = projected.shape[1]
        heads = (
            [part.reshape(self.samples, count, HEADS, SIZE).swapaxes(1, 2) for part in np.split(projected, 3, 2)]
            if kind != "cross"
            else None
        )
        if kind == "cross":
            q = projected.reshape(self.samples, count, HEADS, SIZE).swapaxes(1, 2)
            k, v = kept.reshape(2, self.samples, HEADS, -1, SIZE).astype(np.float64)
            seen = np.ones((count, ROWS_OF_CROSS), bool)
        else:
            q, k, v = heads
            here, there = np.arange(count)[:, None], np.arange(count)[None]
            past = there <= here
            seen = {
                "row": past & (there // ROW == here // ROW),
                "column": past & (there % ROW == here % ROW),
                "previous": there // ROW == here // ROW - 1,
                "prime": past & (there < PRIME),
                "dense": past,
            }[kind]
        scores = np.where(seen, q @ k.swapaxes(2, 3) / np.sqrt(SIZE), -np.inf)
        weights = np.where(seen, np.exp(scores - np.where(seen, scores, -1e30).max(-1, keepdims=True)), 0)
        y = weights / np.maximum(weights.sum(-1, keepdims=True), 1e-300) @ v
        return y.swapaxes(1, 2).reshape(self.samples, count, WIDTH)


def norm(x, weight, bias):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * weight + bias


FORMS = {"float32": (False, False, 1e-4), "int8": (True, False, 2e-3), "int8, half": (True, True, 2e-2)}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("known", [1, BEFORE, ROW, 11, POSITIONS - 1])
def test_known_positions_and_steps(kernels, form, known):
    quantised, half, rough = FORMS[form]
    net = Network(2, quantised, half, seed=known)
    states, logits = net.expected(net.ids)
    if known:
        found = net.fill(kernels, known)
        assert np.abs(found - states[:, known - 1]).max() <= rough * np.abs(states).max()
    position = max(known, BEFORE)
    for at in range(known, position):  # what lies before the music is known as a whole
        net.fill(kernels, at + 1)
    for at in range(position, POSITIONS):
        made, found = net.decode(kernels, at, 1, np.ascontiguousarray(net.ids[:, at - 1]))
        assert net.code == 0
        assert np.abs(found - logits[:, at]).max() <= rough * np.abs(logits).max()
        assert (made[0] == found.argmax(-1)).all() and (made[1:] == 0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_alone(kernels, kind):
    """Several steps in one call choose what single ones do, wherever a row ends."""
    net = Network(3, seed=5, kinds=(kind, kind))
    net.fill(kernels, BEFORE)
    first, _ = net.decode(kernels, BEFORE, 3, np.ascontiguousarray(net.ids[:, BEFORE - 1]), (0.8, 7, 0.9))
    ids = np.concatenate([net.ids[:, :BEFORE], first.T], 1)
    made, found = net.decode(kernels, BEFORE + 3, 2, np.ascontiguousarray(ids[:, -1]))
    ids = np.concatenate([ids, made[:2].T], 1)
    _, logits = net.expected(ids)
    assert np.abs(found - logits[:, -1]).max() <= 1e-4 * np.abs(logits).max()
    assert (made[0] == logits[:, -2].argmax(-1)).all()


def test_halves_are_the_nearest_bfloat16(kernels):
    net = Network(1, half=True, kinds=("dense",))
    exact = Network(1, kinds=("dense",))
    net.fill(kernels, 10)
    exact.fill(kernels, 10)
    kept = exact.buffers[0].reshape(2, HEADS, POSITIONS, SIZE)[:, :, :10]
    assert (net.buffers[0].reshape(2, HEADS, POSITIONS, SIZE)[:, :, :10] == bfloat16.to_bits(kept)).all()


def test_what_does_not_fit_is_refused(kernels):
    net = Network(2)
    newest = np.zeros(2, np.int32)
    net.fill(kernels, BEFORE)
    for position, steps, most in ((BEFORE - 1, 1, 3), (POSITIONS, 1, 3), (POSITIONS - 1, 2, 3), (9, 4, 3), (9, -1, 3)):
        net.decode(kernels, position, steps, newest, most=most)
        assert net.code != 0
    net.decode(kernels, 9, 1, newest + IDS)
    assert net.code != 0
    net.decode(kernels, 9, 1, newest, settings=(1.0, 0, 2.0))
    assert net.code != 0
    net.buffers[0] = np.zeros((2, 2 * HEADS * ROW, SIZE + 1), np.float32)
    net.decode(kernels, 9, 1, newest)
    assert net.code != 0
    net = Network(2)
    net.layers[3] = net.layers[0][0], net.layers[0][1][:3] + [net.layers[0][1][3][:, :-1].copy()], net.layers[0][2]
    net.decode(kernels, 9, 1, newest)
    assert net.code != 0
