"""The decode loop of the 8-bit decoder: `decode_loop` with a cache of keys and values that has 8 bits as well."""

import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor

from ..ops.choice import choose_op
from ..ops.quantized import cache_shapes
from .decode_loop import DecodeGraphs, DecodeState
from .generator import CodeGenerator


class QuantizedState(DecodeState):
    """`DecodeState` whose cache holds, for every layer, keys, their scales, values and their scales."""

    def make_cache(self, config, rows, length, dtype):
        heads = config.num_attention_heads
        shapes = cache_shapes(rows, heads, length, config.hidden_size // heads)
        return ParameterTuple(
            Parameter(Tensor.from_numpy(np.zeros(*shape)), name=f"cache.{layer}.{i}", requires_grad=False)
            for layer in range(config.num_hidden_layers)
            for i, shape in enumerate(shapes)
        )


class QuantizedGraphs(DecodeGraphs):
    """The compiled pieces of one bucket for a `QuantizedMusicgenDecoder` and a `QuantizedState`."""

    def __init__(self, decoder, conditioner, state, guided):
        super().__init__(decoder, conditioner, state, guided)
        self.choose = choose_op()

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
        return QuantizedGraphs(self.decoder, self.conditioner, state, guided)
