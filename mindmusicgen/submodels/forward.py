"""Networks walked operation by operation, so that hidden states and attention weights can be looked at."""

import mindspore as ms
from mindspore import ops

from ..models.layers import additive_mask


def attend(q, k, v, mask, factors):
    """softmax(q k^T + mask), times a factor for each head, times v.

    Args:
        q (Tensor): queries, already scaled, [B, H, T, d].
        k (Tensor): keys, [B, H, S, d].
        v (Tensor): values, [B, H, S, d].
        mask (Tensor): additive, broadcast to [B, H, T, S].
        factors (Tensor): [H], or None.

    Returns:
        [B, T, H * d], and the weights [B, H, T, S].

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    scores = ops.BatchMatMul(transpose_b=True)(q, k).astype(ms.float32) + mask.astype(ms.float32)
    weights = ops.softmax(scores, -1).astype(v.dtype)
    if factors is not None:
        weights = weights * factors.reshape(1, -1, 1, 1).astype(v.dtype)
    rows, heads, columns, size = q.shape
    y = ops.BatchMatMul()(weights, v).swapaxes(1, 2)
    return y.reshape(rows, columns, heads * size), weights


def of_layer(factors, i):
    """Row i of a head mask [layers, H], or None."""
    return None if factors is None else factors[i]


def text_forward(encoder, x, mask, head_mask=None, keep_hidden=False, keep_weights=False):
    """The T5 encoder.

    Args:
        encoder (T5Encoder): the network.
        x (Tensor): embeddings, [B, S, D].
        mask (Tensor): [B, S], 1 for tokens.
        head_mask (Tensor): [layers, H], or None.
        keep_hidden, keep_weights (bool): whether hidden states and attention weights are wanted.

    Returns:
        last states [B, S, D]; a tuple of layers + 1 hidden states; a tuple of [B, H, S, S]. Not wanted: empty.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    rows, length, _ = x.shape
    stack, hidden, weights = encoder.encoder, (), ()
    position_bias = stack.block[0].layer[0].SelfAttention.relative_attention_bias(length)
    bias = position_bias + additive_mask(mask.reshape(rows, 1, 1, length))
    for i, block in enumerate(stack.block):
        if keep_hidden:
            hidden += (x,)
        cell = block.layer[0].SelfAttention
        qkv = cell.qkv(block.layer[0].layer_norm(x)).reshape(rows, length, 3 * cell.num_heads, cell.head_dim)
        q, k, v = ops.split(qkv.swapaxes(1, 2), cell.num_heads, 1)
        y, seen = attend(q, k, v, bias, of_layer(head_mask, i))
        if keep_weights:
            weights += (seen,)
        x = block.clamp(x + cell.o(y))
        x = block.clamp(block.layer[1](x))
    last = stack.final_layer_norm(x)
    return last, hidden + (last,) if keep_hidden else (), weights
