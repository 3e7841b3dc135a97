"""Operators of the kernels of 8 and 4 bits in csrc/quantized.c, quantized_decoder.c and quantized_gpt.c; what they
compute and their layouts are described there."""

import ctypes
import functools

import mindspore as ms
import numpy as np
from mindspore import ops

from . import native, packing, packing4
from .gpt import decode_custom

DECODERS = {"gelu": "QuantizedDecode", "relu": "QuantizedDecodeRelu"}  # by activation function
EMBEDDING, MASK = 9, 17  # numbers of arguments of theirs
KERNELS = ("QuantizedLinear", *DECODERS.values(), "FillCache", "Choose", "GptDecode", "GptSequence", "Pack4")


def _linear_is_right(library):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((3, 150), np.float32), rng.standard_normal((18, 150), np.float32)
    for layout in (packing, packing4):
        codes, scale = layout.pack(weight)
        y = np.full((3, 18), np.nan, np.float32)
        right = native.call(library.QuantizedLinear, x, codes, scale, y) == 0
        if not right or not np.allclose(y, x @ layout.unpack(codes, scale, 18, 150).T, atol=1e-2):
            return False
    return True


@functools.cache
def _reason(path):
    """Why the library at `path` is not used for 8-bit weights; empty if it is."""
    library = ctypes.CDLL(path)
    if not all(hasattr(library, name) for name in KERNELS):
        return "the installed kernels are older than int4; install the package again"
    return "" if _linear_is_right(library) else f"{path} computes wrong numbers on this machine"


def why_not():
    """Why the kernels of 8 and 4 bits are not used, in one line; an empty string when they are.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    return native.why_not() or _reason(native.library_path())


def _path():
    return None if why_not() else native.library_path()


@functools.cache
def _linear_op(path, size_out):
    def shape(x, *_):
        return [x[0], size_out]

    op = ops.Custom(f"{path}:QuantizedLinear", shape, lambda x, *_: x, func_type="aot")
    op.add_prim_attr("size_out", size_out)  # MindSpore takes operators that are alike in name and attributes for one
    return op


@functools.cache
def _decode_op(path, name):
    def shapes(ids, place, steps, forced, *others):
        embedding, mask = others[EMBEDDING - 4], others[MASK - 4]
        return forced, [mask[0], ids[1], embedding[0] // ids[1] - 1]

    op = ops.Custom(f"{path}:{name}", shapes, lambda *_: (ms.int32, ms.float32), func_type="aot")
    op.add_prim_attr("side_effect_mem", True)  # it writes into the cache
    return op


@functools.cache
def _fill_op(path):
    op = ops.Custom(f"{path}:FillCache", lambda *_: [1], lambda k, *_: k, func_type="aot")
    op.add_prim_attr("side_effect_mem", True)
    return op


@functools.cache
def _gpt_sequence_op(path, fills):
    op = ops.Custom(f"{path}:GptSequence", lambda x, *_: x, lambda x, *_: x, func_type="aot")
    if fills:
        op.add_prim_attr("side_effect_mem", True)
    return op


def linear_op(size_out):
    """The operator (x [rows, in], codes, scale) -> [rows, size_out], float32 on CPU, for codes of 8 or 4 bits; None if
    not available.

    Supported Platforms:
        ``CPU``
    """
    path = _path()
    return _linear_op(path, size_out) if path else None


def decode_op(activation):
    """The operator of csrc/quantized_decoder.c: decode steps -> (columns, logits of the last); None if not available.

    Args:
        activation (str): one of `DECODERS`.

    Supported Platforms:
        ``CPU``
    """
    path = _path()
    return _decode_op(path, DECODERS[activation]) if path else None


def gpt_decode_op(count):
    """The operator GptDecode -> (ids, how many steps, logits of the last); None if not available.

    Args:
        count (int): how many ids are chosen among.

    Supported Platforms:
        ``CPU``
    """
    path = _path()
    return decode_custom(path, "GptDecode", count) if path else None


def gpt_sequence_op(fills):
    """The operator GptSequence: x [B, T, D] through all layers; None if not available.

    Args:
        fills (bool): whether it fills a cache.

    Supported Platforms:
        ``CPU``
    """
    path = _path()
    return _gpt_sequence_op(path, fills) if path else None


def fill_cache_op():
    """The operator (k, v [B, H, T, d], keys, their scales, values, their scales) -> [1]; None if not available.

    It writes columns 0 to T - 1 into the cache.

    Supported Platforms:
        ``CPU``
    """
    path = _path()
    return _fill_op(path) if path else None


def cache_shapes(rows, heads, length, size):
    """Shapes and dtypes of keys, their scales, values and their scales in the cache of one layer.

    Args:
        rows (int): B.
        heads (int): H.
        length (int): L, columns that it must have room for; rounded up to a multiple of 16.
        size (int): d, size of a head.
    """
    tile, quad = packing.TILE, packing.QUAD
    tiles = -(-length // tile)
    scales = ((rows, heads, tiles * tile), np.float32)
    keys = ((rows, heads, tiles, -(-size // quad), tile, quad), np.uint8)
    values = ((rows, heads, -(-size // tile), tiles * tile // quad, tile, quad), np.uint8)
    return keys, scales, values, scales


def dequantised(codes, scale, size_out, size_in):
    """The matrix [size_out, size_in] float32 that codes and scales stand for, with MindSpore's operations.

    Args:
        codes (Tensor): [out / 16, in / 4, 16, 4] uint8.
        scale (Tensor): [out / 16, in / 128, 16] float32.
        size_out (int): outputs, without the padding.
        size_in (int): inputs, without the padding.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    tiles, quads, tile, quad = codes.shape
    rows, columns = tiles * tile, quads * quad
    values = codes.astype(ms.float32).swapaxes(1, 2).reshape(rows, columns) - packing.ZERO
    each = scale.swapaxes(1, 2).reshape(rows, -1, 1)
    each = ops.broadcast_to(each, (rows, scale.shape[1], packing.GROUP)).reshape(rows, -1)[:, :columns]
    return (values * each)[:size_out, :size_in]


def dequantised4(codes, scale, size_out, size_in):
    """`dequantised` for weights of 4 bits.

    Args:
        codes (Tensor): [out / 16, in / 8, 16, 4] uint8.
        scale (Tensor): [out / 16, in / 32, 16] float16.
        size_out (int): outputs, without the padding.
        size_in (int): inputs, without the padding.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    tiles, octs, tile, quad = codes.shape
    rows, columns = tiles * tile, octs * packing4.OCT
    both = codes.astype(ms.float32)
    high = ops.floor(both / 16)
    values = ops.stack([both - high * 16, high], axis=3) - packing4.ZERO  # [T, O, 16, 2, 4]
    values = values.swapaxes(1, 2).reshape(rows, columns)
    each = scale.astype(ms.float32).swapaxes(1, 2).reshape(rows, -1, 1)
    each = ops.broadcast_to(each, (rows, scale.shape[1], packing4.GROUP)).reshape(rows, -1)[:, :columns]
    return (values * each)[:size_out, :size_in]


def pack4(weight, allocate):
    """`packing4.pack`, by the kernel where there is one: a hundredth of the time.

    Args:
        weight (numpy.ndarray): [out, in], finite floats.
        allocate (callable): makes an array of a shape and a dtype.
    """
    path = _path()
    kernel = functools.partial(native.call, ctypes.CDLL(path).Pack4) if path else None
    return packing4.pack(weight, allocate, kernel)
