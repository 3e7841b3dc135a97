"""The decode loop of the melody models: `decode_loop` with a prefix of chroma and text in place of cross-attention.

The prefix and the known columns pass through `prefill` together. The text's bucket is longer than the text, and nothing
in a prefix is masked; so inside the graph the codes move up to the text's end, and the padding ends up behind them.

Shapes as in `decode_loop`; besides, C chroma frames, N pitch classes, P = C + text bucket.
"""

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ...generation.decode_loop import CACHE_BUCKETS, PROMPT_BUCKETS, bucket, cache_buffers
from ...ops.indices import indices
from ..decode_loop import DecodeGraphs
from ..generator import CodeGenerator


class MelodyState(nn.Cell):
    """The buffers of one shape bucket: KV cache, and the prefix with its length."""

    def __init__(self, config, rows, prefix_length, cache_length, dtype):
        super().__init__()
        self.cache = cache_buffers("cache", config, rows, cache_length, dtype)
        shape = (rows, prefix_length, config.hidden_size)
        self.prefix = Parameter(Tensor(np.zeros(shape), dtype), name="prefix", requires_grad=False)
        self.length = Parameter(Tensor(np.zeros(1, np.int32)), name="length", requires_grad=False)


class MelodyGraphs(DecodeGraphs):
    """The compiled pieces of one bucket; `decoder`, `conditioner` and `state` are those of a melody model."""

    prompt_buckets = (1, *PROMPT_BUCKETS)  # even without a prompt there is a prefill, for the start column

    def _condition(self, states, mask, chroma, length):
        """Compute and keep the prefix. states: [B, S, text dim], mask: [B, S], chroma: [R, C, N], length: [1] int32."""
        prefix = self.conditioner(states, mask, chroma)
        ops.assign(self.state.prefix, prefix)
        ops.assign(self.state.length, length)
        return prefix

    def _prefill(self, ids, length, forced, uniforms, scales, filters):
        """Run the prefix and `length` known columns and choose the next one; arguments as in `DecodeGraphs`."""
        prefix, known = self.state.prefix, self.state.length
        both = ops.concat((prefix, self.decoder.embed_tokens(self.rows(ids))), 1)
        order = indices(0, both.shape[1]).astype(known.dtype)
        behind = ops.minimum(order + (prefix.shape[1] - known), both.shape[1] - 1)
        x, pairs = self.decoder.construct(self.gather(both, ops.select(order < known, order, behind), 1))
        for i in range(len(pairs)):
            buffer = self.state.cache[i]
            buffer[:, :, order] = pairs[i]
        logits = self.decoder.logits(self.gather(x, known + length - 1, 1)).squeeze(2)
        return self.pick(logits, forced, uniforms, scales, filters), logits.sum()

    def step_logits(self, ids, position):
        """Logits [R, K, V] of the column after `ids` [B, K] at `position` [1] int32."""
        return self.decoder.step(self.rows(ids), position, self.state.cache)


class MelodyGenerator(CodeGenerator):
    """Generates codes with the decoder of a melody model; takes a `melody.inputs.MelodyRequest`."""

    def conditioned(self, request, length, frame):
        chroma = request.chroma_from(frame)
        known = chroma.shape[1] + request.tokens
        room = chroma.shape[1] + request.states.shape[1]
        graphs, key = self.graphs_for(len(chroma), room, length, request.settings.guided)
        graphs.offset = known
        graphs.condition(request.states, request.mask, Tensor(chroma), Tensor(np.array([known], np.int32)))
        return graphs, key

    def cache_length(self, text_length, length):
        return bucket(text_length + bucket(length, PROMPT_BUCKETS), CACHE_BUCKETS)  # prefill fills whole buckets

    def make_graphs(self, rows, text_length, cache_length, guided):
        state = MelodyState(self.config, rows, text_length, cache_length, self.decoder.dtype)
        return MelodyGraphs(self.decoder, self.conditioner, state, guided, self.key)
