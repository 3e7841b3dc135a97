"""Weights of 8 or 4 bits for a whole model: which names there are, what goes with them, and where they can run."""

import mindspore as ms

from ...errors import InputError
from ...models.quantized import VERSIONS, check_quantization, say_expanded
from ...ops import quantized as quantized_ops
from .decoder import expand, quantise


def check(quantization, dtype=ms.float32, model_type="musicgen"):
    """Refuse a quantization that there is not, or that does not go with a model.

    Args:
        quantization (str): "int8" or "int4", or None.
        dtype (mindspore.dtype): of the model.
        model_type (str): of its config.

    Raises:
        InputError: in one sentence.
    """
    check_quantization(quantization, dtype, None if model_type == "musicgen" else model_type, (*VERSIONS,))


def quantise_model(model, quantization):
    """Give a float32 model a quantised decoder; the float one loses its matrices. Nothing happens a second time.

    Raises:
        InputError: if the model has other bits already.
    """
    check(quantization, model.dtype, model.model_type)
    if model.quantization not in (None, quantization):
        raise InputError(f"the model is {model.quantization} already; open the float one for {quantization}")
    if model.quantization is None:
        model.use_decoder(quantise(model.decoder, model.config.decoder, model.decoder_of(quantization)), quantization)


def expand_without_kernels(model):
    """Where the kernels cannot run, let a quantised decoder compute in float32 with the same weights, and say so."""
    reason = quantized_ops.why_not()
    if model.quantization and reason:
        say_expanded(reason, model.quantization)
        model.use_decoder(expand(model.decoder, model.config.decoder, model.decoder_of(None)), None)
