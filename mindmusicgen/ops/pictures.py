"""Operators of csrc/pictures.c: convolutions of pictures whose channels lie together, and group norm; float32 on CPU.

A convolution reads its neighbourhoods while they become tiles, so that none is put together in memory; group norm and
SiLU go through a picture three times where MindSpore's operations need ten.
"""

import ctypes
import functools

import mindspore as ms
import numpy as np
from mindspore import ops

from . import native
from .bfloat16 import activation_dtype, from_bits, to_bits


def _norm_is_right(library):
    rng = np.random.default_rng(0)
    x, weight, bias = (rng.standard_normal(shape, np.float32) for shape in ((2, 70, 6), (6,), (6,)))
    y = np.full_like(x, np.nan)
    numbers = np.array([2], np.int32), np.array([0.1], np.float32), np.array([0], np.int32)
    right = native.call(library.GroupNorm, x, weight, bias, *numbers, y) == 0
    parts = x.reshape(2, 70, 2, 3)
    parts = parts - parts.mean((1, 3), keepdims=True)
    parts = parts / np.sqrt((parts * parts).mean((1, 3), keepdims=True) + 0.1)
    return right and np.allclose(y, parts.reshape(x.shape) * weight + bias, atol=1e-4)


def can_multiply_bfloat16():
    """Whether there is what multiplies bfloat16 on this CPU: the kernels, and a tile unit (AMX)."""
    return _path(ms.float32) is not None and native.product_op(ms.float32) is not None


def _product_is_right(library):
    """Whether products of bfloat16 are right, where there is a unit for them."""
    if not library.LinearTakesManyRows():
        return True
    x, w = np.random.default_rng(0).standard_normal((2, 35, 45), np.float32)
    bits, y = to_bits(w), np.full((35, 35), np.nan, np.float32)
    expected = from_bits(to_bits(x)) @ from_bits(bits).T
    return native.call(library.Product, x, bits, y) == 0 and np.allclose(y, expected, atol=1e-4)


@functools.cache
def _usable(path):
    """Whether the library at `path` has these kernels, and they compute what they should."""
    library = ctypes.CDLL(path)
    names = ("GroupNorm", "Conv3x3", "ConvTime", "Product")
    return all(hasattr(library, name) for name in names) and _norm_is_right(library) and _product_is_right(library)


def _path(dtype):
    path = native.library_path() if dtype == ms.float32 else None
    return path if path and _usable(path) else None


@functools.cache
def _conv3x3_op(path, stride):
    def shape(x, weight, bias):
        return [x[0], -(-x[1] // stride), -(-x[2] // stride), bias[0]]

    op = ops.Custom(f"{path}:Conv3x3", shape, lambda x, *_: x, func_type="aot")
    op.add_prim_attr("stride", stride)  # MindSpore takes operators that are alike in name and attributes for one
    return op


@functools.cache
def _group_norm_op(path):
    return ops.Custom(f"{path}:GroupNorm", lambda x, *_: x, lambda x, *_: x, func_type="aot")


def conv3x3_op(dtype, stride):
    """The operator (x [B, H, W, C], weight [O, 9 C], bias [O]) -> [B, ceil(H / stride), ceil(W / stride), O].

    A row of the weight goes through the lines of the window, the columns, the channels. None where there is no tile
    unit (AMX), or another dtype.

    Args:
        dtype (mindspore.dtype): of the weights: float32 or bfloat16.
        stride (int): 1 or 2.

    Supported Platforms:
        ``CPU``
    """
    path = _path(activation_dtype(dtype)) if native.product_op(activation_dtype(dtype)) else None
    return _conv3x3_op(path, stride) if path else None


def group_norm_op():
    """The operator (x [B, N, C] float32, weight, bias [C], groups, epsilon, silu [1] each) -> [B, N, C]; None if not
    available.

    Supported Platforms:
        ``CPU``
    """
    path = _path(ms.float32)
    return _group_norm_op(path) if path else None


@functools.cache
def _conv_time_op(path):
    return ops.Custom(
        f"{path}:ConvTime", lambda x, w, bias, *_: [x[0], x[1], bias[0]], lambda x, *_: x, func_type="aot"
    )


def conv_time_op(dtype):
    """The operator (x [B, N, C], weight [O, k C], bias [O], dilation [1] int32) -> [B, N, O], a convolution along time
    with k taps, k odd, and zeros at both ends. A row of the weight goes through the taps, then the channels. None where
    there is no tile unit (AMX), or another dtype.

    Args:
        dtype (mindspore.dtype): of x and the weights.

    Supported Platforms:
        ``CPU``
    """
    path = _path(activation_dtype(dtype)) if native.product_op(activation_dtype(dtype)) else None
    return _conv_time_op(path) if path else None


@functools.cache
def _product_op(path):
    return ops.Custom(f"{path}:Product", lambda x, w: [x[0], w[0]], lambda x, *_: x, func_type="aot")


def bfloat16_product_op():
    """The operator (x [rows, in], bits of the weight [out, in]) -> [rows, out]; None without a tile unit.

    Supported Platforms:
        ``CPU``
    """
    return _product_op(_path(ms.float32)) if can_multiply_bfloat16() else None
