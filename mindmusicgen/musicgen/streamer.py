"""A transformers streamer beside the generation: it is given the codes column by column, in the delay pattern."""

import numpy as np
from mindspore import Tensor

from ..errors import InputError, shown
from .delay_pattern import codebook_delays


def to_streamer(streamer, frames, pad, audio_channels=1):
    """Pass codes on, and give a streamer the columns they lie in.

    The first `put` gets the start column and those of the prompt, [B * K, n]; each further one a column, [B * K], as
    transformers does; `end` follows the last. Where a codebook has not begun or has ended, a column holds the padding
    code.

    Args:
        streamer (transformers.generation.streamers.BaseStreamer): has `put` and `end`; None for none.
        frames (Iterable[numpy.ndarray]): final codes, [B, K, n] each, the prompt's first.
        pad (int): the start and padding code.
        audio_channels (int): 1, or 2 for interleaved stereo.

    Yields:
        numpy.ndarray: what `frames` holds.

    Raises:
        InputError: if the streamer has no `put` and `end`.
    """
    if streamer is None:
        yield from frames
        return
    if not callable(getattr(streamer, "put", None)) or not callable(getattr(streamer, "end", None)):
        raise InputError(f"streamer is {shown(streamer)}; expected an object with put(columns) and end()")
    delays, known, done = None, None, 0
    for fresh in frames:
        if delays is None:
            delays = codebook_delays(fresh.shape[1], audio_channels)
            known = np.full((*fresh.shape[:2], 1 + delays[-1]), pad, np.int32)  # what lies before a codebook's start
        known = np.concatenate([known, fresh], axis=2)
        ready = known.shape[2] - delays[-1]
        if not done:
            streamer.put(Tensor(_columns(known, delays, 0, ready)))
        for column in range(done or ready, ready):
            streamer.put(Tensor(_columns(known, delays, column, column + 1)[:, 0].copy()))
        done = ready
        yield fresh
    if known is not None:
        known = np.pad(known, ((0, 0), (0, 0), (0, delays[-1])), constant_values=pad)
        for column in range(done, done + delays[-1]):
            streamer.put(Tensor(_columns(known, delays, column, column + 1)[:, 0].copy()))
    streamer.end()


def _columns(known, delays, start, end):
    """Columns `start` to `end` of the pattern, [B * K, n]: codebook k is d columns behind, d before it pads."""
    first = delays[-1] - delays
    rows = [known[:, k, first[k] + start : first[k] + end] for k in range(known.shape[1])]
    return np.stack(rows, axis=1).reshape(-1, end - start)
