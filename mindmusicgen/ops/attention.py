"""Attention: for whole sequences, and for one new column against a KV cache."""

import math

import mindspore as ms
from mindspore import nn, ops

from . import ascend, native
from .indices import indices


def lowest(dtype):
    """The lowest finite number of a dtype; float32's would be minus infinity in the halves, and 0 times that NaN."""
    if dtype == ms.float16:
        return -65504.0
    return -3.3895314e38 if dtype == ms.bfloat16 else -3.4028234e38


def attention(q, k, v, mask):
    """softmax(q k^T / sqrt(d) + mask) v, the softmax in float32.

    Args:
        q (Tensor): queries, [B, H, T, d].
        k (Tensor): keys, [B, H, S, d].
        v (Tensor): values, [B, H, S, d].
        mask (Tensor): additive, broadcast to [B, H, T, S]; None for none.

    Returns:
        Tensor of shape [B, H, T, d].

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    scores = ops.BatchMatMul(transpose_b=True)(q * (1 / math.sqrt(q.shape[-1])), k).astype(ms.float32)
    if mask is not None:
        scores = scores + mask
    weights = ops.softmax(scores, -1).astype(v.dtype)
    return ops.BatchMatMul()(weights, v)


def attention_for(heads, size, dtype):
    """`attention`, or a cell that does the same with an operator of an NPU; called (q, k, v, mask).

    Args:
        heads (int): H.
        size (int): d.
        dtype (mindspore.dtype): of the queries, keys and values.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    fused = ascend.attention_cell(heads, size, dtype)
    return attention if fused is None else fused


class CachedAttention(nn.Cell):
    """Write one column's keys and values into the cache, then attend to all columns up to it.

    On CPU, for float32, a kernel of `csrc/` that reads only the filled part of the cache, and on an NPU, in half
    precision, its own operators, if they are available when the cell is made; else plain operations. Without the
    kernel the cost grows with the length of the cache.

    Args:
        heads (int): H; it, the size and the dtype matter on an NPU only.
        size (int): d.
        dtype (mindspore.dtype): of the cache.

    Inputs:
        - **q**, **k**, **v** (Tensor) - the new column, [B, H, 1, d].
        - **key_cache**, **value_cache** (Parameter) - [B, H, L, d], updated in place.
        - **position** (Tensor) - index of the column, [1] int32, in 0 .. L - 1.

    Outputs:
        Tensor of shape [B, H, 1, d].

    Raises:
        RuntimeError: from the kernel, for a position outside the cache.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, heads=1, size=1, dtype=ms.float32):
        super().__init__()
        self.kernel = native.cached_attention_op()
        self.fused = ascend.cached_attention_cell(heads, size, dtype)

    def construct(self, q, k, v, key_cache, value_cache, position):
        if self.kernel is not None and q.dtype == key_cache.dtype == ms.float32:
            return self.kernel(q, k, v, key_cache, value_cache, position)
        if self.fused is not None:
            return self.fused(q, k, v, key_cache, value_cache, position)
        return self.plain(q, k, v, key_cache, value_cache, position)

    def plain(self, q, k, v, key_cache, value_cache, position):
        """The same with MindSpore's operations."""
        key_cache[:, :, position] = k
        value_cache[:, :, position] = v
        length = key_cache.shape[2]
        hidden = (indices(0, length) > position).astype(ms.float32)
        return attention(q, key_cache, value_cache, (hidden * lowest(q.dtype)).reshape(1, 1, 1, length))
