"""Music of any length: the decoder's window slides over the codes.

A window holds what MusicGen was trained on, 30 s. When it is full, its last part becomes the prompt of the next one, as
codes, so nothing is coded twice. A clip that fits into one window is generated exactly as transformers does.
"""

from dataclasses import dataclass

import numpy as np

from .delay_pattern import build_pattern, columns_for, undelay


@dataclass(frozen=True)
class Plan:
    """How a clip is divided.

    Attributes:
        first (int): columns of the first window, start column and prompt included.
        frames (int): frames in all, the prompt included.
        window (int): most frames in a window.
        context (int): frames that a window takes over from the one before.
    """

    first: int
    frames: int
    window: int
    context: int


def generate_frames(run, prompt, plan, pad, audio_channels=1):
    """Generate codes window by window.

    Args:
        run (callable): from a pattern [B, K, length] and its first free column to a generator of (columns, filled),
            such as `decode_loop.decode`.
        prompt (numpy.ndarray): codes to start with, [B, K, frames], frames may be 0.
        plan (Plan): the windows.
        pad (int): the start and padding code.
        audio_channels (int): 1, or 2 for interleaved stereo.

    Yields:
        numpy.ndarray: the next final codes, [B, K, n], n may be 0; the prompt's come first.
    """
    num_codebooks = prompt.shape[1]
    yield prompt
    done, known, length = prompt.shape[2], prompt, plan.first
    while True:
        window = known
        for columns, filled in run(*build_pattern(known, length, pad, audio_channels)):
            codes = undelay(columns, audio_channels, filled)
            fresh = codes[:, :, window.shape[2] :]
            if fresh.shape[2]:
                window = np.concatenate([window, fresh], axis=2)
            yield fresh
        done += window.shape[2] - known.shape[2]
        if done >= plan.frames:
            return
        known = window[:, :, -plan.context :]
        frames = min(plan.window, plan.context + plan.frames - done)
        length = 1 + columns_for(frames, num_codebooks, audio_channels)
