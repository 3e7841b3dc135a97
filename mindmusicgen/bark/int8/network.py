"""Bark's stages with weights of 8 bits: `models.quantized` in place of linear layers, the heads of 16 bits.

Norms and tables stay float32. Where the kernels take such sizes, a prefill, a fine pass and a chunk of steps are one
operator each (ops/csrc/quantized_gpt.c); with biases they are made of the layers' own. Shapes as in `bark.gpt`.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, ops

from ...models.quantized import LARGEST_HEAD, FineQuantizedLinear, QuantizedLinear
from ...ops import packing
from ...ops.indices import indices
from ...ops.quantized import gpt_decode_op, gpt_sequence_op, why_not
from ..submodels import BarkCoarseModel, BarkFineModel, BarkSemanticModel
from .decode_loop import QuantizedSemanticGraphs, QuantizedStageGraphs


def fuses(config):
    """Whether the kernels can run a network of these sizes as one operator."""
    sizes = 4 * config.hidden_size % packing.TILE == 0 and config.hidden_size // config.num_heads <= LARGEST_HEAD
    return not config.bias and sizes and not why_not()


def layer_weights(layer):
    """Everything that a layer reads, in the kernels' order."""
    norm, first, second = layer.layernorm_1, layer.attn.att_proj, layer.attn.out_proj
    other, third, fourth = layer.layernorm_2, layer.mlp.in_proj, layer.mlp.out_proj
    attention = (norm.weight, norm.bias, first.weight, first.scale, second.weight, second.scale)
    return attention + (other.weight, other.bias, third.weight, third.scale, fourth.weight, fourth.scale)


def number(value):
    """A whole number as an operator's input."""
    return Tensor(np.array([value], np.int32))


class _Causal:
    """What takes the place of `CausalGpt`'s own."""

    linear, head = QuantizedLinear, FineQuantizedLinear
    kind = None  # of the graphs that run it as one operator

    def __init__(self, config, dtype=ms.float32, empty=True):
        super().__init__(config, dtype, empty)
        self.causal, self.sequence_op = number(1), gpt_sequence_op(True)
        if fuses(config):
            self.graphs_kind = self.kind

    def decode_op(self, count):
        return gpt_decode_op(count) if fuses(self.config) else None

    def some_logits(self, x, first, count):
        return ops.gather(self.lm_head(x), first + indices(0, count).astype(ms.int32), 1)

    def outer_weights(self):
        found = (self.input_embeds_layer.weight, self.position_embeds_layer.weight)
        found += (self.layernorm_final.weight, self.layernorm_final.bias)
        for part in (self.lm_head.coarse, self.lm_head.rest):
            found += (part.weight, part.scale)
        return found

    def inner_weights(self, cache):
        found = ()
        for i, layer in enumerate(self.layers):
            found += layer_weights(layer) + (cache[4 * i], cache[4 * i + 1], cache[4 * i + 2], cache[4 * i + 3])
        return found

    def prefill_quantized(self, x, weights):
        """`CausalGpt.prefill` with `inner_weights` and their cache of 8 bits."""
        x = x + self.position_embeds_layer(indices(0, x.shape[1]))
        return self.layernorm_final(self.sequence_op(x, self.heads, self.causal, *weights))


class QuantizedSemanticModel(_Causal, BarkSemanticModel):
    """The semantic stage."""

    kind = QuantizedSemanticGraphs


class QuantizedCoarseModel(_Causal, BarkCoarseModel):
    """The coarse stage."""

    kind = QuantizedStageGraphs


class QuantizedFineModel(BarkFineModel):
    """The fine stage, whose tables, and thereby its heads, stay float32."""

    linear = QuantizedLinear

    def __init__(self, config, dtype=ms.float32, empty=True):
        super().__init__(config, dtype, empty)
        self.heads, self.causal = number(config.num_heads), number(0)
        self.sequence_op = gpt_sequence_op(False) if fuses(config) else None

    def through(self, x):
        if self.sequence_op is None:
            return self.one_by_one(x)
        weights = ()
        for layer in self.layers:
            weights += layer_weights(layer)
        return self.sequence_op(x, self.heads, self.causal, *weights)


KINDS = (QuantizedSemanticModel, QuantizedCoarseModel, QuantizedFineModel)
