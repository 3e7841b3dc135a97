"""The kernel of convolutions along time against NumPy in float64, and the cells with it against those without."""

import ctypes
import os
import shutil
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen.models.convolutions import Conv1d, ConvTranspose1d
from mindmusicgen.ops import convolution, native

pytestmark = pytest.mark.skipif(bool(native.why_not()), reason="the kernels cannot run here")
CONFIG = {"use_causal_conv": False, "norm_type": "weight_norm", "trim_right_ratio": 1.0}


@pytest.fixture(scope="module", params=["avx512", "avx2", "base"])
def kernels(request, tmp_path_factory):
    """The installed library with one instruction set: a copy each, as the set is chosen at the first call."""
    loaded = ctypes.CDLL(shutil.copy(native.library_path(), tmp_path_factory.mktemp(request.param) / "_kernels.so"))
    before = os.environ.get("MINDMUSICGEN_SIMD")
    os.environ["MINDMUSICGEN_SIMD"] = request.param
    convolve(loaded, *(np.ones(shape, np.float32) for shape in ((1, 1, 1), (9, 1), (9,))), 1, taps=1)
    os.environ.pop("MINDMUSICGEN_SIMD") if before is None else os.environ.update(MINDMUSICGEN_SIMD=before)
    return loaded


def convolve(library, x, weight, bias, length, added=None, end=None, **told):
    y = np.full((len(x), length, len(bias)), np.nan, np.float32)
    numbers = convolution.numbers(**told, added=added is not None).asnumpy()
    end = np.array([x.shape[1] if end is None else end], np.int32)
    assert native.call(library.Convolve, x, weight, bias, bias if added is None else added, numbers, end, y) == 0
    return y


def padded(x, left, right, reflect):
    """In float64, with ELU."""
    x = np.where(x < 0, np.expm1(np.minimum(x, 0).astype(np.float64)), x)
    return np.pad(x, ((0, 0), (left, right), (0, 0)), mode="reflect" if reflect else "constant")


@pytest.mark.parametrize("reflect,taps_first", [(False, False), (True, True)])
@pytest.mark.parametrize(
    "rows,samples,channels,out,taps,dilation",
    [(1, 17, 3, 40, 3, 1), (2, 53, 7, 33, 3, 2), (1, 700, 64, 32, 5, 1), (2, 300, 20, 3, 7, 1), (1, 40, 5, 2, 3, 2)],
)
def test_convolution(kernels, reflect, taps_first, rows, samples, channels, out, taps, dilation):
    rng, reach = np.random.default_rng(samples), (taps - 1) * dilation
    x, added = (rng.standard_normal((rows, samples, size), np.float32) for size in (channels, out))
    weight, bias = rng.standard_normal((taps, out, channels), np.float32), rng.standard_normal(out, np.float32)
    matrix = weight.reshape(-1, channels) if taps_first else weight.transpose(1, 0, 2).reshape(out, -1)
    told = {"taps": taps, "dilation": dilation, "left": reach // 2, "reflect": reflect, "elu": True}
    y = convolve(kernels, x, np.ascontiguousarray(matrix), bias, samples, added, taps_first=taps_first, **told)
    around = padded(x, reach // 2, reach - reach // 2, reflect)
    want = sum(around[:, i * dilation : i * dilation + samples] @ weight[i].T for i in range(taps)) + bias + added
    np.testing.assert_allclose(y, want, atol=1e-4)
    if samples < 100:  # of which the last samples mean nothing
        part = x.copy()
        part[:, samples - 4 :] = np.nan
        found = convolve(kernels, part, np.ascontiguousarray(matrix), bias, samples, added, samples - 4,
                         taps_first=taps_first, **told)  # fmt: skip
        around = padded(x[:, : samples - 4], reach // 2, reach - reach // 2, reflect)
        want = sum(around[:, i * dilation :][:, : samples - 4] @ weight[i].T for i in range(taps))
        np.testing.assert_allclose(found[:, : samples - 4], want + bias + added[:, : samples - 4], atol=1e-4)


def test_strided_convolution(kernels):
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(shape, np.float32) for shape in ((2, 120, 6), (70, 8, 6), (70,)))
    y = convolve(kernels, x, weight.reshape(70, -1), bias, 30, taps=2, stride=4, left=2, reflect=True, elu=True)
    windows = np.stack([padded(x, 2, 2, True)[:, i * 4 : i * 4 + 8] for i in range(30)], 1)
    np.testing.assert_allclose(y, np.einsum("bnkc,okc->bno", windows, weight) + bias, atol=1e-4)


@pytest.mark.parametrize("samples,channels,out,stride", [(33, 20, 12, 4), (20, 1024, 512, 8), (500, 16, 8, 5)])
def test_transposed_convolution(kernels, samples, channels, out, stride):
    """The second has a matrix that is laid out piece by piece."""
    rng = np.random.default_rng(samples)
    weight = (rng.standard_normal((stride, out, 2, channels)) / np.sqrt(channels)).astype(np.float32)
    x, bias = rng.standard_normal((1, samples, channels), np.float32), rng.standard_normal(out, np.float32)
    told = {"taps": 2, "stride": stride, "left": stride // 2, "elu": True, "transposed": True}
    y = convolve(kernels, x, weight.reshape(stride * out, -1), bias, samples * stride, **told)
    around = padded(x, 1, 1, False)
    whole = np.einsum("bnc,soc->bnso", around[:, 1:], weight[:, :, 0])
    whole += np.einsum("bnc,soc->bnso", around[:, :-1], weight[:, :, 1])
    want = whole.reshape(1, -1, out)[:, stride // 2 :][:, : samples * stride] + bias
    np.testing.assert_allclose(y, want, atol=1e-4)


def test_what_is_not_finite_stays_where_it_is(kernels):
    x, weight, bias = np.ones((1, 60, 4), np.float32), np.ones((40, 12), np.float32), np.zeros(40, np.float32)
    x[0, 30, 2] = np.nan
    for out in (40, 2):
        y = convolve(kernels, x, weight[:out], bias[:out], 60, taps=3, left=1, elu=True)
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(y[0]).any(1)), [29, 30, 31])


def test_other_shapes_are_refused(kernels):
    shapes = ((1, 20, 4), (40, 12), (40,), (1, 20, 40))
    arrays = [np.zeros(shape, np.float32) for shape in shapes]
    numbers, end = convolution.numbers(3, left=1, added=True).asnumpy(), np.array([20], np.int32)
    good = [*arrays, numbers, end, arrays[3].copy()]
    assert native.call(kernels.Convolve, *good) == 0
    for index in range(len(good)):
        wrong = [np.concatenate([a, a]) if i == index else a for i, a in enumerate(good)]
        assert native.call(kernels.Convolve, *wrong) != 0, index
    assert native.call(kernels.Convolve, *good[:5], end + 1, good[6]) != 0
    for place, value in ((1, 0), (2, 0), (3, 0), (4, -1)):
        bad = numbers.copy()
        bad[place] = value
        assert native.call(kernels.Convolve, *good[:4], bad, *good[5:]) != 0, place


def cells(mode):
    config = SimpleNamespace(**CONFIG, pad_mode=mode)
    yield Conv1d(config, 12, 40, 3, elu=True), True
    yield Conv1d(config, 40, 12, 3, dilation=2, elu=True), True
    yield Conv1d(config, 12, 24, 8, stride=4), True
    yield Conv1d(config, 12, 1, 7, elu=True), True
    yield ConvTranspose1d(config, 12, 6, 8, 4, elu=True), False


@pytest.mark.parametrize("mode", ["reflect", "constant"])
def test_cells_give_the_same_without_the_kernel(mode):
    rng = np.random.default_rng(0)
    for cell, adds in cells(mode):
        cell.set_train(False)
        for parameter in cell.get_parameters():
            parameter.set_data(Tensor(rng.standard_normal(parameter.shape, np.float32) / 4))
        values = rng.standard_normal((2, 80, cell.in_channels), np.float32)
        x, end = Tensor(values), Tensor(np.array([76], np.int32))
        more = (Tensor(rng.standard_normal(cell(x).shape, np.float32)),) if adds else ()
        assert cell.takes(cell.padded_op, x) if adds else cell.takes(x)
        found = cell(x, *more), *cell.until(x, end, *more), *((cell.convolve(x),) if adds else ())
        compiled = ms.jit(cell.construct, fullgraph=True)(x, *more)
        cell.padded_op = cell.unpadded_op = cell.kernel = None
        want = cell(x, *more), *cell.until(x, end, *more), *((cell.convolve(x),) if adds else ())
        np.testing.assert_allclose(compiled.asnumpy(), want[0].asnumpy(), atol=1e-4)
        assert int(found[2]) == int(want[2])
        last = int(want[2])
        for i in (0, 1, 3)[: len(found) - 1]:
            a, b = (side[i].asnumpy() for side in (found, want))
            np.testing.assert_allclose(a[:, : last if i == 1 else None], b[:, : last if i == 1 else None], atol=1e-4)


def test_training_takes_what_can_be_differentiated():
    cell = next(cells("reflect"))[0]
    x = Tensor(np.ones((1, 80, 12), np.float32))
    assert cell.set_train(False).takes(cell.padded_op, x) and not cell.set_train(True).takes(cell.padded_op, x)
    gradient = ms.grad(lambda x: cell(x).sum())(x)
    assert np.isfinite(gradient.asnumpy()).all()
