"""Attention: for whole sequences, and for one new column against a KV cache."""

import math

import mindspore as ms
from mindspore import nn, ops


def attention(q, k, v, mask):
    """softmax(q k^T / sqrt(d) + mask) v, the softmax in float32.

    Args:
        q (Tensor): queries, [B, H, T, d].
        k (Tensor): keys, [B, H, S, d].
        v (Tensor): values, [B, H, S, d].
        mask (Tensor): additive, broadcast to [B, H, T, S].

    Returns:
        Tensor of shape [B, H, T, d].

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    scores = ops.BatchMatMul(transpose_b=True)(q * (1 / math.sqrt(q.shape[-1])), k) + mask
    weights = ops.softmax(scores.astype(ms.float32), -1).astype(v.dtype)
    return ops.BatchMatMul()(weights, v)


class CachedAttention(nn.Cell):
    """Write one column's keys and values into the cache, then attend to all columns up to it."""

    def construct(self, q, k, v, key_cache, value_cache, position):
        """q, k, v: [B, H, 1, d]; caches: Parameters [B, H, L, d], updated in place; position: [1] int32."""
        key_cache[:, :, position] = k
        value_cache[:, :, position] = v
        length = key_cache.shape[2]
        hidden = (ops.arange(length) > position).astype(q.dtype)
        lowest = -65504.0 if q.dtype == ms.float16 else -3.4028234e38
        return attention(q, key_cache, value_cache, (hidden * lowest).reshape(1, 1, 1, length))
