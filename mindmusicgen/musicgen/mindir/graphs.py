"""The cells that are exported: each a pure function of its inputs, for one batch, text length and length of music.

A graph that is loaded from a file cannot share its Parameters with another. What the pieces of `decode_loop` keep in
common buffers is therefore handed in and out: `state` is the prompt's additive mask [R, 1, 1, S], then its keys and
values k0, v0, k1, v1, ... of [R, H, S, d] each; `cache` is the same of the columns so far, [R, H, L, d] each.
"""

from mindspore import nn, ops

from ..decode_loop import DecodeGraphs, DecodeState


class DecoderPiece(nn.Cell):
    """The decoder of one shape bucket, with the buffers that its loops write to.

    Args:
        model (MusicgenForConditionalGeneration): of the plain operations, without C kernels.
        sizes (dict): batch, text_length and cache_length.
    """

    def __init__(self, model, sizes):
        super().__init__()
        config, rows = model.config.decoder, 2 * sizes["batch"]
        state = DecodeState(config, rows, sizes["text_length"], sizes["cache_length"], model.dtype)
        self.graphs = DecodeGraphs(model.decoder, model.conditioner, state, guided=True)
        self.layers = config.num_hidden_layers

    def take(self, state, cache):
        """Fill the buffers."""
        ops.assign(self.graphs.state.cross_mask, state[0])
        for i in range(2 * self.layers):
            ops.assign(self.graphs.state.cross[i], state[1 + i])
            if cache is not None:
                ops.assign(self.graphs.state.cache[i], cache[i])

    def cache(self):
        """What the buffers hold now."""
        cache = ()
        for i in range(2 * self.layers):
            cache += (self.graphs.state.cache[i] * 1,)
        return cache


class Condition(DecoderPiece):
    """Text states to `state`."""

    def construct(self, states, mask):
        """states: [R, S, text dim], mask: [R, S]; the null rows, or the negative prompts, stand behind the prompts."""
        self.graphs._condition(states, mask)
        state = (self.graphs.state.cross_mask * 1,)
        for i in range(2 * self.layers):
            state += (self.graphs.state.cross[i] * 1,)
        return state


class Prefill(DecoderPiece):
    """All columns of an audio prompt: the next column, the sum of its logits, and the cache; see `_prefill`."""

    def construct(self, ids, length, forced, uniforms, scales, temperature, top_k, top_p, *state):
        self.take(state, None)
        column, total = self.graphs._prefill(ids, length, forced, uniforms, scales, (temperature, top_k, top_p))
        return (column, total) + self.cache()


class Step(DecoderPiece):
    """One column: the next column [B, K], the sum of its logits, and the cache."""

    def construct(self, ids, position, forced, uniforms, scales, temperature, top_k, top_p, *state):
        known = 1 + 2 * self.layers
        self.take(state[:known], state[known:])
        logits = self.graphs.step_logits(ids, position)
        column = self.graphs.pick(logits, forced, uniforms, scales, (temperature, top_k, top_p))
        return (column, logits.sum()) + self.cache()


class Chunk(DecoderPiece):
    """Up to CHUNK columns: the columns, the sum of the last logits, and the cache; see `_chunk`."""

    def construct(self, ids, position, steps, forced, uniforms, scales, temperature, top_k, top_p, *state):
        known = 1 + 2 * self.layers
        self.take(state[:known], state[known:])
        columns, total = self.graphs._chunk(ids, position, steps, forced, uniforms, scales, (temperature, top_k, top_p))
        return (columns * 1, total) + self.cache()


class CodecEncoder(nn.Cell):
    """Audio [B * channels, 1, N] to codes [B * channels, K / channels, frames]."""

    def __init__(self, model):
        super().__init__()
        self.codec = model.audio_encoder
        self.quantizers = model.config.decoder.num_codebooks // model.config.decoder.audio_channels

    def construct(self, audio):
        return self.codec.to_codes(audio, self.quantizers)[0]


class CodecRecurrent(nn.Cell):
    """First part of the codec's decoder, a few frames at a time; see `Encodec.decode_recurrent`."""

    def __init__(self, model):
        super().__init__()
        self.codec = model.audio_encoder

    def construct(self, codes, h, c):
        return self.codec.decode_recurrent(codes, h, c)


class CodecConvolutions(nn.Cell):
    """The rest of it, a window at a time; see `Encodec.decode_convolutions`."""

    def __init__(self, model):
        super().__init__()
        self.codec = model.audio_encoder

    def construct(self, x):
        return self.codec.decode_convolutions(x)
