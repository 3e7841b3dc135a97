"""Bark's three stages of generation: text to semantic tokens, those to two codebooks, those to all of them.

What each stage reads, and how its windows move over it, is here; the compiled steps are in `decode_loop`. Every row
draws its random numbers from generators of its own and has its own windows, so that a row in a batch is what it would
be alone.
"""

import contextlib
import math

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..errors import InputError
from ..generation.graph_store import GraphStore
from ..generation.sampling import choose
from ..ops.memory import release_free_memory
from ..runtime.compiled import compiled, fingerprint
from .decode_loop import NEVER_ENDS, Draws, SemanticGraphs, StageGraphs, check_finite, run
from .settings import MOST_HISTORY

SEMANTIC, COARSE, FINE = range(3)  # streams of random numbers


def generators(seeds, stage):
    """A generator for each row and stage."""
    return [np.random.default_rng(np.random.SeedSequence(seed).spawn(3)[stage]) for seed in seeds]


def filters_of(sampling, count):
    """temperature, top_k and top_p as tensors; greedy choice is top-k of 1 with a uniform of 0."""
    sample = sampling.do_sample
    return (
        Tensor(np.array([sampling.temperature if sample else 1], np.float32)),
        Tensor(np.array([min(sampling.top_k or count, count) if sample else 1], np.int32)),
        Tensor(np.array([sampling.top_p if sample and sampling.top_p < 1 else 2], np.float32)),
    )


class FineGraphs(nn.Cell):
    """The compiled pass of the fine stage: one codebook of one window."""

    def __init__(self, network, size, key=None):
        super().__init__()
        self.network, self.size = network, size
        self.predict = compiled(self._predict, key and fingerprint(key, size))

    def _predict(self, codes, book, temperature, uniforms):
        """The codes of a codebook.

        Args:
            codes (Tensor): [1, T, K] int32.
            book (Tensor): [] int32.
            temperature (Tensor): [1] float32; 0 for the most probable codes.
            uniforms (Tensor): [T] float32.

        Returns:
            codes [T] int32, and the sum of the logits.
        """
        logits = self.network.predict(codes, book)[0, :, : self.size]
        drawn = choose(logits / ops.maximum(temperature, 1e-18), uniforms)
        best = ops.Argmax(-1, ms.int32)(logits)
        return ops.select(ops.broadcast_to(temperature > 0, best.shape), drawn, best), logits.sum()


def _store(network, kind):
    """Where the graphs of a stage are kept, by their sizes, of which the first is the number of rows."""
    if network is None:
        return None
    config, key = network.config, fingerprint(network.config, str(network.dtype), type(network).__name__)
    numbers = 2 * config.num_layers * config.block_size * config.hidden_size  # of keys and values, of a row
    width = numbers * (1 if hasattr(network, "graphs_kind") else 4 if network.dtype == ms.float32 else 2)
    kind = getattr(network, "graphs_kind", kind)

    def make(*sizes):
        return kind(network, *sizes, key=key)

    def bytes_of(sizes):
        return width * sizes[0] if issubclass(kind, StageGraphs) else 0

    def places():
        return [parameter.data_ptr() for parameter in network.get_parameters()]

    return GraphStore(make, bytes_of, places)


class Stages:
    """Generates with the three networks of a model, and keeps the graphs that were compiled for them.

    Args:
        semantic, coarse, fine: the networks; None for those that are not used.
    """

    def __init__(self, semantic=None, coarse=None, fine=None):
        self.stores = {
            "semantic": _store(semantic, SemanticGraphs),
            "coarse": _store(coarse, StageGraphs),
            "fine": _store(fine, FineGraphs),
        }

    @contextlib.contextmanager
    def _graphs(self, name, *sizes):
        """Context that yields the compiled pieces of a stage for some sizes, made on first use."""
        store = self.stores[name]
        with store.loan() as loan:
            store.lend(loan, lambda: (store.get(sizes), sizes))
            yield loan
            store.used(loan)
            store.give_back(loan)
        release_free_memory()  # what compiling took, before the next stage takes its own

    def semantic(self, ids, mask, history, settings, shown):
        """Text to semantic tokens.

        Args:
            ids (numpy.ndarray): tokens of the text, [B, n] int32.
            mask (numpy.ndarray): [B, n], 0 where ids are padding.
            history (list): for each row a preset's semantic tokens [s], or None.
            settings (settings.Settings): of the call.
            shown (Callable): called with how many of how many steps are done; may raise or return False to stop.

        Returns:
            list[numpy.ndarray]: the tokens of each row, without the end.
        """
        chosen, end = settings.semantic, settings.semantic.eos_token_id
        filters, steps = filters_of(chosen, end + 1), chosen.max_new_tokens
        least = Tensor(np.array([NEVER_ENDS if chosen.min_eos_p is None else chosen.min_eos_p], np.float32))
        draws = Draws(generators(settings.seeds, SEMANTIC), chosen.do_sample)
        prompt, position = semantic_prompt(ids, mask, history, chosen), chosen.max_input_semantic_length + 1
        with self._graphs("semantic", len(ids), end + 1, end) as graphs:
            first, total = graphs.prefill(
                Tensor(prompt),
                Tensor(np.array([position], np.int32)),
                Tensor(0, ms.int32),
                Tensor(draws.draw(1, 1)[0]),
                least,
                ms.mutable(filters),
            )
            check_finite(total, "semantic")
            columns = [first.asnumpy()[None]]
            for fresh in run(
                graphs, columns[0][0], position, steps - 1, lambda i: 0, draws, least, filters, "semantic"
            ):
                columns.append(fresh)
                if shown(sum(map(len, columns)), steps) is False:
                    break
        shown(steps, steps)
        tokens = np.concatenate(columns).T  # [B, steps]
        ends = np.where((tokens == end).any(1), (tokens == end).argmax(1), tokens.shape[1])
        return [row[:stop] for row, stop in zip(tokens, ends, strict=True)]

    def coarse(self, semantic, history, settings, shown):
        """Semantic tokens to ids of the first two codebooks, which take turns.

        Rows whose presets have as much coarse history move together.

        Args:
            semantic (list[numpy.ndarray]): tokens of each row.
            history (list): for each row (semantic [s], coarse [2, n]) of a preset, or None.
            settings, shown: as in `semantic`.

        Returns:
            list[numpy.ndarray]: codes of each row, [2, frames] int32.
        """
        known = [coarse_history(one, settings) for one in history]
        groups = {}
        for row, (tokens, codes) in enumerate(known):
            groups.setdefault((len(tokens), len(codes)), []).append(row)
        made, parts = [None] * len(semantic), len(groups)
        for number, rows in enumerate(groups.values()):

            def part_shown(done, steps, number=number):
                return shown(number * steps + done, parts * steps)

            of_rows = ([values[row] for row in rows] for values in (semantic, known, settings.seeds))
            with self._graphs("coarse", len(rows), settings.codebook_size) as graphs:
                ids = _coarse_ids(graphs, *of_rows, settings, part_shown)
            for row, one in zip(rows, ids, strict=True):
                made[row] = one
        base, size = settings.semantic.semantic_vocab_size, settings.codebook_size
        return [(ids.reshape(-1, 2).T - base) % size for ids in made]

    def fine(self, coarse, history, settings, shown):
        """Codes of the first two codebooks to those of all.

        Args:
            coarse (list[numpy.ndarray]): codes of each row, [2, frames].
            history (list): for each row a preset's codes [K, n], or None.
            settings, shown: as in `semantic`.

        Returns:
            list[numpy.ndarray]: codes of each row, [K, frames] int32.
        """
        chosen = settings.fine
        greedy = chosen.temperature is None or chosen.temperature == 1
        temperature = Tensor(np.array([0 if greedy else chosen.temperature], np.float32))
        buffers = [fine_buffer(codes, before, settings) for codes, before in zip(coarse, history, strict=True)]
        plans = [
            fine_windows(codes.shape[1], known, settings) for codes, (_, known) in zip(coarse, buffers, strict=True)
        ]
        passes, done = sum(map(len, plans)) * (chosen.n_fine_codebooks - 2), 0
        made = list(coarse)  # what is not reached before a stop has the first two codebooks alone
        with self._graphs("fine", settings.codebook_size) as graphs:

            def predict(window, book, draws):
                uniforms = draws.draw(len(window), len(window))[:, 0].copy()
                codes, total = graphs.predict(
                    Tensor(window[None].copy()), Tensor(book, ms.int32), temperature, Tensor(uniforms)
                )
                check_finite(total, "fine")
                return codes.asnumpy()

            for row, ((buffer, known), windows) in enumerate(zip(buffers, plans, strict=True)):
                draws = Draws(generators(settings.seeds[row : row + 1], FINE), not greedy)
                end = known + coarse[row].shape[1]
                for number, (start, fill) in enumerate(windows):
                    window = buffer[start : start + chosen.max_fine_input_length]  # a view: what is filled in is kept
                    for book in range(2, chosen.n_fine_codebooks):
                        window[fill - start :, book] = predict(window, book, draws)[fill - start :]
                        done += 1
                        if shown(done, passes) is False and done < passes:
                            books, last = (book + 1, end) if number == 0 else (chosen.n_fine_codebooks, fill)
                            made[row] = np.ascontiguousarray(buffer[known:last, :books].T)
                            return made
                made[row] = np.ascontiguousarray(buffer[known:end].T)
        return made


def _coarse_ids(graphs, semantic, known, seeds, settings, shown):
    """Ids of the coarse stage, c0 c1 c0 c1 ..., for rows whose histories `known` are as long: [steps] of each row."""
    chosen, size, base = settings.coarse, settings.codebook_size, settings.semantic.semantic_vocab_size
    steps = [2 * settings.frames(len(tokens)) for tokens in semantic]
    draws, filters = Draws(generators(seeds, COARSE), chosen.do_sample), filters_of(chosen, size)
    never = Tensor(np.array([NEVER_ENDS], np.float32))
    tokens = [np.concatenate([before, row]) for (before, _), row in zip(known, semantic, strict=True)]
    ids = np.stack([codes for _, codes in known])  # [B, history and what is made], all rows as far
    begin, before = ids.shape[1], len(known[0][0])
    windows = Windows(settings, before, begin)

    def first_of(step):
        return base + step % 2 * size

    done, total, position = 0, max(steps), None
    while done < total:
        wanted = min(chosen.sliding_window_len, total - done)
        if position is None or windows.moves(done):
            prefix = np.stack([windows.prefix(row, ids[i], done) for i, row in enumerate(tokens)])
            position = prefix.shape[1]
            first, logits = graphs.prefill(
                Tensor(np.pad(prefix, ((0, 0), (0, windows.room(graphs) - position)))),
                Tensor(np.array([position], np.int32)),
                Tensor(first_of(done), ms.int32),
                Tensor(draws.draw(1, 1)[0]),
                never,
                ms.mutable(filters),
            )
            check_finite(logits, "coarse")
            ids = np.concatenate([ids, first.asnumpy()[:, None]], 1)
            done, wanted = done + 1, wanted - 1
        later = [first_of(done + i) for i in range(2)]  # of the two codebooks, as they take turns from here on
        last = ids[:, -1].copy()
        fresh = run(graphs, last, position, wanted, lambda i, two=later: two[i % 2], draws, never, filters, "coarse")
        for columns in fresh:
            ids = np.concatenate([ids, columns.T], 1)
            done, position = done + len(columns), position + len(columns)
            if shown(done, total) is False:
                total = done - done % 2
                break
    return [row[begin : begin + min(n, total)] for row, n in zip(ids, steps, strict=True)]


class Windows:
    """What the coarse stage reads at a step: a window of semantic tokens, a mark, and the last codes.

    Args:
        settings (settings.Settings): of the call.
        before (int): semantic tokens of the history.
        begin (int): ids of the history.
    """

    def __init__(self, settings, before, begin):
        self.chosen, self.ratio, self.before, self.begin = settings.coarse, settings.ratio, before, begin
        self.reach = math.floor(self.chosen.max_coarse_history / self.ratio)  # semantic tokens behind the present one

    def _start(self, done):
        """The first semantic token of the window."""
        return max(0, self.before + round(done / self.ratio) - self.reach)

    def moves(self, done):
        """Whether the prefix at a window's beginning is another than the one before it, with what was made since; if
        not, the cache goes on."""
        return self._start(done) > 0 or self.begin + done > self.chosen.max_coarse_history

    def prefix(self, tokens, ids, done):
        """The known ids before the next one: [n] int32."""
        length = self.chosen.max_coarse_input_length
        window = tokens[self._start(done) :][:length]
        padding = np.full(length - len(window), self.chosen.coarse_semantic_pad_token)
        mark = [self.chosen.coarse_infer_token]
        return np.concatenate([window, padding, mark, ids[-self.chosen.max_coarse_history :]]).astype(np.int32)

    def room(self, graphs):
        """Positions of a prefill, for any history."""
        return min(self.chosen.max_coarse_input_length + 1 + MOST_HISTORY, graphs.positions)


def semantic_prompt(ids, mask, history, chosen):
    """What the semantic stage reads first: text, a preset's tokens over it, and a mark.

    Args:
        ids, mask (numpy.ndarray): [B, n].
        history (list): tokens [s] of each row, or None.
        chosen (settings.SemanticSettings): of the call.

    Returns:
        numpy.ndarray: [B, 2 * length + 1] int32; see `SemanticGraphs`.
    """
    length = chosen.max_input_semantic_length
    prompt = np.full((len(ids), 2 * length + 1), chosen.eos_token_id, np.int32)
    text = np.where(mask != 0, ids + chosen.text_encoding_offset, chosen.text_pad_token)[:, :length]
    prompt[:, :length] = chosen.text_pad_token
    prompt[:, : text.shape[1]] = text
    prompt[:, -1] = chosen.semantic_infer_token
    for row, known in enumerate(history):
        known = known[-length:] if known is not None else ()
        prompt[row, length : length + len(known)] = known
    return prompt


def coarse_history(preset, settings):
    """What the coarse stage takes over of a preset: as much of semantic tokens and codes as belongs together.

    Args:
        preset (tuple): semantic tokens [s] and codes [2, n], or None.
        settings (settings.Settings): of the call.

    Returns:
        tuple: semantic tokens [h], and ids c0 c1 c0 c1 ...
    """
    if preset is None:
        return np.zeros(0, np.int32), np.zeros(0, np.int32)
    semantic, coarse = preset
    ids = (coarse + np.arange(len(coarse))[:, None] * settings.codebook_size).T.reshape(-1)
    ids = ids + settings.semantic.semantic_vocab_size
    most = math.floor(settings.coarse.max_coarse_history / settings.ratio)
    kept = min(most, len(semantic) - len(semantic) % 2, math.floor(len(ids) / settings.ratio))
    if not kept:
        return np.zeros(0, np.int32), np.zeros(0, np.int32)
    # The last two are left out, as in suno's program: what follows lies better in time.
    return semantic[-kept:].astype(np.int32), ids[-round(kept * settings.ratio) :][:-2].astype(np.int32)


def fine_buffer(coarse, history, settings):
    """The codes that the fine stage fills in: of the history, of the coarse stage, and padding.

    Args:
        coarse (numpy.ndarray): [2, frames].
        history (numpy.ndarray): a preset's codes, [K, n], or None.
        settings (settings.Settings): of the call.

    Returns:
        numpy.ndarray: [frames in all, K] int32. int: how many of them are history.
    """
    chosen, frames = settings.fine, coarse.shape[1]
    before = [] if history is None else history.T[-chosen.max_fine_history_length :]
    shape = (max(len(before) + frames, chosen.max_fine_input_length), chosen.n_fine_codebooks)
    buffer = np.full(shape, settings.codebook_size, np.int32)
    if len(before):
        buffer[: len(before)] = before
    buffer[len(before) : len(before) + frames, :2] = coarse.T
    return buffer, len(before)


def fine_windows(frames, known, settings):
    """The windows of the fine stage.

    Args:
        frames (int): to be filled in.
        known (int): frames of history before them.
        settings (settings.Settings): of the call.

    Returns:
        list: (first frame, first frame to fill in) of each, counted from the history's beginning.
    """
    room, step = settings.fine.max_fine_input_length, settings.fine.max_fine_history_length
    length, count = max(known + frames, room), max(0, math.ceil((frames - (room - known)) / step)) + 1
    return [(min(step * i, length - room), min(known + step * i, length - step)) for i in range(count)]


def check_spoken(tokens):
    """Refuse to go on with a row without tokens.

    Raises:
        InputError: naming the row.
    """
    for row, found in enumerate(tokens):
        if len(found) < 1:
            raise InputError(f"text {row} gave no speech: the end came first; give another seed, or a longer text")
