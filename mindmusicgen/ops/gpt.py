"""Operators of csrc/gpt.c: steps of a GPT and the choice of its ids as one operator, float32 on CPU.

A step of MindSpore's own operators starts 150 of them, which takes half as long as reading the weights.
"""

import ctypes
import functools

import mindspore as ms
from mindspore import ops

from . import native


@functools.cache
def decode_custom(path, name, count):
    """The operator `name` of the library at `path`, whose arguments csrc/gpt.h lists; `count` ids are chosen among."""

    def shapes(ids, place, steps, firsts, uniforms, *_):
        return uniforms, [1], [uniforms[1], count]

    op = ops.Custom(f"{path}:{name}", shapes, lambda *_: (ms.int32, ms.int32, ms.float32), func_type="aot")
    op.add_prim_attr("side_effect_mem", True)  # it writes into the caches
    op.add_prim_attr("count", count)  # MindSpore takes operators that are alike in name and attributes for one
    return op


@functools.cache
def _has_it(path):
    return hasattr(ctypes.CDLL(path), "FloatGptDecode")


def decode_op(dtype, count):
    """The operator FloatGptDecode -> (ids [N, B], how many steps [1], logits of the last [B, count]); None if not
    available.

    Args:
        dtype (mindspore.dtype): of the weights.
        count (int): how many ids are chosen among.

    Supported Platforms:
        ``CPU``
    """
    path = native.library_path() if dtype == ms.float32 else None
    return decode_custom(path, "FloatGptDecode", count) if path and _has_it(path) else None
