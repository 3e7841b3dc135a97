"""Sampling a level of Jukebox, window by window: each goes on from the codes that lie in it already."""

import numpy as np
from mindspore import Tensor

from .labels import window_starts

OFF = 2.0  # as top_p: everything stays


def uniforms(seed, level, first, count):
    """The numbers with which a sample chooses its codes `first` to first + count of a level.

    A code's number depends on the seed, the level and the code's place alone: not on windows, prompts, the other
    samples, or on whether the run was interrupted.

    Returns:
        numpy.ndarray: [count] float32 in [0, 1).
    """
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(level,)))
    bits.advance(first)
    drawn = np.random.Generator(bits).random(count)
    return (np.floor(drawn * 2**24) / 2**24).astype(np.float32)


def windows(request, level, n_ctx, have):
    """The windows of a level that still have codes to make: (start, end) of each.

    Args:
        request (settings.Request): of the call.
        level (int): the prior's number.
        n_ctx (int): codes of a window.
        have (int): codes that are there.
    """
    wanted = request.wanted[level]
    starts = window_starts(wanted, n_ctx, request.hops[level]) if wanted >= n_ctx else [0]
    return [(start, min(start + n_ctx, wanted)) for start in starts if min(start + n_ctx, wanted) > have]


def upper_codes(codes, start, n_ctx, ratio):
    """The codes above a window, [B, n_ctx / ratio] int32; 0 where there are none."""
    found = codes[:, start // ratio : (start + n_ctx) // ratio]
    return np.pad(found, ((0, 0), (0, n_ctx // ratio - found.shape[1]))).astype(np.int32)


def filters(request, level, ids):
    """Temperature, top_k and top_p as the graphs take them; `ids` is how many there are."""
    return (
        Tensor(np.array([request.temperatures[level]], np.float32)),
        Tensor(np.array([min(request.top_k or ids, ids)], np.int32)),
        Tensor(np.array([request.top_p or OFF], np.float32)),
    )


def rows_of(window, rows):
    """The labels of some samples."""
    fields = ("artist", "genres", "lyrics", "positions", "total", "absolute", "relative")
    chosen = {name: getattr(window, name) for name in fields}
    chosen = {name: None if one is None else one[rows] for name, one in chosen.items()}
    return type(window)(**chosen, total_length=window.total_length, offset=window.offset, length=window.length)


def sample_window(graphs, request, level, span, codes, above, rows, watch):
    """The new codes of one window for some samples.

    Args:
        graphs (PriorGraphs): for as many samples.
        request (settings.Request): of the call.
        level (int): the prior's number.
        span (tuple[int]): the window's first code, and the one behind its last.
        codes, above (numpy.ndarray): of this level and the one above, [B, n] int32, of all samples.
        rows (numpy.ndarray): which samples; one that is named twice fills the batch up.
        watch (LevelBar): told how many known codes were taken up, then after each chunk how many were made.

    Returns:
        numpy.ndarray: [B, new] int32.
    """
    prior, (start, end), have = graphs.network, span, codes.shape[1]
    window = rows_of(request.labels[level].window(start, request.total_length, request.offset), rows)
    upper = upper_codes(above[rows], start, prior.n_ctx, prior.cond_downsample) if level else None
    ids, position = graphs.begin(window, upper, codes[rows, start:])
    watch.begun(position)
    drawn = np.stack([uniforms(request.seeds[row], level, have, end - have) for row in rows], 1)
    made = []
    total = prior.config.music_vocab_size + prior.shift
    for columns in graphs.steps(ids, position, end - have, drawn, filters(request, level, total)):
        made.append(columns)
        watch.tick(len(columns))
    return np.maximum(np.concatenate(made).T - prior.shift, 0).astype(np.int32)  # a drawn character counts as code 0


def sample_level(graphs_for, request, level, codes, above, n_ctx, watch):
    """All windows of a level.

    Args:
        graphs_for (callable): from a number of samples to the `PriorGraphs` for it.
        request, level, codes, above, watch: as in `sample_window`.
        n_ctx (int): codes of a window.

    Yields:
        numpy.ndarray: the codes so far, [B, n] int32, after every window.
    """
    count = len(codes)
    size = min(request.batches[level], count)
    for span in windows(request, level, n_ctx, codes.shape[1]):
        made = []
        for first in range(0, count, size):
            rows = np.minimum(np.arange(first, first + size), count - 1)
            found = sample_window(graphs_for(size), request, level, span, codes, above, rows, watch)
            made.append(found[: count - first])
        codes = np.concatenate([codes, np.concatenate(made)], 1)
        yield codes
