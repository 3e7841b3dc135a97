"""The decoder of the melody models: MusicGen's without cross-attention, which reads what it is to follow as a prefix.

Paper and numbers as in `musicgen.decoder`; follows transformers' `modeling_musicgen_melody.py`. The prefix holds chroma
first, then the text. It takes the first positions, is attended to like columns of codes, and nothing in it is masked:
padded text is zeros, which count.

Shapes as in `musicgen.decoder`; besides, C chroma frames, N pitch classes, P = C + S positions of the prefix.
"""

import mindspore as ms
from mindspore import nn, ops

from ...models.layers import LayerNorm, Linear, activation, additive_mask
from ...ops.indices import indices
from ..decoder import MusicgenDecoder, SelfAttention


class MelodyConditioner(nn.Cell):
    """Text states and chroma to the prefix that the decoder reads.

    Args:
        text_dim (int): width of the text states.
        num_chroma (int): pitch classes.
        dim (int): width of the decoder.
        dtype (mindspore.dtype): dtype of weights and prefix.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, text_dim, num_chroma, dim, dtype):
        super().__init__()
        self.dtype = dtype
        self.enc_to_dec_proj = Linear(text_dim, dim, bias=True, dtype=dtype) if text_dim != dim else None
        self.audio_enc_to_dec_proj = Linear(num_chroma, dim, bias=True, dtype=dtype) if num_chroma != dim else None

    def construct(self, states, mask, chroma):
        """Project both, blank the text's padding, and put the chroma in front.

        Args:
            states (Tensor): text states, [B, S, text dim].
            mask (Tensor): [B, S], 0 for padding.
            chroma (Tensor): [R, C, N]; rows beyond the text's have a null text.

        Returns:
            Tensor: [R, C + S, D].
        """
        text = states.astype(self.dtype) if self.enc_to_dec_proj is None else self.enc_to_dec_proj(states)
        text = text * mask.expand_dims(-1).astype(self.dtype)
        missing = chroma.shape[0] - text.shape[0]
        if missing:
            text = ops.concat((text, ops.zeros((missing,) + text.shape[1:], self.dtype)), 0)
        return ops.concat((self.heard(chroma), text), 1)

    def heard(self, chroma):
        """Chroma [R, C, N] at the width of the decoder, [R, C, D]."""
        return chroma.astype(self.dtype) if self.audio_enc_to_dec_proj is None else self.audio_enc_to_dec_proj(chroma)


class MelodyDecoderLayer(nn.Cell):
    """Self-attention and feed-forward, each after a layer norm and added to the residual."""

    def __init__(self, config, dtype):
        super().__init__()
        dim, heads = config.hidden_size, config.num_attention_heads
        if heads < 1 or dim % heads:
            raise ValueError(f"num_attention_heads {heads} does not divide hidden_size {dim}")
        self.self_attn = SelfAttention(dim, heads, dtype)
        self.self_attn_layer_norm = LayerNorm(dim, dtype=dtype)
        self.fc1 = Linear(dim, config.ffn_dim, dtype=dtype)
        self.fc2 = Linear(config.ffn_dim, dim, dtype=dtype)
        self.final_layer_norm = LayerNorm(dim, dtype=dtype)
        self.activation = activation(config.activation_function)

    def feed_forward(self, x, y):
        """The rest of a layer after y was to be added to x."""
        x, normed = self.final_layer_norm.after_sum(x, y)
        return x + self.fc2(self.activation(self.fc1(normed)))

    def construct(self, x, mask):
        """All positions. x: [B, T, D]. Returns [B, T, D] and k, v for a cache."""
        y, k, v = self.self_attn(self.self_attn_layer_norm(x), mask)
        return self.feed_forward(x, y), k, v

    def step(self, x, position, key_cache, value_cache):
        """One position. x: [B, D]."""
        return self.feed_forward(x, self.self_attn.step(self.self_attn_layer_norm(x), position, key_cache, value_cache))


class MusicgenMelodyDecoder(MusicgenDecoder):
    """The transformer and the heads: a prefix and codes in, logits out.

    Args:
        config (transformers.MusicgenMelodyDecoderConfig): sizes of the decoder.
        dtype (mindspore.dtype): dtype of weights and activations; logits are always float32.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    layer = MelodyDecoderLayer

    def construct(self, x):
        """Every position at once, as in training or prefill.

        Args:
            x (Tensor): the prefix and the codes' embeddings behind it, without positions, [B, T, D].

        Returns:
            hidden states before the last norm [B, T, D], and the flat tuple k0, v0, k1, v1, ... of [B, H, T, d].
        """
        order = indices(0, x.shape[1])
        mask = additive_mask(order.reshape(1, -1) <= order.reshape(-1, 1), self.dtype)
        # A bucket may be longer than the table; what lies there is padding.
        known = ops.minimum(order, self.positions.shape[0] - 1)
        x = x + self.gather(self.positions, known, 0)
        cache = ()
        for layer in self.layers:
            x, k, v = layer(x, mask)
            cache += (k, v)
        return x, cache

    def step(self, ids, position, cache):
        """One column. ids: [B, K]; position: [1] int32, the prefix counted; cache: Parameters k0, v0, ..., updated.

        Returns float32 logits [B, K, V].
        """
        x = self.embed(ids.expand_dims(-1), position).squeeze(1)
        for i, layer in enumerate(self.layers):
            x = layer.step(x, position, cache[2 * i], cache[2 * i + 1])
        return self.logits(x.expand_dims(1)).squeeze(2)


def fit_chroma(chroma, length):
    """Chroma [B, n, N] -> [B, length, N]: a longer one is cut, a shorter one begins again from its start."""
    times = -(-length // chroma.shape[1])
    return ops.tile(chroma.astype(ms.float32), (1, times, 1))[:, :length]
