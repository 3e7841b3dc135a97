"""`decode_loop` for networks with weights of 8 bits: a chunk of steps is one operator, on a cache of 8 bits."""

import numpy as np
from mindspore import Tensor

from ...models.quantized import quantized_cache
from ...ops.quantized import gpt_decode_op
from ..decode_loop import SemanticGraphs, StageGraphs


class _Steps:
    """What takes the place of `StageGraphs`' own."""

    def __init__(self, network, rows, count, end=None, key=None):
        super().__init__(network, rows, count, end, key)
        self.decode_op = gpt_decode_op(count)
        self.ending = Tensor(np.array([-1 if end is None else end], np.int32))

    def make_cache(self, config, rows):
        size = config.hidden_size // config.num_heads
        return quantized_cache(config.num_layers, rows, config.num_heads, config.block_size, size)

    def states(self, x):
        return self.network.prefill_quantized(x, self.cache)

    def _chunk(self, ids, position, steps, firsts, uniforms, least, filters):
        network = self.network
        arguments = (ids, position, steps, firsts, uniforms, least, filters[0], filters[1], filters[2])
        arguments += (self.ending, network.heads) + network.outer_weights() + network.inner_weights(self.cache)
        columns, made, logits = self.decode_op(*arguments)
        return columns, made.reshape(()), logits.sum()


class QuantizedStageGraphs(_Steps, StageGraphs):
    """Those of the coarse stage."""


class QuantizedSemanticGraphs(_Steps, SemanticGraphs):
    """Those of the semantic stage."""
