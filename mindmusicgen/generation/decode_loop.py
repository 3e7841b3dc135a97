"""Loops of decode steps as compiled graphs over fixed buffers, driven from Python: for every family with a cache.

A family's step fills in one column of K codes at a time. `StepGraphs` compiles up to CHUNK of its steps into one call
(their number is an input, so one step is the same graph); `decode` runs it, and draws nothing itself: random numbers
come in, so that a seed means the same everywhere. What a step reads beside its codes is the family's.

Shapes: B pieces, K codes in a column, L cache columns.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from ..runtime import device
from ..runtime.compiled import compiled
from . import FREE
from .sampling import choose, filter_logits

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
    """Buffers for the keys and values of every layer.

    Args:
        name (str): of the Parameters, which are numbered.
        config (object): num_attention_heads, num_hidden_layers and hidden_size are read.
        rows, length (int): of each buffer.
        dtype (mindspore.dtype): of each buffer.

    Returns:
        ParameterTuple: k0, v0, k1, v1, ... of [rows, H, length, d].
    """
    heads = config.num_attention_heads
    shape = (rows, heads, length, config.hidden_size // heads)
    return ParameterTuple(
        Parameter(Tensor(np.zeros(shape), dtype), name=f"{name}.{i}", requires_grad=False)
        for i in range(2 * config.num_hidden_layers)
    )


class StepGraphs(nn.Cell):
    """Decode steps of one shape bucket, compiled in chunks.

    A family says how one step computes (`step_logits`), how its logits become a column (`pick`), and, where known
    columns come first, `prefill`: it takes these columns [B, K, T], their number [1], what the next column must hold
    [B, K], its uniforms [B, K], its scale [1] and the filters, and returns the next column and the sum of its logits.

    Args:
        pieces (int): B.
        num_codebooks (int): K.
        cache_length (int): L, columns that the buffers have room for.
        key (str): fingerprint of the networks and the buffers, for the cache of compiled graphs; None: not cached.
    """

    chunk_size = CHUNK  # most steps of a call
    offset = 0  # positions before the first column; where there are some, prefill fills them too
    prompt_buckets = PROMPT_BUCKETS

    def __init__(self, pieces, num_codebooks, cache_length, key=None):
        super().__init__()
        self.cache_length = cache_length
        shape = (CHUNK, pieces, num_codebooks)
        self.columns = Parameter(Tensor(np.zeros(shape, np.int32)), name="columns", requires_grad=False)
        self.gather = ops.Gather()
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

    def _chunk(self, ids, position, steps, forced, uniforms, scales, filters):
        """Up to CHUNK decode steps.

        Args:
            ids (Tensor): the newest column, [B, K] int32.
            position (Tensor): its position, [1] int32.
            steps (Tensor): number of steps, scalar int32, at most CHUNK.
            forced (Tensor): [CHUNK, B, K] int32, what each next column must hold, or FREE.
            uniforms (Tensor): [CHUNK, B, K] float32.
            scales (Tensor): what `pick` scales each step by, such as guidance, [CHUNK] float32.
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
        """Logits of the column after `ids` [B, K] at `position` [1] int32, in the shape that `pick` takes."""
        raise NotImplementedError

    def pick(self, logits, forced, uniforms, scale, filters):
        """Logits [B, K, V] to the next column [B, K]."""
        return self.chosen(logits, forced, uniforms, filters)

    def chosen(self, logits, forced, uniforms, filters):
        """The same for a `pick` of a family's, which cannot say `super()` in a graph; what is forced wins."""
        sampled = choose(filter_logits(logits, *filters), uniforms)
        return ops.select(forced == FREE, sampled, forced)


class UnrolledChunk(nn.Cell):
    """`StepGraphs._chunk` without a loop, always of as many steps as `forced` has columns.

    A cell of its own, because MindSpore captures one graph of a cell, and it takes no tuples.

    Args:
        graphs (StepGraphs): of the bucket.
    """

    def __init__(self, graphs):
        super().__init__(auto_prefix=False)
        self.graphs = graphs
        # What is computed beyond `steps` ends up in columns of the cache that are written again before they are read.
        self.last = graphs.cache_length - 1

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
    """Fill in a pattern column by column.

    Args:
        graphs (StepGraphs): the bucket's graphs, with what they are to follow in their buffers.
        pattern (numpy.ndarray): what each column must hold, or FREE, [B, K, length] int32.
        start (int): the first column to predict.
        uniforms (numpy.ndarray): [length - start, B, K] float32.
        scales (numpy.ndarray): what `pick` scales each column by, [length - start] float32.
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
