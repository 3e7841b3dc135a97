"""Jukebox's kinds of attention, over whole sequences and step by step.

The sequence is seen as N rows of R positions, one below the other (Child et al., arXiv:1904.10509). A position attends
to

- row: those before it in its row, and itself;
- column: those above it in its column, and itself;
- previous: the whole row above; in the first row there is nothing, and the result is 0;
- prime: the first P positions up to itself: the lyrics and a few codes;
- dense: all before it, and itself;
- cross: the states of the network that reads the lyrics.

While sampling, each layer keeps what its kind looks at, in two buffers of fixed size, keys and values, of one vector
after the other: [B * H * L, d]. `Places` says where a step writes and what it reads; the work of a step does not grow.

Shapes: B samples, H heads of size d, A = H d, T positions, W the width of the network.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..models.convolutions import time_slice
from ..models.layers import Linear
from ..ops.indices import indices

QUERIES = 512  # of a block of dense and prime attention, whose scores would take too much memory at once
HIDDEN = -1e9  # a score that counts as none


@ops.constexpr
def _causal(queries, keys, first):
    """A mask for queries from position `first` on: 0 where a key may be seen, HIDDEN where not."""
    seen = np.arange(keys)[None] <= first + np.arange(queries)[:, None]
    return Tensor(np.where(seen, 0, HIDDEN).astype(np.float32).reshape(1, 1, queries, keys))


def weigh(q, k, v, heads, mask):
    """softmax(q k^T / sqrt(d) + mask) v of [X, T, A], [X, S, A], [X, S, A]: [X, T, A]. The softmax is in float32."""
    size = q.shape[2] // heads
    q, k, v = (x.reshape(x.shape[0], x.shape[1], heads, size).swapaxes(1, 2) for x in (q, k, v))
    scores = ops.BatchMatMul(transpose_b=True)(q, k).astype(ms.float32) * (size**-0.5)
    if mask is not None:
        scores = scores + mask
    y = ops.BatchMatMul()(ops.softmax(scores, -1).astype(v.dtype), v).swapaxes(1, 2)
    return y.reshape(y.shape[0], y.shape[1], heads * size)


def by_rows(q, k, v, heads, row):
    """Row attention of [B, T, A]."""
    shape = q.shape
    q, k, v = (x.reshape(-1, row, shape[2]) for x in (q, k, v))
    return weigh(q, k, v, heads, _causal(row, row, 0)).reshape(shape)


def by_columns(q, k, v, heads, row):
    """Column attention of [B, T, A]."""
    size, length, width = q.shape
    count = length // row
    q, k, v = (x.reshape(size, count, row, width).swapaxes(1, 2).reshape(size * row, count, width) for x in (q, k, v))
    y = weigh(q, k, v, heads, _causal(count, count, 0))
    return y.reshape(size, row, count, width).swapaxes(1, 2).reshape(size, length, width)


def by_previous_rows(q, k, v, heads, row):
    """Attention of [B, T, A] to the row above; zeros are above the first."""
    size, length, width = q.shape
    above = ops.zeros((size, row, width), k.dtype)
    if length > row:
        k, v = (ops.concat((above, time_slice(x, 0, length - row)), 1) for x in (k, v))
    else:
        k, v = above, above
    q, k, v = (x.reshape(-1, row, width) for x in (q, k, v))
    return weigh(q, k, v, heads, None).reshape(size, length, width)


def by_all(q, k, v, heads, most):
    """Attention of [B, T, A] to all positions up to itself among the first `most`, a block of queries at a time."""
    length, made = q.shape[1], ()
    for first in range(0, length, QUERIES):
        count = min(QUERIES, length - first)
        seen = min(first + count, most)
        part = q if count == length else time_slice(q, first, count)
        keys, values = (x if seen == length else time_slice(x, 0, seen) for x in (k, v))
        made += (weigh(part, keys, values, heads, _causal(count, seen, first)),)
    return ops.concat(made, 1) if len(made) > 1 else made[0]


class Kind:
    """The sizes of a kind of attention in one network.

    Args:
        config (JukeboxPriorConfig): of the network.
        kind (str): of attention.
        positions (int): of a whole sequence.
    """

    def __init__(self, config, kind, positions):
        self.kind, self.heads, self.positions = kind, config.n_heads, positions
        self.size = config.attention_width // config.n_heads
        self.rows, self.row = config.blocks, positions // config.blocks
        self.prime = min(config.prime_length, positions)
        row, whole = self.row, positions
        sizes = {"row": row, "column": whole, "previous": 2 * row, "prime": self.prime + 1, "dense": whole}
        self.length = sizes.get(kind, config.nb_relevant_lyric_tokens)  # of a buffer; prime: one more, for the rest
        read = {"column": self.rows, "previous": row, "prime": self.prime}
        self.read = read.get(kind, self.length)  # how many vectors a step looks at

    def buffer(self, samples):
        """The shape of a buffer for so many samples."""
        return samples * self.heads * self.length, self.size


class Places(nn.Cell):
    """Where the steps of one kind of attention write and read.

    Args:
        kind (Kind): of attention.
        samples (int): B.
    """

    def __init__(self, kind, samples):
        super().__init__()
        self.kind, self.row, self.rows, self.prime = kind.kind, kind.row, kind.rows, kind.prime
        self.starts = Tensor((np.arange(samples * kind.heads, dtype=np.int32) * kind.length).reshape(-1, 1))
        self.order = Tensor(np.arange(kind.read, dtype=np.int32).reshape(1, -1))

    def construct(self, position):
        """position: [1] int32 -> where to write [B * H] int32, what to read [B * H, n] int32, and what hides the rest,
        [1, 1, n] float32. For the previous row, that is in place of a mask whether there is one, [1, 1, 1]."""
        column, row = position % self.row, position // self.row
        write, first, last = position, position * 0, position
        if self.kind == "row":
            write, last = column, column
        elif self.kind == "column":
            first, last = column * self.rows, row
            write = first + row
        elif self.kind == "previous":
            write, first = (row % 2) * self.row + column, (1 - row % 2) * self.row
        elif self.kind == "prime":
            write = ops.minimum(position, self.prime)
        if self.kind == "previous":
            shown = (row > 0).astype(ms.float32).reshape(1, 1, 1)
        else:
            shown = (self.order > last).astype(ms.float32).reshape(1, 1, -1) * HIDDEN
        return (self.starts + write).reshape(-1), self.starts + first + self.order, shown


class Attention(nn.Cell):
    """One layer's attention.

    Args:
        config (JukeboxPriorConfig): of the network.
        kind (str): of attention.
        positions (int): of a whole sequence.
        dtype (mindspore.dtype): of weights and activations.
        linear (type): of its matrices.
    """

    def __init__(self, config, kind, positions, dtype=ms.float32, linear=Linear):
        super().__init__()
        dim, width = config.hidden_size, config.attention_width
        self.sizes = sizes = Kind(config, kind, positions)
        self.kind, self.heads, self.size, self.whole = kind, sizes.heads, sizes.size, positions
        self.row, self.rows, self.prime = sizes.row, sizes.rows, sizes.prime
        self.length, self.read = sizes.length, sizes.read
        self.c_attn = linear(dim, width if kind == "cross" else 3 * width, bias=True, dtype=dtype)
        self.c_enc_kv = linear(dim, 2 * width, bias=True, dtype=dtype) if kind == "cross" else None
        self.c_proj = linear(width, dim, bias=True, dtype=dtype)
        self.width, self.dtype = width, dtype
        self.update, self.gather = ops.ScatterUpdate(), ops.Gather()

    def project(self, x, states):
        """[B, T, W] -> queries, keys and values [B, T, A]; those of cross attention are of the lyrics' states."""
        if self.kind == "cross":
            keys, values = ops.split(self.c_enc_kv(states), self.width, 2)
            return self.c_attn(x), keys, values
        return ops.split(self.c_attn(x), self.width, 2)

    def attend(self, q, k, v):
        """[B, T, A] each -> [B, T, A]"""
        if self.kind == "row":
            return by_rows(q, k, v, self.heads, self.row)
        if self.kind == "column":
            return by_columns(q, k, v, self.heads, self.row)
        if self.kind == "previous":
            return by_previous_rows(q, k, v, self.heads, self.row)
        if self.kind == "cross":
            return weigh(q, k, v, self.heads, None)
        return by_all(q, k, v, self.heads, self.prime if self.kind == "prime" else self.whole)

    def construct(self, x, states):
        """Whole rows at once, from the first on. x: [B, T, W]; states: [B, S, W] of the lyrics, or anything."""
        q, k, v = self.project(x, states)
        return self.c_proj(self.attend(q, k, v))

    def fill(self, x, states, length, keys, values):
        """The same, and what the next step looks at goes into the buffers.

        Args:
            length (Tensor): [1] int32, how many of the positions are real.
            keys, values (Parameter): [B * H * L, d].
        """
        q, k, v = self.project(x, states)
        y = self.attend(q, k, v)
        y = ops.depend(y, self.keep(k, length, keys))  # what nobody reads would not be written
        y = ops.depend(y, self.keep(v, length, values))
        return self.c_proj(y)

    def keep(self, x, length, buffer):
        """Put [B, T, A] of the first T positions into a buffer; returns it."""
        samples, count = x.shape[0], x.shape[1]
        x = x.reshape(samples, count, self.heads, self.size).swapaxes(1, 2)  # [B, H, T, d]
        if self.kind == "row":
            x = self.gather(x, self.around(length // self.row * self.row, self.row, count), 2)
        elif self.kind == "previous":
            x = self.gather(x, self.ring(length // self.row, count), 2)
        elif self.kind == "column":
            x = x.reshape(samples, self.heads, count // self.row, self.row, self.size).swapaxes(2, 3)
        elif self.kind == "prime" and count > self.prime:
            x = self.gather(x, indices(0, self.prime), 2)
        where = _filled(self.kind, samples * self.heads, self.length, count, self.row, self.rows, self.prime)
        return self.update(buffer, where, x.reshape(-1, self.size))

    def around(self, first, count, most):
        """Positions from `first` [1] on, none of them beyond `most`."""
        return ops.minimum(first + indices(0, count).astype(ms.int32), most - 1)

    def ring(self, row, most):
        """Positions of a row [1] and the one before it, each in the half of the ring that rows of its parity have."""
        slots = indices(0, 2 * self.row).astype(ms.int32)
        rows = row - (row - slots // self.row) % 2
        return ops.clip(rows * self.row + slots % self.row, 0, most - 1)

    def step(self, x, place, keys, values):
        """One position. x: [B, W]; place: of `Places`; the buffers are updated."""
        write, read, shown = place
        if self.kind == "cross":
            q = self.c_attn(x)
        else:
            q, k, v = ops.split(self.c_attn(x), self.width, 1)
            keys = self.update(keys, write, k.reshape(-1, self.size))
            values = self.update(values, write, v.reshape(-1, self.size))
        if self.read != self.length:
            keys, values = self.gather(keys, read, 0), self.gather(values, read, 0)
        keys, values = (one.reshape(-1, self.read, self.size) for one in (keys, values))
        scores = ops.BatchMatMul(transpose_b=True)(q.reshape(-1, 1, self.size), keys).astype(ms.float32)
        scores = scores * (self.size**-0.5)
        if self.kind in ("row", "column", "prime", "dense"):
            scores = scores + shown
        y = ops.BatchMatMul()(ops.softmax(scores, -1).astype(self.dtype), values)
        if self.kind == "previous":
            y = y * shown.astype(self.dtype)
        return self.c_proj(y.reshape(x.shape[0], self.width))


@ops.constexpr
def _filled(kind, heads, length, count, row, rows, prime):
    """Where in a buffer the vectors of `Attention.keep` go: indices of its first axis, int32."""
    if kind == "column":
        inside = (np.arange(row)[:, None] * rows + np.arange(count // row)).reshape(-1)
    elif kind == "prime":
        inside = np.arange(min(count, prime))
    elif kind == "dense":
        inside = np.arange(count)
    else:
        inside = np.arange(length)
    return Tensor((np.arange(heads)[:, None] * length + inside).reshape(-1).astype(np.int32))
