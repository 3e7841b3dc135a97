"""`decode_loop` for networks with weights of 8 bits: on a cache of 8 bits."""

from ...models.quantized import quantized_cache
from ..decode_loop import SemanticGraphs, StageGraphs


class _Steps:
    """What takes the place of `StageGraphs`' own."""

    def make_cache(self, config, rows):
        size = config.hidden_size // config.num_heads
        return quantized_cache(config.num_layers, rows, config.num_heads, config.block_size, size)

    def states(self, x):
        return self.network.prefill_quantized(x, self.inner)


class QuantizedStageGraphs(_Steps, StageGraphs):
    """Those of the coarse stage."""


class QuantizedSemanticGraphs(_Steps, SemanticGraphs):
    """Those of the semantic stage."""
