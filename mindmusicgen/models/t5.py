"""The T5 encoder that turns a prompt into hidden states.

Paper: "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer" (Raffel et al., 2020).
The numbers follow transformers' `modeling_t5.py` (encoder only): RMS norms, no scaling of the scores, and one
relative position bias that every block shares.

Shapes: B prompts, S tokens, D model size, H heads of size d.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from .layers import Linear, RMSNorm, activation, additive_mask, empty_parameter


def relative_position_buckets(length, num_buckets, max_distance):
    """Bucket of key j as seen from query i, [length, length] int32.

    Half of the buckets serve each direction; within one, the first half holds exact distances, the second
    logarithmic ones up to `max_distance`, and everything beyond falls into the last.
    """
    positions = np.arange(length)
    relative = positions[None, :] - positions[:, None]
    num_buckets //= 2
    direction = (relative > 0) * num_buckets
    distance = np.abs(relative)
    exact = num_buckets // 2
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / exact) / np.log(max_distance / exact)
    far = exact + (ratio * (num_buckets - exact)).astype(np.int64)
    bucket = np.where(distance < exact, distance, np.minimum(far, num_buckets - 1))
    return (direction + bucket).astype(np.int32)


@ops.constexpr
def _bucket_table(length, num_buckets, max_distance):
    """The buckets as a constant of the graph, flattened: [length * length]."""
    return Tensor(relative_position_buckets(length, num_buckets, max_distance).reshape(-1))


class RelativePositionBias(nn.Cell):
    """A learnt bias per head and distance bucket, added to the attention scores."""

    def __init__(self, config):
        super().__init__()
        self.num_buckets, self.max_distance = (
            config.relative_attention_num_buckets,
            config.relative_attention_max_distance,
        )
        self.weight = empty_parameter(self.num_buckets, config.num_heads)
        self.gather = ops.Gather()

    def construct(self, length):
        """-> [1, H, length, length]"""
        bias = self.gather(self.weight, _bucket_table(length, self.num_buckets, self.max_distance), 0)
        return bias.reshape(length, length, -1).transpose(2, 0, 1).expand_dims(0)


class T5Attention(nn.Cell):
    """Self-attention with q, k and v as one matrix and unscaled scores."""

    def __init__(self, config, dtype, has_bias):
        super().__init__()
        self.num_heads, self.head_dim = config.num_heads, config.d_kv
        inner = config.num_heads * config.d_kv
        self.qkv = Linear(config.d_model, 3 * inner, dtype=dtype)
        self.o = Linear(inner, config.d_model, dtype=dtype)
        self.relative_attention_bias = RelativePositionBias(config) if has_bias else None
        self.scores, self.weighted = ops.BatchMatMul(transpose_b=True), ops.BatchMatMul()

    def construct(self, x, bias):
        """x: [B, S, D]; bias: [B, H, S, S], position bias and padding mask together."""
        rows, length, _ = x.shape
        qkv = self.qkv(x).reshape(rows, length, 3 * self.num_heads, self.head_dim).swapaxes(1, 2)
        q, k, v = ops.split(qkv, self.num_heads, 1)  # [B, H, S, d] each
        scores = self.scores(q, k).astype(ms.float32) + bias
        y = self.weighted(ops.softmax(scores, -1).astype(v.dtype), v)
        return self.o(y.swapaxes(1, 2).reshape(rows, length, self.num_heads * self.head_dim))


class T5FeedForward(nn.Cell):
    """wo(act(wi x)), or wo(act(wi_0 x) * wi_1 x) in the gated variants (T5 1.1, Flan-T5)."""

    def __init__(self, config, dtype):
        super().__init__()
        self.gated = config.is_gated_act
        if self.gated:
            self.wi_0 = Linear(config.d_model, config.d_ff, dtype=dtype)
            self.wi_1 = Linear(config.d_model, config.d_ff, dtype=dtype)
        else:
            self.wi = Linear(config.d_model, config.d_ff, dtype=dtype)
        # In half precision this product overflows, so it stays in float32, as in transformers.
        self.wo = Linear(config.d_ff, config.d_model, dtype=ms.float32)
        self.activation = activation(config.dense_act_fn)

    def construct(self, x):
        if self.gated:
            return self.wo(self.activation(self.wi_0(x)) * self.wi_1(x))
        return self.wo(self.activation(self.wi(x)))


class SelfAttentionLayer(nn.Cell):
    """x + attention(norm(x))"""

    def __init__(self, config, dtype, has_bias):
        super().__init__()
        self.SelfAttention = T5Attention(config, dtype, has_bias)  # the checkpoint's name
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon, dtype)

    def construct(self, x, bias):
        return x + self.SelfAttention(self.layer_norm(x), bias)


class FeedForwardLayer(nn.Cell):
    """x + feed_forward(norm(x))"""

    def __init__(self, config, dtype):
        super().__init__()
        self.DenseReluDense = T5FeedForward(config, dtype)  # the checkpoint's name
        self.layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon, dtype)

    def construct(self, x):
        return x + self.DenseReluDense(self.layer_norm(x)).astype(x.dtype)


class T5Block(nn.Cell):
    """Attention, then feed-forward; in float16 both results are clamped to finite values."""

    def __init__(self, config, dtype, has_bias):
        super().__init__()
        self.half = dtype == ms.float16
        self.layer = nn.CellList([SelfAttentionLayer(config, dtype, has_bias), FeedForwardLayer(config, dtype)])

    def clamp(self, x):
        return ops.clamp(x, -64504.0, 64504.0) if self.half else x

    def construct(self, x, bias):
        return self.clamp(self.layer[1](self.clamp(self.layer[0](x, bias))))


class T5Stack(nn.Cell):
    """The blocks and the last norm."""

    def __init__(self, config, dtype):
        super().__init__()
        self.block = nn.CellList([T5Block(config, dtype, has_bias=i == 0) for i in range(config.num_layers)])
        self.final_layer_norm = RMSNorm(config.d_model, config.layer_norm_epsilon, dtype)

    def construct(self, x, mask):
        """x: [B, S, D]; mask: [B, 1, 1, S], additive."""
        bias = self.block[0].layer[0].SelfAttention.relative_attention_bias(x.shape[1]) + mask
        for block in self.block:
            x = block(x, bias)
        return self.final_layer_norm(x)


class T5Encoder(nn.Cell):
    """Token ids in, hidden states out.

    Args:
        config (transformers.T5Config): sizes of the encoder.
        dtype (mindspore.dtype): dtype of weights and activations; norms, softmax and `wo` stay in float32.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, config, dtype=ms.float32):
        super().__init__()
        self.shared = TokenEmbedding(config.vocab_size, config.d_model, dtype)
        self.encoder = T5Stack(config, dtype)

    def construct(self, input_ids, attention_mask):
        """input_ids: [B, S] int32; attention_mask: [B, S], 1 for tokens, 0 for padding. Returns [B, S, D]."""
        rows, length = attention_mask.shape
        return self.encoder(self.shared(input_ids), additive_mask(attention_mask.reshape(rows, 1, 1, length)))


class TokenEmbedding(nn.Cell):
    """A table of shape (tokens, D)."""

    def __init__(self, tokens, dim, dtype):
        super().__init__()
        self.weight = empty_parameter(tokens, dim, dtype=dtype)
        self.gather = ops.Gather()

    def construct(self, ids):
        return self.gather(self.weight, ids, 0)


def parameter_count(config):
    """Parameters of the encoder that a `transformers.T5Config` describes."""
    inner, wide = config.num_heads * config.d_kv, (3 if config.is_gated_act else 2) * config.d_model * config.d_ff
    layer = 4 * config.d_model * inner + wide + 2 * config.d_model
    biases = config.relative_attention_num_buckets * config.num_heads
    return config.vocab_size * config.d_model + config.num_layers * layer + biases + config.d_model
