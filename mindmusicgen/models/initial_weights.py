"""The random weights of a model that is made from a config: the distributions are those of transformers.

`layers.initialise` draws others, which keep the scale of what flows through a codec. Here T5 follows Mesh TensorFlow
(the scales undo that attention is not scaled), the decoder has one width for all, and the codec has torch's defaults;
its codebooks are zeros, which only training fills.
"""

import math

import numpy as np

from .convolutions import Conv1d, ConvTranspose1d, TimeGroupNorm
from .layers import LayerNorm, RMSNorm


def initial_weights(network, known=()):
    """Fill a network's parameters, from NumPy's own generator, which `set_seed` sets.

    Args:
        network (nn.Cell): a composite, or a cell that holds a part of one under the composite's name; with `config`.
        known (Container[str]): parts of a composite that have weights already.
    """
    rng = np.random.default_rng(np.random.randint(2**31 - 1))
    cells = dict(network.cells_and_names())
    for name, parameter in network.parameters_and_names():
        owner, leaf = name.rsplit(".", 1)
        cell, part = cells.get(owner), name.partition(".")[0]
        if part in known:
            continue
        config = getattr(network.config, part, network.config)
        values = parameter.asnumpy()  # shares the parameter's memory
        if isinstance(cell, (LayerNorm, TimeGroupNorm, RMSNorm)):
            factor = config.initializer_factor if isinstance(cell, RMSNorm) else 1
            values[...] = factor if leaf == "weight" else 0
        elif part == "text_encoder":
            _text(rng, values, name, config)
        elif part == "audio_encoder":
            _codec(rng, values, leaf, cell, cells.get(owner.removesuffix(".conv")))
        elif part == "conditioner":
            _projection(rng, values, leaf, cell, network.config)
        else:
            values[...] = 0 if leaf == "bias" else _normal(rng, values.shape, config.initializer_factor)


def _normal(rng, shape, width):
    return rng.standard_normal(shape, np.float32) * np.float32(width)


def _uniform(rng, shape, bound):
    return rng.uniform(-bound, bound, shape)


def _text(rng, values, name, config):
    """T5: the width of each matrix by what goes into it; the queries' makes up for scores that are not scaled."""
    factor, dim, inner = config.initializer_factor, config.d_model, config.num_heads * config.d_kv
    widths = {"shared": 1, "relative_attention_bias": dim**-0.5, "o": inner**-0.5, "wo": config.d_ff**-0.5}
    values[...] = _normal(rng, values.shape, factor * widths.get(name.split(".")[-2], dim**-0.5))
    if name.endswith(".qkv.weight"):
        values[:inner] *= np.float32(config.d_kv**-0.5)


def _codec(rng, values, leaf, cell, convolution):
    """EnCodec: a convolution by what goes into an output, an LSTM by both sides of its matrix."""
    if isinstance(convolution, (Conv1d, ConvTranspose1d)):
        transposed = isinstance(convolution, ConvTranspose1d)
        sources = convolution.out_channels if transposed else convolution.in_channels  # as torch counts them
        taps = convolution.blocks * convolution.stride if transposed else convolution.kernel_size
        if leaf == "weight" and not transposed and convolution.norm is not None:
            values[...] = _normal(rng, values.shape, math.sqrt(2 / (sources * taps)))
        else:
            values[...] = _uniform(rng, values.shape, (sources * taps) ** -0.5)
    elif values.ndim == 2:
        values[...] = _uniform(rng, values.shape, math.sqrt(6 / sum(values.shape)))
    else:
        values[...] = 0  # the LSTM's biases, and the codebooks


def _projection(rng, values, leaf, cell, config):
    """What brings text, or chroma, to the width of the decoder."""
    if config.model_type == "musicgen_melody":
        values[...] = 0 if leaf == "bias" else _normal(rng, values.shape, config.decoder.initializer_factor)
    else:
        values[...] = _uniform(rng, values.shape, cell.in_features**-0.5)
