"""The decode loop of the 8-bit decoder: `decode_loop` with a cache of keys and values that has 8 bits as well."""

import mindspore as ms
from mindspore import Tensor, ops

from ...generation.decode_loop import CHUNK
from ...models.quantized import quantized_cache
from ...ops.choice import choose_op
from ..decode_loop import DecodeGraphs, DecodeState
from ..generator import CodeGenerator


class QuantizedState(DecodeState):
    """`DecodeState` whose cache holds, for every layer, keys, their scales, values and their scales."""

    def make_cache(self, config, rows, length, dtype):
        heads = config.num_attention_heads
        return quantized_cache(config.num_hidden_layers, rows, heads, length, config.hidden_size // heads)


class QuantizedGraphs(DecodeGraphs):
    """The compiled pieces of one bucket for a `QuantizedMusicgenDecoder` and a `QuantizedState`."""

    def __init__(self, decoder, conditioner, state, guided, key=None):
        super().__init__(decoder, conditioner, state, guided, key)
        self.choose = choose_op()
        self.streamed = decoder.streamed(state.cache, state.cross, state.cross_mask)

    def _chunk(self, ids, position, steps, forced, uniforms, scales, filters):
        columns, logits = self.steps(ids, position, steps, forced, uniforms, scales, filters)
        return columns, logits.sum()

    def steps(self, ids, position, steps, forced, uniforms, scales, filters):
        """`QuantizedMusicgenDecoder.decode` with this state."""
        return self.decoder.decode(ids, position, steps, forced, uniforms, scales, filters, self.streamed)

    def step_logits(self, ids, position):
        shape = (CHUNK, *ids.shape)
        forced, uniforms = ops.zeros(shape, ms.int32), ops.zeros(shape, ms.float32)
        filters = (Tensor(1.0, ms.float32), Tensor(1, ms.int32), Tensor(2.0, ms.float32))
        one = Tensor(1, ms.int32)
        return self.steps(ids, position, one, forced, uniforms, ops.ones(CHUNK, ms.float32), filters)[1]

    def keep(self, pairs, order):
        """Write the keys and values of prefill into the cache."""
        self.decoder.fill(pairs, self.state.cache)

    def pick(self, logits, forced, uniforms, scale, filters):
        """Logits [R, K, V] to the next column [B, K]; two dozen small operations are a tenth of a fast step."""
        return self.choose(logits, forced, uniforms, scale, filters[0], filters[1], filters[2])


class QuantizedGenerator(CodeGenerator):
    """Generates codes with a `QuantizedMusicgenDecoder`."""

    def make_graphs(self, rows, text_length, cache_length, guided):
        if not self.decoder.fused:
            return super().make_graphs(rows, text_length, cache_length, guided)
        state = QuantizedState(self.config, rows, text_length, cache_length, self.decoder.dtype)
        return QuantizedGraphs(self.decoder, self.conditioner, state, guided, self.key)
