"""Bark's transformers: the causal one of the semantic and the coarse stage, and the one that fills in fine codebooks.

Bark is Suno's (github.com/suno-ai/bark); the layer is GPT-2's: a norm before each part, learned positions, the exact
GELU. The numbers follow transformers' `modeling_bark.py`, and so do the parameters' names.

Shapes: B rows, T positions, D hidden size, H heads of size d, L positions that the cache has room for, V ids.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..models.layers import LayerNorm, Linear, additive_mask, empty_parameter, gelu
from ..ops import native
from ..ops.attention import CachedAttention, attention_for
from ..ops.gpt import decode_op
from ..ops.indices import indices
from ..ops.linear import matmul_transposed
from ..ops.sequence import attention_op, filling_op, gelu_op


class SelfAttention(nn.Cell):
    """Self-attention with q, k and v as one matrix; `causal` hides what follows a position."""

    def __init__(self, config, dtype, causal, linear):
        super().__init__()
        dim, self.num_heads = config.hidden_size, config.num_heads
        self.att_proj = linear(dim, 3 * dim, bias=config.bias, dtype=dtype)
        self.out_proj = linear(dim, dim, bias=config.bias, dtype=dtype)
        self.kernel, self.filling = attention_op(dtype), filling_op(dtype)
        self.heads, self.causal = (Tensor(np.array([n], np.int32)) for n in (self.num_heads, int(causal)))
        self.attention = attention_for(self.num_heads, dim // self.num_heads, dtype)
        self.cached_attention = CachedAttention(self.num_heads, dim // self.num_heads, dtype)

    def project(self, x):
        """[B, T, D] -> q, k, v of [B, H, T, d] each"""
        rows, columns, dim = x.shape
        qkv = self.att_proj(x).reshape(rows, columns, 3 * self.num_heads, dim // self.num_heads)
        return ops.split(qkv.swapaxes(1, 2), self.num_heads, 1)

    def merge(self, x):
        """[B, H, T, d] -> [B, T, D]"""
        rows, heads, columns, size = x.shape
        return self.out_proj(x.swapaxes(1, 2).reshape(rows, columns, heads * size))

    def construct(self, x, mask):
        """All positions at once. x: [B, T, D], mask: [T, T] additive, of what is not causal zero."""
        if self.kernel is not None:
            return self.out_proj(self.kernel(self.att_proj(x), self.heads, self.causal))
        q, k, v = self.project(x)
        return self.merge(self.attention(q, k, v, mask))

    def fill(self, x, mask, key_cache, value_cache):
        """The same, and k and v into the first positions of caches [B, H, L, d]."""
        if self.filling is not None:
            return self.out_proj(self.filling(self.att_proj(x), self.heads, self.causal, key_cache, value_cache))
        q, k, v = self.project(x)
        order = indices(0, x.shape[1])
        key_cache[:, :, order] = k
        value_cache[:, :, order] = v
        return self.merge(self.attention(q, k, v, mask))

    def step(self, x, position, key_cache, value_cache):
        """One id at `position` ([1] int32). x: [B, D]; the caches [B, H, L, d] are updated in place."""
        rows, dim = x.shape
        qkv = self.att_proj(x).reshape(rows, 3 * self.num_heads, 1, dim // self.num_heads)
        q, k, v = ops.split(qkv, self.num_heads, 1)  # [B, H, 1, d] each
        return self.out_proj(self.cached_attention(q, k, v, key_cache, value_cache, position).reshape(rows, dim))


class FeedForward(nn.Cell):
    """Four times the width, and back."""

    def __init__(self, config, dtype, linear):
        super().__init__()
        dim = config.hidden_size
        self.in_proj = linear(dim, 4 * dim, bias=config.bias, dtype=dtype)
        self.out_proj = linear(4 * dim, dim, bias=config.bias, dtype=dtype)
        self.gelu = gelu_op(dtype) or gelu

    def construct(self, x):
        return self.out_proj(self.gelu(self.in_proj(x)))


class Layer(nn.Cell):
    """Self-attention and feed-forward, each after a norm and added to what came in."""

    def __init__(self, config, dtype, causal, linear):
        super().__init__()
        norm_bias = config.bias or not causal
        self.layernorm_1 = LayerNorm(config.hidden_size, dtype=dtype, bias=norm_bias)
        self.attn = SelfAttention(config, dtype, causal, linear)
        self.layernorm_2 = LayerNorm(config.hidden_size, dtype=dtype, bias=norm_bias)
        self.mlp = FeedForward(config, dtype, linear)

    def feed_forward(self, x, y):
        """The rest of the layer after y was to be added to x."""
        x, normed = self.layernorm_2.after_sum(x, y)
        return x + self.mlp(normed)

    def construct(self, x, mask):
        """All positions. x: [B, T, D]."""
        return self.feed_forward(x, self.attn(self.layernorm_1(x), mask))

    def fill(self, x, mask, key_cache, value_cache):
        """All positions, whose keys and values go into caches."""
        return self.feed_forward(x, self.attn.fill(self.layernorm_1(x), mask, key_cache, value_cache))

    def step(self, x, position, key_cache, value_cache):
        """One id. x: [B, D]."""
        return self.feed_forward(x, self.attn.step(self.layernorm_1(x), position, key_cache, value_cache))


class Table(nn.Cell):
    """Rows that ids are looked up in, `weight` of shape (ids, D)."""

    def __init__(self, size, dim, dtype):
        super().__init__()
        self.weight = empty_parameter(size, dim, dtype=dtype)
        self.gather = ops.Gather()

    def construct(self, ids):
        """[...] int32 -> [..., D]"""
        return self.gather(self.weight, ids, 0)


def check_heads(config):
    """Refuse a width that its heads do not divide.

    Raises:
        ValueError: saying so.
    """
    if config.hidden_size % config.num_heads:
        raise ValueError(f"num_heads {config.num_heads} does not divide hidden_size {config.hidden_size}")


class CausalGpt(nn.Cell):
    """Ids in, logits of the next id out: the semantic and the coarse stage.

    `linear` and `head` are the kinds of its matrices.

    Args:
        config (transformers.BarkSemanticConfig | transformers.BarkCoarseConfig): sizes.
        dtype (mindspore.dtype): dtype of weights and activations; logits are always float32.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    linear = head = Linear

    def __init__(self, config, dtype=ms.float32):
        super().__init__()
        check_heads(config)
        self.config, self.dtype, dim = config, dtype, config.hidden_size
        self.input_embeds_layer = Table(config.input_vocab_size, dim, dtype)
        self.position_embeds_layer = Table(config.block_size, dim, dtype)
        self.layers = nn.CellList([Layer(config, dtype, True, self.linear) for _ in range(config.num_layers)])
        self.layernorm_final = LayerNorm(dim, dtype=dtype, bias=config.bias)
        self.lm_head = self.head(dim, config.output_vocab_size, dtype=dtype)
        self.heads = Tensor(np.array([config.num_heads], np.int32))

    def decode_op(self, count):
        """The operator that runs steps, reading `outer_weights` and `inner_weights`; None: `step` runs them."""
        return None if self.config.bias else decode_op(self.dtype, count)

    def outer_weights(self):
        """What a step reads beside its layers, in the operator's order."""
        norm = self.layernorm_final
        found = (self.input_embeds_layer.weight, self.position_embeds_layer.weight, norm.weight, norm.bias)
        return found + (self.lm_head.weight,)

    def inner_weights(self, cache):
        """What a step reads in its layers: for each the weights, keys and values."""
        found = ()
        for i, layer in enumerate(self.layers):
            norm, other, attn, mlp = layer.layernorm_1, layer.layernorm_2, layer.attn, layer.mlp
            first = (norm.weight, norm.bias, attn.att_proj.weight, attn.out_proj.weight)
            second = (other.weight, other.bias, mlp.in_proj.weight, mlp.out_proj.weight)
            found += first + second + (cache[2 * i], cache[2 * i + 1])  # at once: a graph keeps every longer tuple
        return found

    def prefill(self, x, cache):
        """Many positions at once, from 0 on.

        Args:
            x (Tensor): embeddings without positions, [B, T, D].
            cache (tuple[Parameter]): k0, v0, k1, v1, ... of [B, H, L, d], whose first T positions are written.

        Returns:
            hidden states after the final norm [B, T, D].
        """
        order = indices(0, x.shape[1])
        mask = additive_mask(order.reshape(1, -1) <= order.reshape(-1, 1), self.dtype)
        x = x + self.position_embeds_layer(order)
        for i, layer in enumerate(self.layers):
            x = layer.fill(x, mask, cache[2 * i], cache[2 * i + 1])
        return self.layernorm_final(x)

    def step(self, ids, position, cache):
        """One id. ids: [B] int32; position: [1] int32; cache: Parameters k0, v0, ... of [B, H, L, d], updated.

        Returns hidden states after the final norm, [B, D].
        """
        x = self.input_embeds_layer(ids) + self.position_embeds_layer(position)
        for i, layer in enumerate(self.layers):
            x = layer.step(x, position, cache[2 * i], cache[2 * i + 1])
        return self.layernorm_final(x)

    def some_logits(self, x, first, count):
        """Float32 logits [B, count] of the ids from `first` ([] int32) on, for x [B, D]. Few ids read few weights."""
        chosen = first + indices(0, count).astype(ms.int32)
        if 2 * count > self.config.output_vocab_size:
            return ops.gather(self.lm_head.product(x).astype(ms.float32), chosen, 1)
        rows = ops.gather(self.lm_head.weight, chosen, 0)
        return matmul_transposed(x, rows, self.lm_head.kernel, self.lm_head.most_rows).astype(ms.float32)


class Tables(nn.Cell):
    """One table for each codebook, as one parameter `weight` of shape (K * ids, D)."""

    def __init__(self, books, size, dim, dtype):
        super().__init__()
        self.books, self.size = books, size
        self.weight = empty_parameter(books * size, dim, dtype=dtype)
        self.offsets = Tensor(np.arange(books, dtype=np.int32) * size)
        self.gather = ops.Gather()
        self.kernel, self.most_rows = native.linear_op(), native.linear_rows()

    def construct(self, codes, used):
        """codes: [B, T, K] int32; used: [K] of 0 and 1 -> the sum over the used codebooks, [B, T, D]"""
        found = self.gather(self.weight, codes + self.offsets, 0)
        return (found * used.reshape(-1, 1).astype(found.dtype)).sum(axis=2)

    def product(self, x, book):
        """x: [N, D]; book: [] int32 -> x times that table, [N, ids]"""
        rows = self.gather(self.weight, book * self.size + indices(0, self.size).astype(ms.int32), 0)
        return matmul_transposed(x, rows, self.kernel, self.most_rows)


class FineGpt(nn.Cell):
    """Fills in a codebook from those below it, all frames at once and looking both ways; `linear` as of `CausalGpt`.

    The head of codebook k has the table of codebook k as its weights, unless the config says that they are not tied.

    Args:
        config (transformers.BarkFineConfig): sizes.
        dtype (mindspore.dtype): dtype of weights and activations; logits are always float32.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    linear = Linear

    def __init__(self, config, dtype=ms.float32):
        super().__init__()
        check_heads(config)
        self.config, self.dtype, dim, size = config, dtype, config.hidden_size, config.input_vocab_size
        self.given, self.tied = config.n_codes_given, getattr(config, "tie_word_embeddings", True)
        if self.tied and size != config.output_vocab_size:
            raise ValueError(f"tied heads need output_vocab_size {config.output_vocab_size} to be input_vocab_size")
        self.input_embeds_layers = Tables(config.n_codes_total, size, dim, dtype)
        self.position_embeds_layer = Table(config.block_size, dim, dtype)
        self.layers = nn.CellList([Layer(config, dtype, False, self.linear) for _ in range(config.num_layers)])
        self.layernorm_final = LayerNorm(dim, dtype=dtype)
        heads = config.n_codes_total - config.n_codes_given
        self.lm_heads = None if self.tied else Tables(heads, config.output_vocab_size, dim, dtype)
        self.books = Tensor(np.arange(config.n_codes_total, dtype=np.int32))
        self.everything = Tensor(np.zeros((1, 1), np.float32), dtype)  # a mask that hides nothing

    def hidden(self, x):
        """Embeddings without positions [B, T, D] to hidden states after the final norm, [B, T, D]."""
        x = x + self.position_embeds_layer(indices(0, x.shape[1]))
        return self.layernorm_final(self.through(x))

    def through(self, x):
        """x through all layers."""
        return self.one_by_one(x)

    def one_by_one(self, x):
        """The same, a layer at a time."""
        mask = ops.broadcast_to(self.everything, (x.shape[1], x.shape[1]))
        for layer in self.layers:
            x = layer(x, mask)
        return x

    def embed(self, codes, book):
        """codes: [B, T, K] int32; book: [] int32 -> the sum of the embeddings of codebooks 0 .. book, [B, T, D]"""
        return self.input_embeds_layers(codes, (self.books <= book).astype(ms.int32))

    def head(self, x, book):
        """Hidden states [B, T, D] to float32 logits [B, T, V] of a codebook."""
        rows, frames, dim = x.shape
        x = x.reshape(rows * frames, dim)
        if self.tied:  # the given codebooks have tables and no heads; the head of each other one is its table
            y = self.input_embeds_layers.product(x, book - self.given + 1)
        else:
            y = self.lm_heads.product(x, book - self.given)
        return y.astype(ms.float32).reshape(rows, frames, -1)

    def predict(self, codes, book):
        """Float32 logits [B, T, V] of a codebook `book` [] int32 for codes [B, T, K], those below it known."""
        return self.head(self.hidden(self.embed(codes, book)), book)
