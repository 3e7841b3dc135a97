"""The operator of csrc/sampling.c: guidance, temperature, top-k, top-p and choice; see `generation.sampling`."""

import ctypes
import functools

import mindspore as ms
from mindspore import ops

from . import native


@functools.cache
def _choose_op(path):
    if not hasattr(ctypes.CDLL(path), "Choose"):
        return None
    return ops.Custom(f"{path}:Choose", lambda logits, forced, *_: forced, lambda *_: ms.int32, func_type="aot")


def choose_op():
    """The operator (logits [R, K, V], forced, uniforms [B, K], scale, temperature, top_k, top_p) -> codes [B, K].

    Forced is int32 and holds -1 where a code is to be chosen; top_k is int32, the other numbers float32. None if not
    available.

    Supported Platforms:
        ``CPU``
    """
    path = native.library_path()
    return _choose_op(path) if path else None
