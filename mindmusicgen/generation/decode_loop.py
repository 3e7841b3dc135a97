"""The loop that turns an encoded prompt into codes: compiled steps, driven from Python.

Four graphs are compiled per shape bucket: `condition` (the prompt's keys and values of every layer, once),
`prefill` (all columns of an audio prompt at once), and `chunk` (up to CHUNK decode steps in one call; the number of
steps is an input, so one step is the same graph). Everything they remember lives in the fixed buffers of
`DecodeState`. Python draws the random numbers, shows progress and stops.

Shapes: B prompts, R rows (2B with guidance, else B), K codebooks, S text positions, L cache columns.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from ..models.layers import Linear, additive_mask
from ..musicgen.delay_pattern import FREE
from ..ops.indices import indices
from ..runtime import device
from ..runtime.compiled import compiled, fingerprint
from .sampling import choose, filter_logits, guide

CHUNK = 25  # steps in one call: half a second of music between two looks at the clock or the interrupt key
TEXT_BUCKETS = (16, 32, 64, 128, 256, 512)
CACHE_BUCKETS = (64, 256, 512, 1024, 1536, 2048)
PROMPT_BUCKET = 64
PROMPT_BUCKETS = (64, 128, 256, 384, 512, 640, 768, 1024, 1536, 2048)  # 640: what a sliding window takes over


def bucket(length, sizes):
    """The smallest of `sizes` that holds `length`; beyond them, the next multiple of the largest."""
    for size in sizes:
        if length <= size:
            return size
    return -(-length // sizes[-1]) * sizes[-1]


def cache_buffers(name, config, rows, length, dtype):
    """Keys and values of every layer: Parameters k0, v0, k1, v1, ... of [rows, H, length, d]."""
    heads = config.num_attention_heads
    shape = (rows, heads, length, config.hidden_size // heads)
    return ParameterTuple(
        Parameter(Tensor(np.zeros(shape), dtype), name=f"{name}.{i}", requires_grad=False)
        for i in range(2 * config.num_hidden_layers)
    )


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


class TextConditioner(nn.Cell):
    """Encoder states to the width of the decoder: project, then blank the padding."""

    def __init__(self, text_dim, dim, dtype):
        super().__init__()
        self.enc_to_dec_proj = Linear(text_dim, dim, bias=True, dtype=dtype) if text_dim != dim else None

    def construct(self, states, mask):
        """states: [B, S, text dim]; mask: [B, S] -> [B, S, D]"""
        states = states if self.enc_to_dec_proj is None else self.enc_to_dec_proj(states)
        return states * mask.expand_dims(-1).astype(states.dtype)


class DecodeGraphs(nn.Cell):
    """The compiled pieces of one bucket.

    Args:
        decoder (MusicgenDecoder): the network.
        conditioner (TextConditioner): from text states to the decoder's width.
        state (DecodeState): the bucket's buffers.
        guided (bool): whether a null row stands behind every prompt's row.
        key (str): fingerprint of the networks, for the cache of compiled graphs; None: not cached.
    """

    chunk_size = CHUNK  # most steps of a call
    offset = 0  # positions of the decoder before the first column; where there are some, prefill fills them too
    prompt_buckets = PROMPT_BUCKETS

    def __init__(self, decoder, conditioner, state, guided, key=None):
        super().__init__()
        self.decoder, self.conditioner, self.state, self.guided = decoder, conditioner, state, guided
        rows = state.cache[0].shape[0]
        self.prompts = rows // 2 if guided else rows
        shape = (CHUNK, self.prompts, decoder.num_codebooks)
        self.columns = Parameter(Tensor(np.zeros(shape, np.int32)), name="columns", requires_grad=False)
        self.gather = ops.Gather()
        key = key and fingerprint(key, type(self).__name__, guided, [p.shape for p in state.get_parameters()])
        self.condition = compiled(self._condition, key)
        self.prefill = compiled(self._prefill, key)
        self.chunk = compiled(self._chunk, key)
        if device.captures():
            self.unroll(device.UNROLLED, key)

    def unroll(self, steps, key=None):
        """Make chunks of so many steps from now on, in a graph without a loop, for an NPU to capture; if it cannot, the
        loop comes back."""
        cell, loop = UnrolledChunk(self), self.chunk

        def give_up(ids, position, count, *columns_and_filters):
            self.chunk_size, self.chunk = CHUNK, loop
            columns = (_chunk_of(values.asnumpy(), 0, steps, CHUNK) for values in columns_and_filters[:3])
            return loop(ids, position, count, *columns, ms.mutable(columns_and_filters[3:]))

        run = device.captured(compiled(cell.construct, key), cell, otherwise=give_up)
        self.chunk_size = steps
        self.chunk = lambda *arguments: run(*arguments[:-1], *arguments[-1])

    def _condition(self, states, mask):
        """Compute and keep every layer's keys and values of the prompt. states: [B, S, text dim], mask: [B, S]."""
        states = self.conditioner(states, mask)
        missing = self.state.cross_mask.shape[0] - states.shape[0]
        if missing:
            states = ops.concat((states, ops.zeros((missing,) + states.shape[1:], states.dtype)), 0)
            mask = ops.concat((mask, ops.zeros((missing,) + mask.shape[1:], mask.dtype)), 0)
        pairs = self.decoder.cross_keys_values(states)
        for i in range(len(pairs)):
            ops.assign(self.state.cross[i], pairs[i])
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

    def _chunk(self, ids, position, steps, forced, uniforms, scales, filters):
        """Up to CHUNK decode steps.

        Args:
            ids (Tensor): the newest column, [B, K] int32.
            position (Tensor): its position, [1] int32.
            steps (Tensor): number of steps, scalar int32, at most CHUNK.
            forced (Tensor): [CHUNK, B, K] int32, what each next column must hold, or FREE.
            uniforms (Tensor): [CHUNK, B, K] float32.
            scales (Tensor): guidance scale of each step, [CHUNK] float32.
            filters (tuple[Tensor]): temperature, top_k, top_p.

        Returns:
            columns [CHUNK, B, K] int32 of which the first `steps` are new, and the sum of the last logits.
        """
        step = Tensor(0, ms.int32)
        total = Tensor(0, ms.float32)
        while step < steps:
            logits = self.step_logits(ids, position)
            known, drawn = self.gather(forced, step, 0), self.gather(uniforms, step, 0)
            ids = self.pick(logits, known, drawn, self.gather(scales, step, 0), filters)
            self.columns[step.reshape(1)] = ids.expand_dims(0)
            total = logits.sum()
            position = position + 1
            step = step + 1
        return self.columns, total

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
        sampled = choose(filter_logits(logits, *filters), uniforms)
        return ops.select(forced == FREE, sampled, forced)


class UnrolledChunk(nn.Cell):
    """`DecodeGraphs._chunk` without a loop, always of as many steps as `forced` has columns.

    A cell of its own, because MindSpore captures one graph of a cell, and it takes no tuples.

    Args:
        graphs (DecodeGraphs): of the bucket.
    """

    def __init__(self, graphs):
        super().__init__(auto_prefix=False)
        self.graphs = graphs
        # What is computed beyond `steps` ends up in columns of the cache that are written again before they are read.
        self.last = min(graphs.state.cache[0].shape[2], graphs.decoder.positions.shape[0]) - 1

    def construct(self, ids, position, steps, forced, uniforms, scales, temperature, top_k, top_p):
        columns, total = (), Tensor(0, ms.float32)
        for i in range(forced.shape[0]):
            logits = self.graphs.step_logits(ids, position)
            ids = self.graphs.pick(logits, forced[i], uniforms[i], scales[i], (temperature, top_k, top_p))
            columns += (ids,)
            total = ops.select(steps > i, logits.sum(), total)
            position = ops.minimum(position + 1, self.last)
        return ops.stack(columns), total


def decode(graphs, pattern, start, uniforms, scales, filters):
    """Fill in a delay pattern column by column.

    Args:
        graphs (DecodeGraphs): the bucket's graphs, already conditioned on the prompt.
        pattern (numpy.ndarray): [B, K, length] int32 from `build_pattern`.
        start (int): the first column to predict.
        uniforms (numpy.ndarray): [length - start, B, K] float32.
        scales (numpy.ndarray): guidance scale of each column, [length - start] float32.
        filters (tuple[Tensor]): temperature, top_k, top_p.

    Yields:
        the columns, [B, K, length] int32, and how many of them are filled: after the prefill and every chunk.

    Raises:
        FloatingPointError: if the logits stop being finite.
    """
    filters = ms.mutable(filters)  # a plain tuple's tensors are constants of the graph: every call would compile
    columns = pattern.copy()
    length = pattern.shape[2]
    position = start - 1  # the last column that is filled
    if start > 1 or graphs.offset:
        padded = np.zeros(pattern.shape[:2] + (bucket(start, graphs.prompt_buckets),), np.int32)
        padded[:, :, :start] = np.maximum(pattern[:, :, :start], 0)
        column, total = graphs.prefill(
            Tensor(padded),
            Tensor(np.array([start], np.int32)),
            Tensor(pattern[:, :, start]),
            Tensor(uniforms[0]),
            Tensor(scales[:1]),
            filters,
        )
        columns[:, :, start] = column.asnumpy()
        _check_finite(total, start)
        position = start
        yield columns, position + 1
    while position < length - 1:
        size = graphs.chunk_size
        steps = min(size, length - 1 - position)
        first = position + 1 - start  # of these steps among all
        made, total = graphs.chunk(
            Tensor(columns[:, :, position]),
            Tensor(np.array([graphs.offset + position], np.int32)),
            Tensor(steps, ms.int32),
            _chunk_of(pattern.transpose(2, 0, 1), position + 1, steps, size),
            _chunk_of(uniforms, first, steps, size),
            _chunk_of(scales, first, steps, size),
            filters,
        )
        columns[:, :, position + 1 : position + 1 + steps] = made.asnumpy()[:steps].transpose(1, 2, 0)
        _check_finite(total, position + steps)
        position += steps
        yield columns, position + 1


def _chunk_of(values, first, steps, size):
    """`steps` entries of an array from `first` on, filled up to `size`: a graph has fixed shapes."""
    padded = np.zeros((size,) + values.shape[1:], values.dtype)
    padded[:steps] = values[first : first + steps]
    return Tensor(padded)


def _check_finite(total, position):
    if not np.isfinite(total.asnumpy()).all():
        raise FloatingPointError(
            f"the decoder's logits are not finite at column {position}: the checkpoint is damaged or dtype too narrow"
        )
