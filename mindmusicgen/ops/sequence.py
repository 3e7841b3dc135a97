"""Operators of csrc/sequence.c: attention of whole sequences out of one matrix, and the exact GELU; float32 on CPU.

MindSpore's own need transposed copies of q, k and v, a mask of their scores, and for GELU five temporaries: together as
much time as the matrix products beside them.
"""

import ctypes
import functools

import mindspore as ms
import numpy as np
from mindspore import ops

from . import native
from .bfloat16 import weights_only


def _attention_is_right(library):
    rng = np.random.default_rng(0)
    qkv, keys, values = (
        rng.standard_normal(shape, np.float32) for shape in ((1, 21, 30), (1, 2, 23, 5), (1, 2, 23, 5))
    )
    y = np.full((1, 21, 10), np.nan, np.float32)
    q, k, v = qkv.reshape(21, 3, 2, 5).transpose(1, 2, 0, 3)
    numbers = np.array([2], np.int32), np.array([1], np.int32)
    right = native.call(library.FillingAttention, qkv, *numbers, keys, values, y) == 0
    weights = np.tril(np.exp(q @ k.swapaxes(1, 2) / np.sqrt(5)))
    want = (weights / weights.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(1, 21, 10)
    return right and np.allclose(y, want, atol=1e-4) and np.array_equal(keys[0, :, :21], k)


@functools.cache
def _usable(path):
    """Whether the library at `path` has these kernels, and they compute what they should."""
    library = ctypes.CDLL(path)
    names = ("FillingAttention", "RoughAttention", "Gelu")
    return all(hasattr(library, name) for name in names) and _attention_is_right(library)


def _path():
    path = native.library_path()
    return path if path and _usable(path) else None


def _shape(qkv, *_):
    return [qkv[0], qkv[1], qkv[2] // 3]


@functools.cache
def _attention_op(path):
    return ops.Custom(f"{path}:SequenceAttention", _shape, lambda qkv, *_: qkv, func_type="aot")


@functools.cache
def _bfloat16_attention_op(path):
    return ops.Custom(f"{path}:RoughAttention", _shape, lambda qkv, *_: qkv, func_type="aot")


@functools.cache
def _filling_op(path):
    op = ops.Custom(f"{path}:FillingAttention", _shape, lambda qkv, *_: qkv, func_type="aot")
    op.add_prim_attr("side_effect_mem", True)  # it writes into the caches
    return op


@functools.cache
def _gelu_op(path):
    return ops.Custom(f"{path}:Gelu", lambda x: x, lambda x: x, func_type="aot")


def _made(make, dtype):
    path = _path() if dtype == ms.float32 else None
    return make(path) if path else None


def attention_op(dtype):
    """The operator (q, k and v as one [B, T, 3 D], heads [1], causal [1] int32) -> [B, T, D]; None if not available.

    Where the dtype is bfloat16, what comes in and out is float32, and products are of bfloat16 (`ops.bfloat16`).

    Supported Platforms:
        ``CPU``
    """
    return _made(_bfloat16_attention_op, ms.float32) if weights_only(dtype) else _made(_attention_op, dtype)


def filling_op(dtype):
    """`attention_op` with two more inputs, caches [B, H, L, d] whose columns 0 to T - 1 become k and v.

    Supported Platforms:
        ``CPU``
    """
    return _made(_filling_op, dtype)


def gelu_op(dtype):
    """The operator x -> GELU(x); None if not available.

    Supported Platforms:
        ``CPU``
    """
    return _made(_gelu_op, dtype)
