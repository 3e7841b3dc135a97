"""MusicGen's decode step: the text beside it, guidance between two rows, and what is computed once before the steps.

Three graphs are compiled per shape bucket: `condition` (the prompt's keys and values of every layer, once),
`prefill` (all columns of an audio prompt at once), and `chunk` of `generation.decode_loop`. Everything they remember
lives in the fixed buffers of `DecodeState`.

Shapes: B prompts, R rows (2B with guidance, else B), K codebooks, S text positions, L cache columns.
"""

import numpy as np
from mindspore import Parameter, Tensor, nn, ops

from ..generation.decode_loop import StepGraphs, cache_buffers
from ..generation.sampling import guide
from ..models.layers import additive_mask
from ..ops.indices import indices
from ..runtime.compiled import compiled, fingerprint


class DecodeState(nn.Cell):
    """The buffers of one shape bucket: KV cache, the prompt's keys and values, and the prompt's mask."""

    def __init__(self, config, rows, text_length, cache_length, dtype):
        super().__init__()
        self.cache = self.make_cache(config, rows, cache_length, dtype)
        self.cross = cache_buffers("cross", config, rows, text_length, dtype)
        self.cross_mask = Parameter(Tensor(np.zeros((rows, 1, 1, text_length)), dtype), requires_grad=False)

    def make_cache(self, config, rows, length, dtype):
        """The Parameters of the KV cache; rows are the first axis of each."""
        return cache_buffers("cache", config, rows, length, dtype)


class DecodeGraphs(StepGraphs):
    """The compiled pieces of one bucket.

    Args:
        decoder (MusicgenDecoder): the network.
        conditioner (TextConditioner): from text states to the decoder's width.
        state (DecodeState): the bucket's buffers.
        guided (bool): whether a null row stands behind every prompt's row.
        key (str): fingerprint of the networks, for the cache of compiled graphs; None: not cached.
    """

    def __init__(self, decoder, conditioner, state, guided, key=None):
        shape = state.cache[0].shape
        key = key and fingerprint(key, type(self).__name__, guided, [p.shape for p in state.get_parameters()])
        prompts = shape[0] // 2 if guided else shape[0]
        super().__init__(prompts, decoder.num_codebooks, min(shape[2], decoder.positions.shape[0]), key)
        self.decoder, self.conditioner, self.state, self.guided = decoder, conditioner, state, guided
        self.prompts = prompts
        self.condition = compiled(self._condition, key)
        self.prefill = compiled(self._prefill, key)

    def _condition(self, states, mask):
        """Compute and keep every layer's keys and values of the prompt. states: [B, S, text dim], mask: [B, S]."""
        states = self.conditioner(states, mask)
        missing = self.state.cross_mask.shape[0] - states.shape[0]
        if missing:
            states = ops.concat((states, ops.zeros((missing,) + states.shape[1:], states.dtype)), 0)
            mask = ops.concat((mask, ops.zeros((missing,) + mask.shape[1:], mask.dtype)), 0)
        self.decoder.fill_cross(states, self.state.cross)
        hidden = additive_mask(mask, self.state.cross_mask.dtype)
        ops.assign(self.state.cross_mask, hidden.reshape(self.state.cross_mask.shape))
        return hidden

    def _prefill(self, ids, length, forced, uniforms, scales, filters):
        """Run `length` known columns and choose the next one.

        Args:
            ids (Tensor): [B, K, T] int32, padded on the right to the bucket.
            length (Tensor): [1] int32, how many of the T columns are real.
            forced (Tensor): [B, K] int32, what the next column must hold, or FREE.
            uniforms (Tensor): [B, K] float32.
            scales (Tensor): guidance scale, [1] float32.
            filters (tuple[Tensor]): temperature, top_k, top_p.

        Returns:
            the next column [B, K] int32, and the sum of its logits (not finite if anything went wrong).
        """
        x, pairs = self.decoder.construct(self.rows(ids), self.state.cross, self.state.cross_mask)
        order = indices(0, ids.shape[2])
        self.keep(pairs, order)
        logits = self.decoder.logits(self.gather(x, length - 1, 1)).squeeze(2)
        return self.pick(logits, forced, uniforms, scales, filters), logits.sum()

    def step_logits(self, ids, position):
        """Logits [R, K, V] of the column after `ids` [B, K] at `position` [1] int32."""
        return self.decoder.step(self.rows(ids), position, self.state.cache, self.state.cross, self.state.cross_mask)

    def keep(self, pairs, order):
        """Write the keys and values k0, v0, ... of prefill, [R, H, T, d] each, into the cache. order: 0 .. T - 1."""
        for i in range(len(pairs)):
            buffer = self.state.cache[i]
            buffer[:, :, order] = pairs[i]

    def rows(self, ids):
        """[B, ...] -> [R, ...]: the null rows see the same codes."""
        return ops.concat((ids, ids), 0) if self.guided else ids

    def pick(self, logits, forced, uniforms, scale, filters):
        """Logits [R, K, V] to the next column [B, K]."""
        logits = guide(logits, scale) if self.guided else logits
        return self.chosen(logits, forced, uniforms, filters)
