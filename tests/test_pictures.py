"""Kernels of pictures against NumPy in float64: convolutions of 3 x 3, group norm, and what they refuse."""

import ctypes
import os
import shutil

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from mindmusicgen.ops import native, pictures

pytestmark = pytest.mark.skipif(bool(native.why_not()), reason="the kernels cannot run here")


@pytest.fixture(scope="module", params=["avx512", "avx2", "base"])
def kernels(request, tmp_path_factory):
    """The installed library with one instruction set: a copy each, as the set is chosen at the first call."""
    loaded = ctypes.CDLL(shutil.copy(native.library_path(), tmp_path_factory.mktemp(request.param) / "_kernels.so"))
    before = os.environ.get("MINDMUSICGEN_SIMD")
    os.environ["MINDMUSICGEN_SIMD"] = request.param
    one = np.ones((1, 1, 1), np.float32)
    norm(loaded, one, one[0, 0], one[0, 0], 1, 1e-5, False)
    os.environ.pop("MINDMUSICGEN_SIMD") if before is None else os.environ.update(MINDMUSICGEN_SIMD=before)
    return loaded


def norm(library, x, weight, bias, groups, epsilon, silu):
    y = np.full_like(x, np.nan)
    numbers = np.array([groups], np.int32), np.array([epsilon], np.float32), np.array([silu], np.int32)
    assert native.call(library.GroupNorm, x, weight, bias, *numbers, y) == 0
    return y


@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize(
    "rows,entries,channels,groups", [(1, 1, 4, 2), (2, 64, 24, 3), (2, 65, 33, 11), (1, 500, 128, 32)]
)
def test_group_norm(kernels, rows, entries, channels, groups, silu):
    rng = np.random.default_rng(entries)
    x = (rng.standard_normal((rows, entries, channels)) * 3 + 100).astype(np.float32)  # far from a mean of nothing
    weight, bias = rng.standard_normal((2, channels), np.float32)
    parts = x.astype(np.float64).reshape(rows, entries, groups, -1)
    parts = parts - parts.mean((1, 3), keepdims=True)
    parts = parts / np.sqrt((parts**2).mean((1, 3), keepdims=True) + 1e-5)
    wanted = parts.reshape(x.shape) * weight + bias
    if silu:
        wanted = wanted / (1 + np.exp(-wanted))
    np.testing.assert_allclose(norm(kernels, x, weight, bias, groups, 1e-5, silu), wanted, atol=2e-5)


def convolved(x, weight, bias, stride):
    """[B, H, W, C] and [O, 3, 3, C], in float64."""
    padded = np.pad(x.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = x.shape[1:3]
    y = sum(
        padded[:, line : line + height, column : column + width] @ weight[:, line, column].T.astype(np.float64)
        for line in range(3)
        for column in range(3)
    )
    return y[:, ::stride, ::stride] + bias


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "shape,size",
    [((1, 1, 1, 1), 1), ((2, 13, 16, 40), 24), ((1, 5, 3, 64), 33), ((3, 40, 9, 8), 200), ((2, 125, 16, 96), 130)],
)
def test_convolution(shape, size, stride):
    if pictures.conv3x3_op(ms.float32, stride) is None:
        assert native.linear_rows() == native.FEW_ROWS  # no tile unit: `musicldm.layers` multiplies otherwise
        return
    rng = np.random.default_rng(size)
    x, weight = rng.standard_normal(shape, np.float32), rng.standard_normal((size, 3, 3, shape[3]), np.float32)
    bias = rng.standard_normal(size).astype(np.float32)
    found = pictures.conv3x3_op(ms.float32, stride)(Tensor(x), Tensor(weight.reshape(size, -1)), Tensor(bias)).asnumpy()
    wanted = convolved(x, weight, bias, stride)
    np.testing.assert_allclose(found, wanted, atol=2e-6 * np.abs(wanted).max())


@pytest.mark.parametrize("dilation", [1, 3, 5])
@pytest.mark.parametrize("shape,size,taps", [((1, 1, 1), 1, 3), ((2, 70, 40), 24, 7), ((1, 300, 64), 33, 11)])
def test_convolution_along_time(shape, size, taps, dilation):
    operator = pictures.conv_time_op(ms.float32)
    if operator is None:
        assert native.linear_rows() == native.FEW_ROWS  # no tile unit: `musicldm.vocoder` multiplies otherwise
        return
    rng = np.random.default_rng(size)
    x, weight = rng.standard_normal(shape, np.float32), rng.standard_normal((size, taps, shape[2]), np.float32)
    bias, reach = rng.standard_normal(size).astype(np.float32), taps // 2 * dilation
    padded = np.pad(x.astype(np.float64), ((0, 0), (reach, reach), (0, 0)))
    parts = [padded[:, i * dilation :][:, : shape[1]] @ weight[:, i].T.astype(np.float64) for i in range(taps)]
    wanted = sum(parts) + bias
    inputs = Tensor(x), Tensor(weight.reshape(size, -1)), Tensor(bias), Tensor(np.array([dilation], np.int32))
    np.testing.assert_allclose(operator(*inputs).asnumpy(), wanted, atol=2e-6 * np.abs(wanted).max())


def test_other_shapes_are_refused():
    library = ctypes.CDLL(native.library_path())
    x, weight, bias, y = (np.zeros(s, np.float32) for s in ((2, 5, 4, 8), (6, 72), (6,), (2, 5, 4, 6)))
    accepted = 0 if library.LinearTakesManyRows() else 4
    assert native.call(library.Conv3x3, x, weight, bias, y) == accepted
    assert native.call(library.Conv3x3, x, weight, bias, np.zeros((2, 3, 2, 6), np.float32)) == accepted
    for wrong in ((2, 3, 4, 6), (2, 2, 2, 6), (1, 5, 4, 6), (2, 5, 4, 5)):
        assert native.call(library.Conv3x3, x, weight, bias, np.zeros(wrong, np.float32)) != 0
    assert native.call(library.Conv3x3, x, weight[:, 1:].copy(), bias, y) != 0
    along, one = (x.reshape(2, 20, 8), np.zeros((6, 24), np.float32), bias), np.array([1], np.int32)
    assert native.call(library.ConvTime, *along, one, y.reshape(2, 20, 6)) == (0 if accepted == 0 else 3)
    assert native.call(library.ConvTime, *along, one - 1, y.reshape(2, 20, 6)) != 0
    assert native.call(library.ConvTime, *along, one, y.reshape(2, 20, 6)[:, 1:].copy()) != 0
    assert native.call(library.ConvTime, along[0], weight[:, :32].copy(), bias, one, y.reshape(2, 20, 6)) != 0
    flat, numbers = x.reshape(2, 20, 8), [np.array([2], np.int32), np.array([1], np.float32), np.array([0], np.int32)]
    assert native.call(library.GroupNorm, flat, bias, bias, *numbers, flat.copy()) != 0  # 6 numbers for 8 channels
    numbers[0] = np.array([3], np.int32)
    eight = np.zeros(8, np.float32)
    assert native.call(library.GroupNorm, flat, eight, eight, *numbers, flat.copy()) != 0  # 3 groups of 8 channels
