"""The decoder's losses with operators that have gradients of their own: `ops/gradients.py`.

The same numbers as `MusicgenDecoder.construct`, its heads and `CodebookCrossEntropy`, to float32 rounding; no keys and
values for a cache come out, and activations keep the layout of the products: rows of the batch and columns together.
The cells here borrow the decoder's parameters and leave their names alone, by which checkpoints of a run find them.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from ...models.layers import activation
from ...ops import gradients


def decoder_losses(decoder):
    """`DecoderLosses` for a decoder, or None where its operators are not available.

    Args:
        decoder (MusicgenDecoder): whose parameters are used.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """
    return DecoderLosses(decoder) if gradients.library_path() and decoder.dtype == ms.float32 else None


class Norm(nn.Cell):
    """A layer norm of rows, with the parameters of a `LayerNorm`."""

    def __init__(self, norm):
        super().__init__(auto_prefix=False)
        self.norm, self.eps, self.kernel = norm, Tensor(np.array([norm.eps], np.float32)), gradients.layer_norm_op()

    def construct(self, x):
        """[rows, D] -> [rows, D]"""
        return self.kernel(x, self.norm.weight, self.norm.bias, self.eps)[0]


class Layer(nn.Cell):
    """A layer, with the parameters of a `DecoderLayer`."""

    def __init__(self, layer, activation_function):
        super().__init__(auto_prefix=False)
        heads = layer.self_attn.num_heads
        self.layer, self.heads = layer, gradients.heads_number(heads)
        norms = layer.self_attn_layer_norm, layer.encoder_attn_layer_norm, layer.final_layer_norm
        self.norms = nn.CellList([Norm(norm) for norm in norms], auto_prefix=False)
        self.linear, self.linear_added = gradients.linear_op(), gradients.linear_added_op()
        self.self_attention = gradients.self_attention_op(heads)
        self.cross_attention = gradients.cross_attention_op(heads)
        self.feed_forward = gradients.feed_forward_op() if activation_function == "relu" else None
        self.activation = activation(activation_function)

    def construct(self, x, states, mask, rows):
        """x: [B T, D]; states: [B S, D]; mask: [B, S] additive; rows: B."""
        flat, part = x.shape, self.layer.self_attn
        qkv = self.linear(self.norms[0](x), part.qkv_proj.weight).reshape(rows, -1, 3 * flat[1])
        y = self.self_attention(qkv, self.heads)[0]
        x = self.linear_added(y.reshape(flat), part.out_proj.weight, x)

        part = self.layer.encoder_attn
        q = self.linear(self.norms[1](x), part.q_proj.weight).reshape(rows, -1, flat[1])
        kv = self.linear(states, part.kv_proj.weight).reshape(rows, -1, 2 * flat[1])
        y = self.cross_attention(q, kv, mask, self.heads)[0]
        x = self.linear_added(y.reshape(flat), part.out_proj.weight, x)

        y = self.norms[2](x)
        if self.feed_forward is not None:
            return self.feed_forward(y, self.layer.fc1.weight, self.layer.fc2.weight, x)[0]
        return self.linear_added(self.activation(self.linear(y, self.layer.fc1.weight)), self.layer.fc2.weight, x)


class DecoderLosses(nn.Cell):
    """Cross-entropies of the codebooks.

    Args:
        decoder (MusicgenDecoder): in float32, whose parameters are used.

    Inputs:
        - **codes** (Tensor) - the columns that are known, [B, K, T] int32 in 0 .. V.
        - **states** (Tensor) - the encoded prompt in the decoder's width, [B, S, D] float32.
        - **mask** (Tensor) - additive, [B, S] float32.
        - **labels** (Tensor) - the column after each, [B, K, T] int32; those outside 0 .. V - 1 do not count.

    Outputs:
        Tensor of shape [K], in nats.

    Raises:
        RuntimeError: from the kernel, for a code outside 0 .. V.

    Supported Platforms:
        ``CPU``
    """

    def __init__(self, decoder):
        super().__init__(auto_prefix=False)
        self.decoder = decoder
        layers = [Layer(layer, decoder.activation_function) for layer in decoder.layers]
        self.layers = nn.CellList(layers, auto_prefix=False)
        self.norm = Norm(decoder.layer_norm)
        self.linear, self.embedding = gradients.linear_op(), gradients.embedding_op()
        self.losses = gradients.code_losses_op()

    def construct(self, codes, states, mask, labels):
        rows, columns, dim = codes.shape[0], codes.shape[2], states.shape[2]
        x = self.embedding(self.decoder.embed_tokens.weight, codes, self.decoder.positions).reshape(-1, dim)
        states = states.reshape(-1, dim)
        for layer in self.layers:
            x = layer(x, states, mask, rows)
        logits = self.linear(self.norm(x), self.decoder.lm_heads.weight)
        return self.losses(logits.reshape(rows, columns, -1), labels)[0]
