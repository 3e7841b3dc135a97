"""The compiled steps of Bark's two causal stages: a prefill, and a chunk of steps over a fixed cache.

Text, history and settings are inputs, so that both graphs are compiled once for a number of rows. What they remember
lies in `StageGraphs.cache`. Python draws the random numbers, shows progress and stops.

Shapes: B rows, T positions, C ids that may be chosen, L positions of the cache.
"""

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from ..errors import InputError
from ..generation.decode_loop import cache_buffers
from ..generation.sampling import choose, filter_logits
from ..models.layers import shared_parameter
from ..ops.memory import zeros
from ..runtime.compiled import compiled, fingerprint

CHUNK = 30  # steps in one call: about a second of computing between two looks at the interrupt key
NEVER_ENDS = 2.0  # as the least probability of the end


def together(weights):
    """What an operator reads, as one ParameterTuple. Joined in a graph, it would take a second or two to compile.

    Args:
        weights (Sequence[Parameter | Tensor]): a Tensor stands for the bias of a norm that has none, of zeros.
    """
    biases = {w.shape: w for w in weights if not isinstance(w, Parameter)}
    made = {shape: shared_parameter(zeros(shape, np.float32), f"no_bias.{i}") for i, shape in enumerate(sorted(biases))}
    return ParameterTuple(w if isinstance(w, Parameter) else made[w.shape] for w in weights)


class StageGraphs(nn.Cell):
    """Prefill and steps of one causal stage for a number of rows.

    Args:
        network (CausalGpt): the stage's.
        rows (int): B.
        count (int): C; the ids chosen among are `first` .. `first` + C - 1, where `first` is an input.
        end (int): which of these ends a row; None: rows have no end.
        key (str): of what the graph depends on besides, for the cache of compiled graphs; None: not cached.
        positions (int): L; None: as many as the network has.
    """

    def __init__(self, network, rows, count, end=None, key=None, positions=None):
        super().__init__()
        self.network, self.rows, self.count, self.end = network, rows, count, end
        self.positions = positions or network.config.block_size
        self.cache = self.make_cache(network.config, rows)
        self.columns = Parameter(Tensor(np.zeros((CHUNK, rows), np.int32)), name="columns", requires_grad=False)
        self.gather = ops.Gather()
        self.decode_op = network.decode_op(count)
        self.inner = () if self.decode_op is None else together(network.inner_weights(self.cache))
        self.ending = Tensor(np.array([-1 if end is None else end], np.int32))
        key = key and fingerprint(key, type(self).__name__, rows, count, end)
        self.prefill, self.chunk = compiled(self._prefill, key), compiled(self._chunk, key)

    def make_cache(self, config, rows):
        """Buffers for the keys and values of every layer."""
        return cache_buffers("cache", config, rows, self.positions, self.network.dtype)

    def states(self, x):
        """Embeddings [B, T, D] to hidden states; the cache is filled."""
        return self.network.prefill(x, self.cache)

    def embed(self, ids):
        """[B, T] -> [B, T, D], without positions."""
        return self.network.input_embeds_layer(ids)

    def _prefill(self, ids, length, first, uniforms, least, filters):
        """Run known ids and choose the next one.

        Args:
            ids (Tensor): [B, T] int32, padded on the right.
            length (Tensor): [1] int32, how many positions are real.
            first (Tensor): [] int32, the first id that may be chosen.
            uniforms (Tensor): [B] float32.
            least (Tensor): [1] float32: a row ends where the end is more probable.
            filters (tuple[Tensor]): temperature, top_k, top_p.

        Returns:
            the next ids [B] int32, and the sum of their logits (not finite if anything went wrong).
        """
        x = self.states(self.embed(ids))
        logits = self.network.some_logits(self.gather(x, length - 1, 1).squeeze(1), first, self.count)
        return self.pick(logits, first, uniforms, least, filters), logits.sum()

    def _chunk(self, ids, position, steps, firsts, uniforms, least, filters):
        """Up to CHUNK steps, fewer if all rows end.

        Args:
            ids (Tensor): the newest, [B] int32.
            position (Tensor): theirs, [1] int32.
            steps (Tensor): [] int32, at most CHUNK.
            firsts (Tensor): [CHUNK] int32, the first id that may be chosen in each step.
            uniforms (Tensor): [CHUNK, B] float32.
            least, filters: as in `_prefill`.

        Returns:
            ids [CHUNK, B] int32 of which the first so many are new, how many, and the sum of the last logits.
        """
        if self.decode_op is not None:
            return self.at_once(ids, position, steps, firsts, uniforms, least, filters)
        step, total = Tensor(0, ms.int32), Tensor(0, ms.float32)
        alive = self.alive(ids)
        while ops.logical_and(step < steps, alive):
            x = self.network.step(ids, position, self.cache)
            first = self.gather(firsts, step, 0)
            logits = self.network.some_logits(x, first, self.count)
            chosen = self.pick(logits, first, self.gather(uniforms, step, 0), least, filters)
            ids = chosen if self.end is None else ops.select(ids == self.end, ids, chosen)
            self.columns[step.reshape(1)] = ids.expand_dims(0)
            alive = self.alive(ids)
            total = logits.sum()
            position = position + 1
            step = step + 1
        return self.columns, step, total

    def at_once(self, ids, position, steps, firsts, uniforms, least, filters):
        """The same as one operator."""
        network = self.network
        arguments = (ids, position, steps, firsts, uniforms, least, filters[0], filters[1], filters[2])
        arguments += (self.ending, network.heads) + network.outer_weights()
        columns, made, logits = self.decode_op(*arguments, *self.inner)
        return columns, made.reshape(()), logits.sum()

    def alive(self, ids):
        """Whether some row has not ended, [] bool."""
        if self.end is None:
            return (ids[0] >= 0).reshape(())
        return (ids != self.end).any()

    def pick(self, logits, first, uniforms, least, filters):
        """Logits [B, C] to ids [B]."""
        chosen = choose(filter_logits(logits, *filters), uniforms)
        if self.end is not None:
            ends = ops.softmax(logits, -1)[:, self.end] > least
            chosen = ops.select(ends, ops.full_like(chosen, self.end), chosen)
        return chosen + first


class SemanticGraphs(StageGraphs):
    """Those of the semantic stage, whose prompt is text and history, one over the other, and a mark behind them."""

    def embed(self, ids):
        """[B, 2 n + 1]: n of text, n of history, the mark -> [B, n + 1, D]"""
        x = self.network.input_embeds_layer(ids)
        rows, length, dim = x.shape
        half = length // 2
        text, history, mark = ops.split(x, [half, half, 1], 1)
        return ops.concat((text + history, mark), 1)


def check_finite(total, what):
    """Refuse logits that are not numbers any more.

    Raises:
        InputError: saying why that may be.
    """
    if not np.isfinite(total.asnumpy()).all():
        raise InputError(f"the {what} stage's logits are not finite: the checkpoint is damaged or dtype too narrow")


class Draws:
    """Uniforms of each row, from a generator of its own; zeros for greedy choice."""

    def __init__(self, generators, do_sample):
        self.generators, self.do_sample = generators, do_sample

    def draw(self, steps, size=CHUNK):
        """The next numbers, float32 in [0, 1), [size, B], zeros behind `steps`; in several calls the same as in one."""
        made = np.zeros((size, len(self.generators)), np.float32)
        if self.do_sample:
            for row, generator in enumerate(self.generators):
                made[:steps, row] = generator.random(steps, np.float32)
        return made


def run(graphs, ids, position, steps, first_of, draws, least, filters, what):
    """Steps after a prefill, chunk by chunk.

    Args:
        graphs (StageGraphs): after `prefill`.
        ids (numpy.ndarray): what prefill chose, [B] int32.
        position (int): of these ids.
        steps (int): how many more to make.
        first_of (Callable): from the number of a step to the first id that may be chosen in it.
        draws (Draws): random numbers.
        least (Tensor), filters (tuple[Tensor]): as in `StageGraphs`.
        what (str): the stage's name, for errors.

    Yields:
        numpy.ndarray: the next ids, [n, B] int32; fewer in all than `steps` if all rows ended.
    """
    done = 0
    while done < steps:
        wanted = min(CHUNK, steps - done)
        firsts = np.array([first_of(done + i) for i in range(CHUNK)], np.int32)
        columns, made, total = graphs.chunk(
            Tensor(ids),
            Tensor(np.array([position + done], np.int32)),
            Tensor(wanted, ms.int32),
            Tensor(firsts),
            Tensor(draws.draw(wanted)),
            least,
            ms.mutable(filters),
        )
        check_finite(total, what)
        made = int(made.asnumpy())
        columns = columns.asnumpy()[:made].copy()
        if made:
            yield columns
            ids = columns[-1].copy()
        done += made
        if made < wanted:
            return
