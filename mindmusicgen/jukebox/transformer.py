"""Jukebox's transformer: over music codes, over lyrics and music in one sequence, or, as an encoder, over lyrics.

At position t it reads the code before it (what the song is about at the first), the position, and a condition; it tells
the code at t. Shapes: B samples, T positions, W width, V ids.
"""

import mindspore as ms
import numpy as np
from mindspore import ParameterTuple, Tensor, nn, ops

from ..models.layers import LayerNorm, Linear, empty_parameter
from ..ops import native
from ..ops.indices import indices
from ..ops.linear import matmul_transposed
from ..ops.rings import KINDS, MOST, ring_ops
from .attention import Attention, Kind


def quick_gelu(x):
    """x * sigmoid(1.702 x)"""
    return x * ops.sigmoid(1.702 * x)


class Table(nn.Cell):
    """Rows that ids are looked up in, `weight` of shape (ids, W)."""

    def __init__(self, size, dim, dtype=ms.float32):
        super().__init__()
        self.weight = empty_parameter(size, dim, dtype=dtype)
        self.gather = ops.Gather()

    def construct(self, ids):
        """[...] int32 -> [..., W]"""
        return self.gather(self.weight, ids, 0)


class FeedForward(nn.Cell):
    """As wide as the network, and back."""

    def __init__(self, config, dtype, linear):
        super().__init__()
        dim, hidden = config.hidden_size, int(config.mlp_multiplier * config.hidden_size)
        self.c_fc = linear(dim, hidden, bias=True, dtype=dtype)
        self.c_proj = linear(hidden, dim, bias=True, dtype=dtype)

    def construct(self, x):
        return self.c_proj(quick_gelu(self.c_fc(x)))


class Layer(nn.Cell):
    """Attention and feed-forward, each after a norm and added to what came in."""

    def __init__(self, config, kind, positions, dtype, linear):
        super().__init__()
        self.layer_norm_0 = LayerNorm(config.hidden_size, dtype=dtype)
        self.attn = Attention(config, kind, positions, dtype, linear)
        self.layer_norm_1 = LayerNorm(config.hidden_size, dtype=dtype)
        self.mlp = FeedForward(config, dtype, linear)
        self.scale = 1.0 / config.num_layers if config.attn_res_scale else 1.0

    def rest(self, x, y):
        """The layer after y was to be added to x."""
        total, normed = self.layer_norm_1.after_sum(x, y)
        if self.scale == 1.0:
            return total + self.mlp(normed)
        return x + self.scale * (y + self.mlp(normed))

    def construct(self, x, states):
        """Whole rows. x: [B, T, W]."""
        return self.rest(x, self.attn(self.layer_norm_0(x), states))

    def fill(self, x, states, length, keys, values):
        """Whole rows, whose keys and values go into buffers."""
        return self.rest(x, self.attn.fill(self.layer_norm_0(x), states, length, keys, values))

    def step(self, x, place, keys, values):
        """One position. x: [B, W]."""
        return self.rest(x, self.attn.step(self.layer_norm_0(x), place, keys, values))


class Transformer(nn.Cell):
    """Ids to logits of the next ones.

    Args:
        config (JukeboxPriorConfig): sizes.
        positions (int): of a whole sequence.
        ids (int): V.
        dtype (mindspore.dtype): of weights and activations; logits are always float32.
        encoder (bool): whether it reads lyrics: a start token of its own, and no head.
        linear (type): of the layers' matrices.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, config, positions, ids, dtype=ms.float32, encoder=False, linear=Linear):
        super().__init__()
        dim = config.hidden_size
        self.positions, self.dtype, self.tied = positions, dtype, not config.merged_decoder
        self.embed_tokens = Table(ids, dim, dtype)
        self.pos_emb = empty_parameter(positions, dim, dtype=dtype)
        self.start_token = empty_parameter(1, dim, dtype=dtype) if encoder else None
        self.kinds = config.kinds
        self.layers = nn.CellList([Layer(config, kind, positions, dtype, linear) for kind in self.kinds])
        self.used = list(dict.fromkeys(self.kinds))  # each kind once
        self.which = [self.used.index(kind) for kind in self.kinds]
        self.sizes = [Kind(config, kind, positions) for kind in self.kinds]
        self.fc_proj_out = None if encoder or self.tied else Linear(dim, ids, dtype=dtype)
        self.gather = ops.Gather()
        self.kernel, self.most_rows = native.linear_op(), native.linear_rows()
        fits = dtype == ms.float32 and positions <= MOST and not (encoder or config.attn_res_scale)
        self.rings = ring_ops() if fits else None
        first = self.sizes[0]
        facts = [first.heads, first.row, first.rows, first.prime, positions - config.n_ctx, int(self.tied)]
        self.facts = Tensor(np.array(facts, np.int32))
        self.numbers = Tensor(np.array([KINDS.index(kind) for kind in self.kinds], np.int32))
        self.unused = Tensor(np.zeros(1, np.int32))

    def embed(self, ids, start, condition):
        """What the first T positions read.

        Args:
            ids (Tensor): [B, T] int32, of the positions themselves: each reads the one before it.
            start (Tensor): what stands before the first, [B, W].
            condition (Tensor): [B, T, W].
        """
        before = self.embed_tokens(ids)
        start = start.expand_dims(1)
        if ids.shape[1] > 1:
            rest = ops.strided_slice(before, (0, 0, 0), (before.shape[0], ids.shape[1] - 1, before.shape[2]), (1, 1, 1))
            start = ops.concat((start, rest), 1)
        return start + self.gather(self.pos_emb, indices(0, ids.shape[1]), 0) + condition

    def head(self, x):
        """[rows, W] -> float32 logits [rows, V]"""
        if not self.tied:
            return self.fc_proj_out(x).astype(ms.float32)
        return matmul_transposed(x, self.embed_tokens.weight, self.kernel, self.most_rows).astype(ms.float32)

    def hidden(self, x, states):
        """What the positions read, [B, T, W], through all layers; T whole rows."""
        for layer in self.layers:
            x = layer(x, states)
        return x

    def logits(self, ids, start, condition, states):
        """Logits [B, T, V] of every position of whole sequences; arguments as in `embed`, states as in `Attention`."""
        x = self.hidden(self.embed(ids, start, condition), states)
        x = x + condition if self.tied else x
        return self.head(x.reshape(-1, x.shape[2])).reshape(x.shape[0], x.shape[1], -1)

    def fill(self, ids, start, condition, states, length, buffers):
        """Known ids at once: their keys and values go into the buffers k0, v0, k1, v1, ...; returns the last states."""
        x = self.embed(ids, start, condition)
        for i, layer in enumerate(self.layers):
            x = layer.fill(x, states, length, buffers[2 * i], buffers[2 * i + 1])
        return x

    def step(self, ids, start, condition, position, places, buffers):
        """Logits [B, V] of one position.

        Args:
            ids (Tensor): [B] int32, of the position before.
            start (Tensor): [B, W], in its place at the first.
            condition (Tensor): [B, W].
            position (Tensor): [1] int32.
            places (tuple): of each kind of attention in `used`.
            buffers (tuple[Parameter]): as in `fill`.
        """
        before = ops.select(ops.broadcast_to((position == 0).reshape(1, 1), start.shape), start, self.embed_tokens(ids))
        x = before + self.gather(self.pos_emb, position, 0) + condition
        for i, layer in enumerate(self.layers):
            x = layer.step(x, places[self.which[i]], buffers[2 * i], buffers[2 * i + 1])
        return self.head(x + condition if self.tied else x)

    def head_weight(self):
        """What the last states are multiplied with, [V, W]."""
        return self.embed_tokens.weight if self.tied else self.fc_proj_out.weight

    def inner_weights(self, buffers):
        """Everything that the layers read, in the operators' order. Gathered here and not in a graph, which a thousand
        parameters that are put together one by one would take a minute to compile."""
        found = []
        for i, layer in enumerate(self.layers):
            found += (layer.layer_norm_0.weight, layer.layer_norm_0.bias)
            found += (*layer.attn.c_attn.parts(), *layer.attn.c_proj.parts())
            found += (layer.layer_norm_1.weight, layer.layer_norm_1.bias)
            found += (*layer.mlp.c_fc.parts(), *layer.mlp.c_proj.parts())
            found += (buffers[2 * i], buffers[2 * i + 1])
        return ParameterTuple(found)

    def fill_at_once(self, ids, start, conditions, length, weights):
        """`fill` as one operator: conditions [B n, W] of the codes, `inner_weights`; returns the last states [B, W]."""
        outer = (self.embed_tokens.weight, self.pos_emb, start, conditions)
        return self.rings[1](ids, length, self.unused, self.facts, self.numbers, *outer, *weights)

    def steps_at_once(self, ids, position, steps, start, conditions, uniforms, filters, weights):
        """Steps as one operator: ids [N, B] of which the first `steps` are new, and the last logits [B, V].

        Args:
            ids, position, start, conditions, weights: as in `step` and `fill_at_once`.
            steps (Tensor): [] int32.
            uniforms (Tensor): [N, B] float32.
            filters (tuple[Tensor]): temperature, top_k, top_p.
        """
        outer = (self.embed_tokens.weight, self.pos_emb, start, conditions, self.head_weight(), uniforms)
        outer += (filters[0], filters[1], filters[2])
        return self.rings[0](ids, position, steps, self.facts, self.numbers, *outer, *weights)
