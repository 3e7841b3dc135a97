"""The MusicGen decoder with weights of 8 or 4 bits, whose decode steps are one operator on a CPU.

Norms and embeddings stay float32. All steps of a chunk run in one operator, whose cache of keys and values has 8 bits
as well. Shapes as in `musicgen.decoder`.
"""

import mindspore as ms
from mindspore import ParameterTuple

from ...errors import InputError
from ...models.quantized import (
    LARGEST_HEAD,
    FineQuantizedLinear,
    FourBitLinear,
    QuantizedLinear,
    arena_for,
    expanded,
    round_into,
)
from ...ops import packing
from ...ops import quantized as quantized_ops
from ..decoder import DecoderLayer, MusicgenDecoder
from ..parts import LogitsDecoder


class QuantizedDecoderLayer(DecoderLayer):
    """A decoder layer of `QuantizedLinear`."""

    linear = QuantizedLinear

    def weights(self):
        """Everything that a step reads, in the kernel's order."""
        found = ()
        for norm, first, second in (
            (self.self_attn_layer_norm, self.self_attn.qkv_proj, self.self_attn.out_proj),
            (self.encoder_attn_layer_norm, self.encoder_attn.q_proj, self.encoder_attn.out_proj),
            (self.final_layer_norm, self.fc1, self.fc2),
        ):
            found += (norm.weight, norm.bias, first.weight, first.scale, second.weight, second.scale)
        return found


class QuantizedMusicgenDecoder(MusicgenDecoder):
    """`MusicgenDecoder` with weights of 8 bits.

    Args:
        config (transformers.MusicgenDecoderConfig): sizes of the decoder.
        dtype (mindspore.dtype): must be float32.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    layer, linear = QuantizedDecoderLayer, FineQuantizedLinear

    def __init__(self, config, dtype=ms.float32):
        super().__init__(config, dtype)
        self.fill_op = quantized_ops.fill_cache_op() if fuses(config) else None
        self.decode_op = quantized_ops.decode_op(config.activation_function) if fuses(config) else None

    @property
    def fused(self):
        """Whether decode steps can run as one operator, on a cache of 8 bits."""
        return self.decode_op is not None

    def fill_cross(self, states, cross):
        """As in `MusicgenDecoder`, by the first layer's methods: those of other layers would each be compiled anew."""
        rows, first = states.shape[0], self.layers[0].encoder_attn
        flat = states.reshape(-1, states.shape[2])
        for i, layer in enumerate(self.layers):
            other = layer.encoder_attn.kv_proj
            kv = first.kv_proj.multiply(flat, other.weight, other.scale)
            k, v = first.split_keys_values(kv, rows)
            self.assign(cross[2 * i], k)
            self.assign(cross[2 * i + 1], v)

    def decode(self, ids, position, steps, forced, uniforms, scales, filters, streamed):
        """Up to N decode steps on a cache of 8 bits, which is updated in place.

        Args:
            ids (Tensor): the newest column, [B, K] int32.
            position (Tensor): its position, [1] int32.
            steps (Tensor): how many steps, scalar int32.
            forced (Tensor): [N, B, K] int32, what each next column must hold, or FREE.
            uniforms (Tensor): [N, B, K] float32.
            scales (Tensor): guidance scale of each step, [N] float32.
            filters (tuple[Tensor]): temperature, top_k, top_p.
            cache (tuple[Parameter]): for every layer keys, their scales, values, their scales.
            cross (tuple[Parameter]): k0, v0, k1, v1, ... of [R, H, S, d]; R is 2 B where there is guidance.
            cross_mask (Tensor): [R, 1, 1, S], additive.

        Returns:
            columns [N, B, K] int32, of which the first `steps` are new, and the last step's logits [R, K, V].
        """
        arguments = (ids, position, steps, forced, uniforms, scales, filters[0], filters[1], filters[2])
        return self.decode_op(*arguments, self.embed_tokens.weight, self.positions, *streamed)

    def streamed(self, cache, cross, cross_mask):
        """What a step reads after embedding and positions, in the kernel's order, as one ParameterTuple.

        Made in Python: joined in a graph, layer by layer, it is tens of thousands of nodes, which take five seconds to
        compile.

        Args:
            cache, cross, cross_mask: as in `decode`.
        """
        found = [self.layer_norm.weight, self.layer_norm.bias]
        for part in (self.lm_heads.coarse, self.lm_heads.rest):
            found += (part.weight, part.scale)
        found += (cross_mask,)
        for i, layer in enumerate(self.layers):
            found += (*layer.weights(), *cache[4 * i : 4 * i + 4], *cross[2 * i : 2 * i + 2])
        return ParameterTuple(found)

    def fill(self, pairs, cache):
        """Write the keys and values of prefill, k0, v0, ... of [B, H, T, d] each, into a cache of 8 bits."""
        for i in range(len(self.layers)):
            keys, key_scale, values, value_scale = 4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3
            self.fill_op(
                pairs[2 * i], pairs[2 * i + 1], cache[keys], cache[key_scale], cache[values], cache[value_scale]
            )


class FourBitDecoderLayer(QuantizedDecoderLayer):
    """A decoder layer of `FourBitLinear`."""

    linear = FourBitLinear


class FourBitMusicgenDecoder(QuantizedMusicgenDecoder):
    """`QuantizedMusicgenDecoder` whose matrices have 4 bits; its heads have 16 and its cache has 8, as there.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    layer = FourBitDecoderLayer


def fuses(config):
    """Whether the kernels can run a decoder of these sizes as one operator."""
    size = config.hidden_size // max(config.num_attention_heads, 1)
    known = config.activation_function in quantized_ops.DECODERS
    return known and config.ffn_dim % packing.TILE == 0 and size <= LARGEST_HEAD


def quantise(decoder, config, kind=QuantizedMusicgenDecoder):
    """A `QuantizedMusicgenDecoder` of a decoder's weights; the decoder loses its matrices on the way, to save memory.

    Args:
        decoder (MusicgenDecoder): float32.
        config (transformers.MusicgenDecoderConfig): its config.
        kind (type): class of what is made.

    Raises:
        InputError: if a weight is not finite, or the decoder is not float32.
    """
    made = kind(config, decoder.dtype)
    old = dict(decoder.cells_and_names())
    arena = arena_for(made)
    for name, cell in made.cells_and_names():
        if name not in old:
            continue  # a part of heads
        try:
            if isinstance(cell, (QuantizedLinear, FineQuantizedLinear)):
                round_into(cell, old[name].weight.asnumpy(), arena)
                del old[name].weight
            else:
                for own, parameter in cell.parameters_and_names(expand=False):
                    parameter.assign_value(getattr(old[name], own))
        except ValueError as error:
            raise InputError(f"decoder.{name} cannot be quantised: {error}") from error
    return made


def expand(decoder, config, kind=MusicgenDecoder):
    """The `MusicgenDecoder` that computes in float32 with a quantised decoder's weights.

    Args:
        decoder (QuantizedMusicgenDecoder): loses its matrices on the way.
        config (transformers.MusicgenDecoderConfig): its config.
        kind (type): class of what is made.
    """
    made = kind(config, decoder.dtype)
    old = dict(decoder.cells_and_names())
    for name, cell in made.cells_and_names():
        source = old[name]
        if isinstance(source, (QuantizedLinear, FineQuantizedLinear)):
            cell.weight.asnumpy()[...] = expanded(source)
            for part in (source, getattr(source, "coarse", source), getattr(source, "rest", source)):
                if hasattr(part, "weight"):
                    del part.weight
        else:
            for own, parameter in cell.parameters_and_names(expand=False):
                parameter.assign_value(getattr(source, own))
    return made


class QuantizedDecoder(LogitsDecoder, QuantizedMusicgenDecoder):
    """The decoder with weights of 8 bits as a part of the whole, called as transformers' MusicgenForCausalLM is."""


class FourBitDecoder(LogitsDecoder, FourBitMusicgenDecoder):
    """The same with weights of 4 bits."""


DECODERS = {"int8": QuantizedDecoder, "int4": FourBitDecoder}
