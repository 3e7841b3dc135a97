"""How long sampling takes: what a level has to do, and how fast this machine does it, measured or from sizes alone."""

import time

import numpy as np
from mindspore import Tensor

from .labels import window_starts

PROBED = 512  # positions that are timed: seconds of a full-size prior, and long enough for its columns to be read


def level_work(config, wanted, have, hop):
    """What a prior has to do for one batch.

    Args:
        config (JukeboxPriorConfig): of the prior.
        wanted, have (int): codes of the piece, and those that are there.
        hop (int): codes by which windows move.

    Returns:
        int: steps. int: positions that are known when their window begins, all windows together.
    """
    steps, known, before = max(wanted - have, 0), 0, config.positions - config.n_ctx
    starts = window_starts(wanted, config.n_ctx, hop) if wanted >= config.n_ctx else [0]
    for start in starts:
        end = min(start + config.n_ctx, wanted)
        if end > have:
            known += before + max(have - start, 0)
            have = end
    return steps, known


def layer_products(config):
    """Multiplications of a position in all layers of a transformer, attention among positions aside."""
    each = 4 * config.attention_multiplier + 2 * config.mlp_multiplier
    return int(config.num_layers * each * config.hidden_size**2)


def step_products(config):
    """The same of a step, with its head: also how many weights a step reads."""
    ids = config.music_vocab_size + (config.lyric_vocab_size if config.is_encoder_decoder else 0)
    return layer_products(config) + ids * config.hidden_size


def known_seconds(graphs):
    """Seconds that each known position takes at the beginning of a window, measured on a few, before there is any.

    Args:
        graphs (PriorGraphs): of a prior, whose buffers hold nothing yet.
    """
    rows = next((rows for rows in graphs.buckets if rows * graphs.row >= PROBED), graphs.buckets[-1])
    count = min(PROBED, rows * graphs.row)
    ids = Tensor(np.zeros((graphs.samples, rows * graphs.row), np.int32))
    for real in (1, count):  # the first may compile
        started = time.perf_counter()
        graphs.prefill(ids, Tensor(np.array([real], np.int32))).asnumpy()
    taken = time.perf_counter() - started
    return taken / (count if len(graphs.buckets) == 1 else rows * graphs.row)
