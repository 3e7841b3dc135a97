"""The compiled parts of sampling with a prior: what a window is about, its known codes at once, and chunks of steps.

Everything that a window remembers lies in buffers of fixed size, so a number of samples has one graph for its chunks,
one for `prepare`, and one of `prefill` for each of a few numbers of rows. Python draws the random numbers and stops.

Shapes: B samples, T positions, W width, V ids.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from ..errors import InputError
from ..generation.sampling import choose, filter_logits
from ..models.convolutions import time_slice
from ..ops.memory import release_free_memory
from ..runtime.compiled import WRITES_IN_PLACE, compiled, fingerprint
from .attention import Kind, Places

CHUNK = 16  # steps in one call: a second or two between two looks at the interrupt key


def buffer(shape, dtype, name):
    """A Parameter of zeros that graphs write into."""
    return Parameter(Tensor(np.zeros(shape, np.float32), dtype), name=name, requires_grad=False)


def row_buckets(rows, usual=()):
    """Numbers of rows that a prefill is compiled for: powers of two, what is usual, and all."""
    powers = (1 << i for i in range(rows.bit_length()))
    return sorted({*powers, *(min(n, rows) for n in usual), rows})


class PriorGraphs(nn.Cell):
    """The graphs and buffers of a prior for a number of samples.

    Args:
        prior (JukeboxPrior): the network.
        samples (int): B.
        usual (Sequence[int]): numbers of known positions that come often, and get a prefill of their own.
        eager (bool): compute operation by operation: slower, but a short piece is done before a graph is compiled.
                Compiled all the same where MindSpore does not write in place rightly.
    """

    def __init__(self, prior, samples, usual=(), eager=False):
        super().__init__(auto_prefix=False)
        self.network, self.samples, net, dtype = prior, samples, prior.prior, prior.dtype
        self.before, self.n_ctx, width = prior.before, prior.n_ctx, prior.width
        self.row, self.positions = net.sizes[0].row, net.positions
        rows = net.sizes[0].rows
        usual = [-(-n // self.row) for n in usual]
        self.buckets = row_buckets(rows, usual) if net.rings is None else [rows]  # the operator takes what is real
        kept = ms.uint16 if prior.quantization else dtype  # bits of bfloat16, which the operators read
        self.buffers = ParameterTuple(
            buffer(size.buffer(samples), dtype if size.kind == "cross" else kept, f"{part}.{i}")
            for i, size in enumerate(net.sizes)
            for part in ("keys", "values")
        )
        self.weights = net.inner_weights(self.buffers) if net.rings is not None else ()
        self.places = nn.CellList([Places(net.sizes[net.kinds.index(kind)], samples) for kind in net.used])
        self.start = buffer((samples, width), dtype, "start")
        self.conditions = buffer((samples * self.n_ctx, width), dtype, "conditions")
        lyrics = (samples, max(prior.lyrics, 1), width if prior.encoder is not None else 1)
        self.states = buffer(lyrics, dtype, "states")
        self.crossing = [i for i, kind in enumerate(net.kinds) if kind == "cross"]
        self.columns = Parameter(Tensor(np.zeros((CHUNK, samples), np.int32)), name="columns", requires_grad=False)
        self.offsets = Tensor(np.arange(samples, dtype=np.int32) * self.n_ctx)
        self.gather, self.assign = ops.Gather(), ops.Assign()
        functions = self._prepare, self._prefill, self._chunk
        eager = (
            eager or net.rings is not None
        )  # there is nothing to compile, and MindSpore never frees a graph's weights
        if not (eager and WRITES_IN_PLACE):
            key = fingerprint(prior.config, prior.level, prior.nb_priors, str(dtype), prior.quantization, samples)
            functions = (compiled(function, key) for function in functions)
        self.prepare, self.prefill, self.chunk = functions

    def _prepare(self, artist, genres, lyrics, condition):
        """What the window is about goes into the buffers; arguments as in `labels.Window`, condition: [B, n, W]."""
        prior, net = self.network, self.network.prior
        start = prior.metadata_embedding.start(artist, genres).astype(prior.dtype)
        self.assign(self.start, start)
        self.assign(self.conditions, condition.reshape(-1, prior.width))
        result = start.astype(ms.float32).sum() + condition.astype(ms.float32).sum()
        if prior.encoder is not None:
            states, length = prior.encoder(lyrics), artist[:1]
            self.assign(self.states, states)
            for i in self.crossing:
                attention = net.layers[i].attn
                keys, values = ops.split(attention.c_enc_kv(states), attention.width, 2)
                result = ops.depend(result, attention.keep(keys, length, self.buffers[2 * i]))
                result = ops.depend(result, attention.keep(values, length, self.buffers[2 * i + 1]))
            result = result + states.astype(ms.float32).sum()
        return result

    def _prefill(self, ids, length):
        """Known ids [B, T] int32, T whole rows, of which the first `length` [1] int32 are real, go into the buffers."""
        prior, count = self.network, ids.shape[1]
        if prior.prior.rings is not None:
            return prior.prior.fill_at_once(ids, self.start, self.conditions, length, self.weights).sum()
        condition = prior.everywhere(self.conditions.reshape(self.samples, self.n_ctx, -1))
        condition = time_slice(condition, 0, count) if count < self.positions else condition
        x = prior.prior.fill(ids, self.start, condition, self.states, length, self.buffers)
        return x.astype(ms.float32).sum()

    def _chunk(self, ids, position, steps, uniforms, filters):
        """Up to CHUNK steps.

        Args:
            ids (Tensor): the newest, [B] int32.
            position (Tensor): the one after it, [1] int32.
            steps (Tensor): [] int32, at most CHUNK.
            uniforms (Tensor): [CHUNK, B] float32.
            filters (tuple[Tensor]): temperature, top_k, top_p.

        Returns:
            ids [CHUNK, B] int32 of which the first `steps` are new, and the sum of the last logits.
        """
        if self.network.prior.rings is not None:
            settings = self.start, self.conditions, uniforms, filters, self.weights
            columns, logits = self.network.prior.steps_at_once(ids, position, steps, *settings)
            return columns, logits.sum()
        step, total = Tensor(0, ms.int32), Tensor(0, ms.float32)
        while step < steps:
            places = ()
            for place in self.places:
                places += (place(position),)
            condition = self.gather(self.conditions, self.offsets + (position - self.before), 0)
            logits = self.network.prior.step(ids, self.start, condition, position, places, self.buffers)
            ids = choose(filter_logits(logits, *filters), self.gather(uniforms, step, 0))
            self.columns[step.reshape(1)] = ids.expand_dims(0)
            total = logits.sum()
            position = position + 1
            step = step + 1
        return self.columns, total

    def begin(self, window, upper, known):
        """Take up a window.

        Args:
            window (labels.Window): its labels.
            upper (numpy.ndarray): the codes above it, [B, n] int32; None for the top prior.
            known (numpy.ndarray): its first codes, [B, m] int32.

        Returns:
            numpy.ndarray: the newest id of each sample, [B] int32. int: the position after it.
        """
        prior, nothing = self.network, np.zeros((self.samples, 1), np.int32)
        timed = [nothing if one is None else one for one in (window.total, window.absolute, window.relative)]
        lyrics = window.lyrics if prior.lyrics else nothing
        upper = nothing if upper is None else upper
        artist, genres, lyrics, upper, *timed = (
            Tensor(np.ascontiguousarray(one)) for one in (window.artist, window.genres, lyrics, upper, *timed)
        )
        condition = prior.condition(upper, *timed)  # 32 convolutions, not as a graph, which would keep what each makes
        release_free_memory()  # half a gigabyte of what it made on the way
        check_finite(self.prepare(artist, genres, lyrics, condition), prior.level)
        ids = np.concatenate([window.lyrics, known + prior.shift], 1) if prior.before else known
        count = ids.shape[1]
        if not count:
            return nothing[:, 0], 0
        rows = next(rows for rows in self.buckets if rows * self.row >= count)
        padded = np.zeros((self.samples, rows * self.row), np.int32)
        padded[:, :count] = ids
        check_finite(self.prefill(Tensor(padded), Tensor(np.array([count], np.int32))), prior.level)
        return ids[:, -1].astype(np.int32), count

    def steps(self, ids, position, count, uniforms, filters):
        """Make `count` ids after `begin`, in chunks.

        Args:
            ids (numpy.ndarray), position (int): what `begin` returned.
            count (int): how many.
            uniforms (numpy.ndarray): [count, B] float32 in [0, 1).
            filters (tuple[Tensor]): temperature, top_k, top_p.

        Yields:
            numpy.ndarray: the next ids, [n, B] int32.
        """
        done = 0
        while done < count:
            wanted = min(CHUNK, count - done)
            drawn = np.zeros((CHUNK, self.samples), np.float32)
            drawn[:wanted] = uniforms[done : done + wanted]
            columns, total = self.chunk(
                Tensor(ids),
                Tensor(np.array([position + done], np.int32)),
                Tensor(wanted, ms.int32),
                Tensor(drawn),
                ms.mutable(filters),
            )
            check_finite(total, self.network.level)
            columns = columns.asnumpy()[:wanted].copy()
            yield columns
            ids = columns[-1].copy()
            done += wanted


def check_finite(total, level):
    """Refuse to go on with numbers that are none.

    Raises:
        InputError: saying why that may be.
    """
    if not np.isfinite(total.asnumpy()).all():
        raise InputError(f"prior {level} computes what is not finite: the checkpoint is damaged, or dtype too narrow")


def step_bytes(prior_config, samples, size):
    """Bytes of the buffers of a prior for so many samples.

    Args:
        prior_config (JukeboxPriorConfig): of the prior.
        samples (int): B.
        size (int): bytes of a number.
    """
    kinds = [Kind(prior_config, kind, prior_config.positions) for kind in prior_config.kinds]
    vectors = sum(2 * kind.heads * kind.length * kind.size for kind in kinds)
    return samples * size * (vectors + prior_config.n_ctx * prior_config.hidden_size)
