"""The MusicGen decoder: a pre-norm transformer over several codebooks at once, with cross-attention to the text.

Paper: "Simple and Controllable Music Generation" (Copet et al., 2023). The numbers follow transformers'
`modeling_musicgen.py`; the layout is fused: q, k and v are one matrix, so are the codebooks' embedding tables
and the codebooks' heads.

Shapes: B rows (with guidance: the prompts and as many null rows), K codebooks, T columns, S text positions,
D hidden size, H heads of size d, L columns that the KV cache has room for, V codes per codebook.
"""

import math

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..models.layers import LayerNorm, Linear, activation, additive_mask, empty_parameter
from ..ops.attention import CachedAttention, attention_for
from ..ops.indices import indices


def sinusoidal_positions(num_positions, dim):
    """Position table of shape (num_positions, dim): cosines in the first half, sines in the second.

    The frequencies are exp(-i ln(10000) / (half - 1)), as in tensor2tensor; an odd `dim` ends with a zero.
    """
    half = dim // 2
    frequencies = np.exp(np.arange(half, dtype=np.float32) * np.float32(-math.log(10000) / (half - 1)))
    angles = np.arange(num_positions, dtype=np.float32)[:, None] * frequencies[None]
    table = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    return np.pad(table, ((0, 0), (0, dim % 2)))


class SelfAttention(nn.Cell):
    """Causal self-attention with q, k and v as one matrix."""

    def __init__(self, dim, num_heads, dtype, linear=Linear):
        super().__init__()
        self.num_heads = num_heads
        self.qkv_proj = linear(dim, 3 * dim, dtype=dtype)
        self.out_proj = linear(dim, dim, dtype=dtype)
        self.attention = attention_for(num_heads, dim // num_heads, dtype)
        self.cached_attention = CachedAttention(num_heads, dim // num_heads, dtype)

    def project(self, x):
        """[B, T, D] -> q, k, v of [B, H, T, d] each"""
        rows, columns, dim = x.shape
        qkv = self.qkv_proj(x).reshape(rows, columns, 3 * self.num_heads, dim // self.num_heads)
        return ops.split(qkv.swapaxes(1, 2), self.num_heads, 1)

    def merge(self, x):
        """[B, H, T, d] -> [B, T, D]"""
        rows, heads, columns, size = x.shape
        return self.out_proj(x.swapaxes(1, 2).reshape(rows, columns, heads * size))

    def construct(self, x, mask):
        """All columns at once. x: [B, T, D], mask: [T, T] additive. Returns [B, T, D] and k, v for a cache."""
        q, k, v = self.project(x)
        return self.merge(self.attention(q, k, v, mask)), k, v

    def step(self, x, position, key_cache, value_cache):
        """One column at `position` ([1] int32). x: [B, D]; the caches [B, H, L, d] are updated in place."""
        rows, dim = x.shape
        qkv = self.qkv_proj(x).reshape(rows, 3 * self.num_heads, 1, dim // self.num_heads)
        q, k, v = ops.split(qkv, self.num_heads, 1)  # [B, H, 1, d] each
        return self.out_proj(self.cached_attention(q, k, v, key_cache, value_cache, position).reshape(rows, dim))


class CrossAttention(nn.Cell):
    """Attention to the encoded prompt, whose keys and values are computed once per prompt."""

    def __init__(self, dim, num_heads, dtype, linear=Linear):
        super().__init__()
        self.num_heads = num_heads
        self.attention = attention_for(num_heads, dim // num_heads, dtype)
        self.q_proj = linear(dim, dim, dtype=dtype)
        self.kv_proj = linear(dim, 2 * dim, dtype=dtype)
        self.out_proj = linear(dim, dim, dtype=dtype)
        self.shape = (2 * num_heads, dim // num_heads)
        # Operators, not methods of tensors: each of those is parsed anew in every layer, half of a compilation's time.
        self.reshape, self.transpose, self.split = ops.Reshape(), ops.Transpose(), ops.Split(1, 2)

    def keys_values(self, states):
        """[B, S, D] -> k, v of [B, H, S, d] each"""
        return self.split_keys_values(self.kv_proj(states), states.shape[0])

    def split_keys_values(self, kv, rows):
        """[B, S, 2 D], or B and S as one axis, -> k, v of [B, H, S, d] each; rows: B."""
        kv = self.transpose(self.reshape(kv, (rows, -1, *self.shape)), (0, 2, 1, 3))
        return self.split(kv)

    def construct(self, x, k, v, mask):
        """x: [B, T, D]; k, v: [B, H, S, d]; mask: [B, 1, 1, S] additive."""
        rows, columns, dim = x.shape
        q = self.q_proj(x).reshape(rows, columns, self.num_heads, dim // self.num_heads).swapaxes(1, 2)
        y = self.attention(q, k, v, mask)
        return self.out_proj(y.swapaxes(1, 2).reshape(rows, columns, dim))

    def step(self, x, k, v, mask):
        """`construct` for one column. x: [B, D]."""
        rows, dim = x.shape
        q = self.q_proj(x).reshape(rows, self.num_heads, 1, dim // self.num_heads)
        return self.out_proj(self.attention(q, k, v, mask).reshape(rows, dim))


class DecoderLayer(nn.Cell):
    """Self-attention, cross-attention and feed-forward, each after a layer norm and added to the residual."""

    linear = Linear  # the cell of its matrices

    def __init__(self, config, dtype):
        super().__init__()
        dim, heads = config.hidden_size, config.num_attention_heads
        if heads < 1 or dim % heads:
            raise ValueError(f"num_attention_heads {heads} does not divide hidden_size {dim}")
        self.self_attn = SelfAttention(dim, heads, dtype, self.linear)
        self.self_attn_layer_norm = LayerNorm(dim, dtype=dtype)
        self.encoder_attn = CrossAttention(dim, heads, dtype, self.linear)
        self.encoder_attn_layer_norm = LayerNorm(dim, dtype=dtype)
        self.fc1 = self.linear(dim, config.ffn_dim, dtype=dtype)
        self.fc2 = self.linear(config.ffn_dim, dim, dtype=dtype)
        self.final_layer_norm = LayerNorm(dim, dtype=dtype)
        self.activation = activation(config.activation_function)

    def feed_forward(self, x, y):
        """The rest of a layer after y was to be added to x."""
        x, normed = self.final_layer_norm.after_sum(x, y)
        return x + self.fc2(self.activation(self.fc1(normed)))

    def construct(self, x, mask, cross_key, cross_value, cross_mask):
        """All columns. x: [B, T, D]. Returns [B, T, D] and k, v for a cache."""
        y, k, v = self.self_attn(self.self_attn_layer_norm(x), mask)
        x, normed = self.encoder_attn_layer_norm.after_sum(x, y)
        return self.feed_forward(x, self.encoder_attn(normed, cross_key, cross_value, cross_mask)), k, v

    def step(self, x, position, key_cache, value_cache, cross_key, cross_value, cross_mask):
        """One column. x: [B, D]."""
        y = self.self_attn.step(self.self_attn_layer_norm(x), position, key_cache, value_cache)
        x, normed = self.encoder_attn_layer_norm.after_sum(x, y)
        return self.feed_forward(x, self.encoder_attn.step(normed, cross_key, cross_value, cross_mask))


class StackedEmbedding(nn.Cell):
    """The K codebooks' embedding tables in one parameter, `weight` of shape (K * (V + 1), D)."""

    def __init__(self, num_codebooks, rows_each, dim, dtype):
        super().__init__()
        self.weight = empty_parameter(num_codebooks * rows_each, dim, dtype=dtype)
        self.offsets = Tensor(np.arange(num_codebooks, dtype=np.int32).reshape(1, -1, 1) * rows_each)
        self.gather = ops.Gather()

    def construct(self, ids):
        """ids: [B, K, T] -> sum over the codebooks [B, T, D]"""
        return self.gather(self.weight, ids.astype(ms.int32) + self.offsets, 0).sum(axis=1)


class MusicgenDecoder(nn.Cell):
    """The transformer and the heads: codes in, logits out.

    Args:
        config (transformers.MusicgenDecoderConfig): sizes of the decoder.
        dtype (mindspore.dtype): dtype of weights and activations; logits are always float32.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    layer, linear = DecoderLayer, Linear  # what it is made of

    def __init__(self, config, dtype=ms.float32):
        super().__init__()
        self.num_codebooks, self.vocab_size, self.dtype = config.num_codebooks, config.vocab_size, dtype
        self.activation_function = config.activation_function
        self.embed_tokens = StackedEmbedding(config.num_codebooks, config.vocab_size + 1, config.hidden_size, dtype)
        self.positions = Tensor(sinusoidal_positions(config.max_position_embeddings, config.hidden_size), dtype)
        self.layers = nn.CellList([self.layer(config, dtype) for _ in range(config.num_hidden_layers)])
        self.layer_norm = LayerNorm(config.hidden_size, dtype=dtype)
        self.lm_heads = self.linear(config.hidden_size, config.num_codebooks * config.vocab_size, dtype=dtype)
        self.gather, self.assign = ops.Gather(), ops.Assign()

    def cross_keys_values(self, states):
        """Keys and values of every layer for encoder states [B, S, D]: a flat tuple k0, v0, k1, v1, ..."""
        pairs = ()
        for layer in self.layers:
            pairs += layer.encoder_attn.keys_values(states.astype(self.dtype))
        return pairs

    def fill_cross(self, states, cross):
        """Write `cross_keys_values` into Parameters k0, v0, ... of [B, H, S, d]; joining them first takes longer to
        compile."""
        for i, layer in enumerate(self.layers):
            k, v = layer.encoder_attn.keys_values(states.astype(self.dtype))
            self.assign(cross[2 * i], k)
            self.assign(cross[2 * i + 1], v)

    def embed(self, ids, positions):
        """ids: [B, K, T], positions: [T] int32 -> [B, T, D]"""
        return self.embed_tokens(ids) + self.gather(self.positions, positions, 0)

    def logits(self, x):
        """[B, T, D] -> float32 logits [B, K, T, V]"""
        rows, columns, _ = x.shape
        y = self.lm_heads(self.layer_norm(x)).astype(ms.float32)
        return y.reshape(rows, columns, self.num_codebooks, self.vocab_size).swapaxes(1, 2)

    def construct(self, ids, cross, cross_mask):
        """Every column at once, as in training or prefill.

        Args:
            ids (Tensor): codes, [B, K, T] int32; the start and padding code is V.
            cross (tuple[Tensor]): from `cross_keys_values`.
            cross_mask (Tensor): [B, 1, 1, S], additive.

        Returns:
            hidden states before the last norm [B, T, D], and the flat tuple k0, v0, k1, v1, ... of [B, H, T, d].
        """
        columns = ids.shape[2]
        order = indices(0, columns)
        mask = additive_mask(order.reshape(1, -1) <= order.reshape(-1, 1), self.dtype)
        x = self.embed(ids, order)
        cache = ()
        for i, layer in enumerate(self.layers):
            x, k, v = layer(x, mask, cross[2 * i], cross[2 * i + 1], cross_mask)
            cache += (k, v)
        return x, cache

    def step(self, ids, position, cache, cross, cross_mask):
        """One column. ids: [B, K]; position: [1] int32; cache: Parameters k0, v0, ... of [B, H, L, d], updated.

        Returns float32 logits [B, K, V].
        """
        x = self.embed(ids.expand_dims(-1), position).squeeze(1)
        for i, layer in enumerate(self.layers):
            k, v = 2 * i, 2 * i + 1
            x = layer.step(x, position, cache[k], cache[v], cross[k], cross[v], cross_mask)
        return self.logits(x.expand_dims(1)).squeeze(2)


class TextConditioner(nn.Cell):
    """Encoder states to the width of the decoder: project, then blank the padding."""

    def __init__(self, text_dim, dim, dtype):
        super().__init__()
        self.enc_to_dec_proj = Linear(text_dim, dim, bias=True, dtype=dtype) if text_dim != dim else None

    def construct(self, states, mask):
        """states: [B, S, text dim]; mask: [B, S] -> [B, S, D]"""
        states = states if self.enc_to_dec_proj is None else self.enc_to_dec_proj(states)
        return states * mask.expand_dims(-1).astype(states.dtype)
