"""Operators of csrc/rings.c: steps of a transformer that looks along rows and columns, and its known positions at once,
as one operator each, on CPU.

MindSpore would compile 72 layers for each of them, which takes half a minute, and start 1,800 operators in a step.
"""

import ctypes
import functools

import mindspore as ms
from mindspore import ops

from . import native

KINDS = ("row", "column", "previous", "prime", "dense", "cross")  # of attention, as the operators number them
MOST = 16384  # vectors that a position may look at


@functools.cache
def _ops(path):
    library = ctypes.CDLL(path)
    if not hasattr(library, "RingDecode"):
        return None

    def decoded(newest, first, count, sizes, seen, table, places, start, conditions, head, drawn, *_):
        return drawn, [start[0], head[0]]

    def filled(ids, known, count, sizes, seen, table, places, start, *_):
        return start

    decode = ops.Custom(f"{path}:RingDecode", decoded, lambda *_: (ms.int32, ms.float32), func_type="aot")
    fill = ops.Custom(f"{path}:RingFill", filled, lambda *_: ms.float32, func_type="aot")
    for op in (decode, fill):
        op.add_prim_attr("side_effect_mem", True)  # it writes into the buffers
    return decode, fill


def ring_ops():
    """The operators (RingDecode, RingFill), whose arguments csrc/rings.c lists; None if not available.

    Supported Platforms:
        ``CPU``
    """
    path = native.library_path()
    return _ops(path) if path else None
