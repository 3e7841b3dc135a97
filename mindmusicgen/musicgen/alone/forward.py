"""Text encoder and decoder once more, with everything in the open: attention weights, hidden states, a growing cache.

The functions read the cells' parameters and are pure, so they run one by one, inside `mindspore.jit`, and under
`mindspore.grad`. The numbers follow transformers' eager attention.

Shapes: B prompts, K codebooks, T columns of this call, P columns of earlier calls, S text positions, D hidden size,
H heads of size d, V codes.
"""

import math

import mindspore as ms
from mindspore import ops

from ...models.layers import additive_mask
from ...ops.indices import indices
from ...submodels.forward import attend, of_layer


def decoder_forward(
    decoder,
    x,
    mask,
    states=None,
    states_mask=None,
    past=None,
    head_mask=None,
    cross_head_mask=None,
    keep_hidden=False,
    keep_weights=False,
):
    """The decoder's layers and last norm.

    Args:
        decoder (MusicgenDecoder): the network.
        x (Tensor): the codebooks' embeddings, summed, without positions, [B, T, D].
        mask (Tensor): [B, P + T], 0 for columns that no column may look at.
        states (Tensor): projected text [B, S, D]; None leaves the cross-attention out, unless `past` holds its keys.
        states_mask (Tensor): [B, S], 0 for padding; may be None without text.
        past (tuple): what an earlier call returned as its cache, or None.
        head_mask, cross_head_mask (Tensor): [layers, H], or None.
        keep_hidden, keep_weights (bool): whether hidden states and attention weights are wanted.

    Returns:
        last states [B, T, D]; hidden states; weights [B, H, T, P + T]; cross weights [B, H, T, S]; for each layer its
        keys and values of all columns, and those of the text.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    rows, columns, _ = x.shape
    before = 0 if past is None else past[0][0].shape[2]
    order = indices(before, before + columns)
    seen = indices(0, before + columns).reshape(1, -1) <= order.reshape(-1, 1)
    seen = ops.logical_and(seen, mask.reshape(rows, 1, 1, before + columns) != 0)
    blocked = additive_mask(seen)
    text_blocked = ops.zeros((1, 1, 1, 1), ms.float32)
    if states_mask is not None:
        text_blocked = additive_mask(states_mask.reshape(rows, 1, 1, -1))
    x = x.astype(decoder.dtype) + decoder.gather(decoder.positions, order, 0)
    hidden, weights, cross_weights, cache = (), (), (), ()
    for i, layer in enumerate(decoder.layers):
        if keep_hidden:
            hidden += (x,)
        known = None if past is None else past[i]
        y, seen, pair = _self_attention(layer, x, blocked, known, of_layer(head_mask, i))
        text_pair = _text_pair(layer, states, known)
        if text_pair is not None:
            x = x + y
            y, seen_text = _cross_attention(layer, x, text_pair, text_blocked, of_layer(cross_head_mask, i))
            pair += text_pair
            if keep_weights:
                cross_weights += (seen_text,)
        x = layer.feed_forward(x, y)
        cache += (pair,)
        if keep_weights:
            weights += (seen,)
    last = decoder.layer_norm(x)
    return last, hidden + (last,) if keep_hidden else (), weights, cross_weights, cache


def _self_attention(layer, x, mask, known, factors):
    """x: [B, T, D] -> [B, T, D], the weights, and keys and values of earlier columns and these."""
    cell = layer.self_attn
    q, k, v = cell.project(layer.self_attn_layer_norm(x))
    if known is not None:
        k, v = ops.concat((known[0], k), 2), ops.concat((known[1], v), 2)
    y, weights = attend(q * (1 / math.sqrt(q.shape[-1])), k, v, mask, factors)
    return cell.out_proj(y), weights, (k, v)


def _text_pair(layer, states, known):
    """Keys and values of the text: of the earlier call if it kept them, else of `states`, else None."""
    if known is not None and len(known) == 4:
        return known[2], known[3]
    if states is None:
        return None
    k, v = layer.encoder_attn.keys_values(states)
    return k, v


def _cross_attention(layer, x, text_pair, mask, factors):
    """x: [B, T, D] -> [B, T, D], and the weights."""
    cell = layer.encoder_attn
    rows, columns, dim = x.shape
    q = cell.q_proj(layer.encoder_attn_layer_norm(x)).reshape(rows, columns, cell.num_heads, dim // cell.num_heads)
    q = q.swapaxes(1, 2) * (1 / math.sqrt(dim // cell.num_heads))
    y, weights = attend(q, text_pair[0], text_pair[1], mask, factors)
    return cell.out_proj(y), weights


def head_logits(decoder, last):
    """Last states [B, T, D] -> float32 logits [B, K, T, V].

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    rows, columns, _ = last.shape
    y = decoder.lm_heads(last).astype(ms.float32)
    return y.reshape(rows, columns, decoder.num_codebooks, decoder.vocab_size).swapaxes(1, 2)
