"""bfloat16 on a CPU: weights of bfloat16, products of bfloat16 with sums of float32, and all else in float32.

MindSpore has no operations for bfloat16 there, so the weights' bits lie in parameters of uint16.
"""

import mindspore as ms
import numpy as np

from . import ascend


def weights_only(dtype):
    """Whether this dtype is one that weights and products have, and activations not: bfloat16 on a CPU."""
    return dtype == ms.bfloat16 and not ascend.is_target()


def activation_dtype(dtype):
    """What activations have where the weights are of a dtype."""
    return ms.float32 if weights_only(dtype) else dtype


def stored_dtype(dtype):
    """What parameters have that hold weights of a dtype."""
    return ms.uint16 if weights_only(dtype) else dtype


def to_bits(values):
    """float32 -> the bits of the nearest bfloat16, the even one of two, as uint16."""
    whole = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((whole + (0x7FFF + (whole >> 16 & 1))) >> 16).astype(np.uint16)


def from_bits(bits):
    """The inverse of `to_bits`, exact."""
    return (bits.astype(np.uint32) << 16).view(np.float32)
