"""The delay pattern: codebook k runs k columns behind codebook 0, so that one step predicts all codebooks.

Paper: section 2.2 of "Simple and Controllable Music Generation" (Copet et al., 2023). Pure functions on NumPy
arrays; the values follow `build_delay_pattern_mask` of transformers. P is the padding code, the dots are free:

    P....PPP
    PP....PP
    PPP....P      4 codebooks, 8 columns, no prompt
    PPPP....

Stereo interleaves left and right, so two neighbouring rows share a delay.
"""

import numpy as np

from ..generation import FREE


def codebook_delays(num_codebooks, audio_channels=1):
    """Delay of each codebook in columns, [K] int: 0, 1, 2, 3 in mono, 0, 0, 1, 1, ... in stereo."""
    return np.arange(num_codebooks) // audio_channels


def is_delayed(length, num_codebooks, audio_channels=1):
    """Whether `length` columns are enough for the pattern; shorter sequences run undelayed."""
    return length >= 2 * (num_codebooks // audio_channels) - 1


def build_pattern(prompt, length, pad, audio_channels=1):
    """What each column must hold: a code of the prompt, padding, or FREE where the model predicts.

    Args:
        prompt (numpy.ndarray): codes the output starts with, [B, K, frames], frames may be 0.
        length (int): number of columns, the start column included.
        pad (int): the start and padding code.
        audio_channels (int): 1, or 2 for interleaved stereo.

    Returns:
        pattern [B, K, length] int32, and the first column that has to be predicted.
    """
    rows, num_codebooks, frames = prompt.shape
    pattern = np.full((rows, num_codebooks, length), FREE, np.int32)
    if not is_delayed(length, num_codebooks, audio_channels):
        pattern[:, :, 0] = pad
        pattern[:, :, 1 : 1 + frames] = prompt[:, :, : length - 1]
        return pattern, 1 + frames
    widest = num_codebooks // audio_channels
    for codebook, delay in enumerate(codebook_delays(num_codebooks, audio_channels)):
        pattern[:, codebook, : 1 + delay] = pad
        pattern[:, codebook, length - widest + 1 + delay :] = pad
        end = min(1 + delay + frames, length - widest + 1 + delay)
        pattern[:, codebook, 1 + delay : end] = prompt[:, codebook, : end - 1 - delay]
    return pattern, 1 + frames


def undelay(columns, audio_channels=1, filled=None):
    """Codes without the pattern, as far as they are complete.

    Args:
        columns (numpy.ndarray): [B, K, length]; the length decides whether there is a delay.
        audio_channels (int): 1, or 2 for interleaved stereo.
        filled (int): columns that hold something yet; None for all.

    Returns:
        numpy.ndarray: [B, K, frames].
    """
    num_codebooks, length = columns.shape[1:]
    filled = length if filled is None else filled
    if not is_delayed(length, num_codebooks, audio_channels):
        return columns[:, :, 1:filled]
    frames = max(filled - num_codebooks // audio_channels, 0)
    delays = codebook_delays(num_codebooks, audio_channels)
    return np.stack([columns[:, k, 1 + d : 1 + d + frames] for k, d in enumerate(delays)], axis=1)


def columns_for(frames, num_codebooks, audio_channels=1):
    """How many columns have to be predicted for `frames` new frames: the delayed codebooks take longer."""
    return frames + num_codebooks // audio_channels - 1
