"""The optional CPU kernels of csrc/: finds the compiled library, checks it once, says why if it is not used.

The environment variable MINDMUSICGEN_KERNELS set to 0 forces the plain MindSpore operations; set to a path it names
another build of the library. MINDMUSICGEN_THREADS sets the number of the kernels' threads (by default one per CPU that
the process may use, at most 64).
"""

import ctypes
import functools
import os
import platform
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import mindspore as ms
import numpy as np
from mindspore import ops

FEW_ROWS = 16  # of x; with more, arithmetic counts as much as reading the weights, and MatMul is as good
ANY_ROWS = 2**31


def call(function, *arrays):
    """Call a kernel the way MindSpore does, without MindSpore.

    Args:
        function: entry point of a library loaded by ctypes.
        arrays (numpy.ndarray): inputs and then outputs, contiguous; written in place.

    Returns:
        int, 0 when the kernel accepted the shapes and dtypes.
    """
    count = len(arrays)
    pointers = (ctypes.c_void_p * count)(*(a.ctypes.data for a in arrays))
    ranks = (ctypes.c_int * count)(*(a.ndim for a in arrays))
    sizes = [(ctypes.c_int64 * max(a.ndim, 1))(*a.shape) for a in arrays]
    shapes = (ctypes.POINTER(ctypes.c_int64) * count)(*(ctypes.cast(s, ctypes.POINTER(ctypes.c_int64)) for s in sizes))
    dtypes = (ctypes.c_char_p * count)(*(str(a.dtype).encode() for a in arrays))
    return function(count, pointers, ranks, shapes, dtypes, None, None)


def _linear_is_right(library):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((18, 37), np.float32)
    for rows in (3, 35):  # few and many go different ways
        x, y = rng.standard_normal((rows, 37), np.float32), np.full((rows, 18), np.nan, np.float32)
        if call(library.Linear, x, weight, y) != 0 or not np.allclose(y, x @ weight.T, atol=1e-4):
            return False
    return True


def _attention_is_right(library):
    rng = np.random.default_rng(0)
    q, k, v = rng.standard_normal((3, 1, 2, 1, 5), np.float32)
    keys, values = rng.standard_normal((2, 1, 2, 9, 5), np.float32)
    want_keys, want_values = keys.copy(), values.copy()
    want_keys[:, :, 6:7], want_values[:, :, 6:7] = k, v
    weights = np.exp(q @ want_keys[:, :, :7].swapaxes(2, 3) / np.sqrt(5))
    want = weights / weights.sum(-1, keepdims=True) @ want_values[:, :, :7]
    y = np.full_like(q, np.nan)
    code = call(library.CachedAttention, q, k, v, keys, values, np.array([6], np.int32), y)
    written = np.array_equal(keys, want_keys) and np.array_equal(values, want_values)
    return code == 0 and written and np.allclose(y, want, atol=1e-4)


def _lstm_is_right(library):
    rng = np.random.default_rng(0)
    gates, weight = rng.standard_normal((2, 3, 28), np.float32), rng.standard_normal((28, 7), np.float32)
    h, c = rng.standard_normal((2, 2, 7), np.float32)
    y, last = np.full((2, 3, 7), np.nan, np.float32), np.full_like(c, np.nan)
    code = call(library.Lstm, gates, weight, h, c, y, last)
    for step in range(3):
        enter, forget, cell, leave = np.split(gates[:, step] + h @ weight.T, 4, axis=1)
        enter, forget, leave = (1 / (1 + np.exp(-gate)) for gate in (enter, forget, leave))
        c = forget * c + enter * np.tanh(cell)
        h = leave * np.tanh(c)
    return code == 0 and np.allclose(y[:, -1], h, atol=1e-5) and np.allclose(last, c, atol=1e-5)


def _find(setting):
    """The library's file, or None. `setting`: the value of MINDMUSICGEN_KERNELS."""
    if setting not in ("", "1"):
        return Path(setting).resolve()
    here = Path(__file__).resolve().parent
    return next((p for p in (here / f"_kernels{suffix}" for suffix in EXTENSION_SUFFIXES) if p.is_file()), None)


@functools.cache
def _checked_library(setting):
    """(loaded library, its path, "") or (None, None, reason); ctypes never unloads what it loaded."""
    if setting == "0":
        return None, None, "MINDMUSICGEN_KERNELS=0 is set"
    if platform.system() != "Linux":
        return None, None, "MindSpore runs custom operators on Linux only"
    path = _find(setting)
    if path is None:
        return None, None, "the package was installed without them (no C compiler?)"
    if ":" in str(path):
        return None, None, f"MindSpore cannot load a library whose path has a colon: {path}"
    try:
        library = ctypes.CDLL(str(path))
        right = all(check(library) for check in (_linear_is_right, _attention_is_right, _lstm_is_right))
    except (OSError, AttributeError) as error:
        return None, None, f"{path} cannot be used: {error}"
    if not right:
        return None, None, f"{path} computes wrong numbers on this machine"
    return library, str(path), ""


def why_not():
    """Why the kernels are not used, in one line; an empty string when they are.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    target = ms.get_context("device_target")
    if target != "CPU":
        return f"the device is {target}, the kernels are for CPU"
    return _checked_library(os.environ.get("MINDMUSICGEN_KERNELS", ""))[2]


def library_path():
    """Absolute path of the kernels' library, or None when the plain operations are to be used. Never raises.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    return None if why_not() else _checked_library(os.environ.get("MINDMUSICGEN_KERNELS", ""))[1]


def _like_first(first, *_):
    return first


def _linear_shape(x, weight):
    return [x[0], weight[0]]


def _linear_bprop(x, weight, out, dout):
    return ops.MatMul()(dout, weight), ops.MatMul(transpose_a=True)(dout, x)


@functools.cache
def _linear_op(path):
    return ops.Custom(f"{path}:Linear", _linear_shape, _like_first, func_type="aot", bprop=_linear_bprop)


@functools.cache
def _attention_op(path):
    op = ops.Custom(f"{path}:CachedAttention", _like_first, _like_first, func_type="aot")
    # It writes into the caches. Without this, a graph may move it across other readers and writers of them.
    op.add_prim_attr("side_effect_mem", True)
    return op


@functools.cache
def _lstm_op(path, name):
    def shapes(gates, weight, h, c):
        return [gates[0], gates[1], weight[1]], c

    return ops.Custom(f"{path}:{name}", shapes, lambda gates, weight, h, c: (gates, c), func_type="aot")


@functools.cache
def _has_rough_lstm(path):
    return hasattr(ctypes.CDLL(path), "RoughLstm")


def linear_rows():
    """Rows up to which `linear_op` is quicker than MatMul: a few, or any number where the CPU has a tile unit (AMX).

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    path = library_path()
    return ANY_ROWS if path and _takes_many_rows(path) else FEW_ROWS


@functools.cache
def _takes_many_rows(path):
    library = ctypes.CDLL(path)
    return hasattr(library, "LinearTakesManyRows") and bool(library.LinearTakesManyRows())


def linear_op():
    """The operator (x [rows, in], weight [out, in]) -> x W^T [rows, out], float32 on CPU; None if not available.

    Supported Platforms:
        ``CPU``
    """
    path = library_path()
    return _linear_op(path) if path else None


def product_op(dtype):
    """`linear_op` where it is quicker than MatMul for any number of rows, and takes this dtype; None elsewhere.

    Supported Platforms:
        ``CPU``
    """
    return linear_op() if dtype == ms.float32 and linear_rows() == ANY_ROWS else None


def cached_attention_op():
    """The operator (q, k, v, key_cache, value_cache, position) -> [B, H, 1, d], float32 on CPU; None if not available.

    Supported Platforms:
        ``CPU``
    """
    path = library_path()
    return _attention_op(path) if path else None


def lstm_op():
    """The operator (inputs' part of the gates [B, T, 4 H], weight [4 H, H], h, c [B, H]) -> h of every step [B, T, H],
    the last c [B, H], float32 on CPU; None if not available.

    Supported Platforms:
        ``CPU``
    """
    path = library_path()
    return _lstm_op(path, "Lstm") if path else None


def rough_lstm_op():
    """`lstm_op` that rounds the weight to 16 bits first and so reads half as much in a step; None if not available.

    Supported Platforms:
        ``CPU``
    """
    path = library_path()
    return _lstm_op(path, "RoughLstm") if path and _has_rough_lstm(path) else None
