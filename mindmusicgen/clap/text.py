"""CLAP's text side: RoBERTa and a projection, a text to a vector of length 1.

RoBERTa, Liu et al., arXiv:1907.11692; CLAP, Wu et al., arXiv:2211.06687. The numbers follow transformers'
`modeling_clap`, and so do most names of parameters: see `clap.folder`.

Shapes: B texts, T tokens, D hidden size.
"""

import mindspore as ms
from mindspore import nn, ops

from ..models.layers import LayerNorm, Linear, additive_mask, empty_parameter, gelu, tanh
from ..ops.attention import attention


class Embeddings(nn.Cell):
    """Tokens, their positions, and the one type of token, normed."""

    def __init__(self, config):
        super().__init__()
        self.pad = config.pad_token_id
        self.word_embeddings = empty_parameter(config.vocab_size, config.hidden_size)
        self.position_embeddings = empty_parameter(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = empty_parameter(1, config.hidden_size)
        self.norm = LayerNorm(config.hidden_size, config.layer_norm_eps)

    def construct(self, ids, mask):
        """Positions count the tokens that are no padding, from one behind the padding's id."""
        counted = ops.cumsum(mask.astype(ms.float32), 1).astype(ms.int32) * mask + self.pad
        x = ops.gather(self.word_embeddings, ids, 0) + self.token_type_embeddings
        return self.norm(x + ops.gather(self.position_embeddings, counted, 0))


class Layer(nn.Cell):
    """Self-attention and feed-forward, each added to what came in and normed."""

    def __init__(self, config):
        super().__init__()
        dim, self.heads = config.hidden_size, config.num_attention_heads
        self.qkv, self.attended = Linear(dim, 3 * dim, True), Linear(dim, dim, True)
        self.attended_norm = LayerNorm(dim, config.layer_norm_eps)
        self.intermediate = Linear(dim, config.intermediate_size, True)
        self.output, self.output_norm = (
            Linear(config.intermediate_size, dim, True),
            LayerNorm(dim, config.layer_norm_eps),
        )

    def construct(self, x, hidden):
        rows, length, dim = x.shape
        qkv = self.qkv(x).reshape(rows, length, 3 * self.heads, dim // self.heads)
        q, k, v = ops.split(qkv.transpose(0, 2, 1, 3), self.heads, 1)
        y = attention(q, k, v, hidden).transpose(0, 2, 1, 3).reshape(rows, length, dim)
        x = self.attended_norm(x + self.attended(y))
        return self.output_norm(x + self.output(gelu(self.intermediate(x))))


class TextEncoder(nn.Cell):
    """Texts to vectors.

    Args:
        config (clap.config.TextConfig): sizes.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, config):
        super().__init__()
        self.config, size = config, config.projection_dim
        self.embeddings = Embeddings(config)
        self.layers = nn.CellList([Layer(config) for _ in range(config.num_hidden_layers)])
        self.pooler = Linear(config.hidden_size, config.hidden_size, True)
        self.linear1, self.linear2 = Linear(config.hidden_size, size, True), Linear(size, size, True)

    def states(self, ids, mask):
        """Last hidden states [B, T, D], and the first of them pooled [B, D]."""
        x = self.embeddings(ids, mask)
        hidden = additive_mask(mask).reshape(mask.shape[0], 1, 1, mask.shape[1])
        for layer in self.layers:
            x = layer(x, hidden)
        return x, tanh(self.pooler(x[:, 0]))

    def construct(self, ids, mask):
        """ids, mask: [B, T] int32, mask 0 where ids are padding -> [B, size], each of length 1."""
        y = self.linear2(ops.relu(self.linear1(self.states(ids, mask)[1])))
        return y / ops.sqrt((y * y).sum(-1, keepdims=True))
