"""The decoder of a codec that looks back only, in windows of one size: clips of any length in one graph.

The LSTM's state and the last hidden frames are handed from window to window, so that what comes out is what decoding
everything at once gives, to float32 rounding.
"""

import mindspore as ms
import numpy as np
from mindspore import Tensor

from ..generation.incremental_decoder import reflection

WINDOW = 192  # frames decoded at a time, 2.56 s; a whole clip of 15 s at once took 0.4 GB more
SHORTEST = 8  # frames; shorter clips do not reach beyond the padding of every convolution


def looks_back(config):
    """Whether what a codec decodes depends on no later frame, so that a clip can be padded to a graph's length.

    Args:
        config (transformers.EncodecConfig): of the codec.
    """
    return config.use_causal_conv and config.trim_right_ratio == 1 and config.norm_type == "weight_norm"


def in_windows(run, codes, left, reach, layers, size):
    """Codes [K, frames] int32 to audio [samples] float32.

    Args:
        run (callable): `codec.Window.decode`, compiled or out of a file.
        codes (numpy.ndarray): more frames than `left`.
        left (int): padding of the first convolution.
        reach (int): hidden frames that a sample may depend on.
        layers, size (int): of the LSTM.
    """
    frames = codes.shape[1]
    codes = np.concatenate([reflection(codes[None], left)[:, :, ::-1], codes[None]], axis=2)
    codes = np.pad(codes, ((0, 0), (0, 0), (0, -frames % WINDOW)))
    state = [Tensor(np.zeros((layers, 1, size), np.float32))] * 2
    hidden, made = Tensor(np.zeros((1, reach, size), np.float32)), []
    for start in range(0, frames, WINDOW):
        window = np.ascontiguousarray(codes[:, :, start : start + left + WINDOW])
        audio, *state, hidden = run(Tensor(window), *state, hidden, Tensor(0 if start else reach, ms.int32))
        hop = audio.shape[2] // (reach + WINDOW)
        first = reach * hop if start else 0
        made.append(audio.asnumpy()[0, 0, first : first + WINDOW * hop])
    return np.concatenate(made)[: frames * hop]
