"""Arguments of calls of the decoder: codes, labels and caches, checked."""

import numpy as np
from mindspore import Tensor

from ...arguments import as_whole
from ...errors import InputError


def codes(name, value, config):
    """Codes [B * K, T] -> [B, K, T] int32; the start and padding code counts as a code."""
    ids = as_whole(name, value, (2, 3))
    books = config.num_codebooks
    if ids.ndim == 3 and ids.shape[1] != books or ids.ndim == 2 and ids.shape[0] % books or ids.size == 0:
        raise InputError(
            f"{name} has shape {ids.shape}; expected (batch * {books}, columns): {books} rows for each prompt"
        )
    if ids.min() < 0 or ids.max() > config.vocab_size:
        raise InputError(
            f"{name} holds {ids.min()} to {ids.max()}; expected codes 0 to {config.vocab_size - 1}, "
            f"or {config.vocab_size} for the start"
        )
    return Tensor(ids.reshape(-1, books, ids.shape[-1]).astype(np.int32))


def labels(value, config):
    """Labels [B, T, K] -> [B, K, T] int32."""
    wanted = as_whole("labels", value, 3)
    if wanted.shape[2] != config.num_codebooks or wanted.size == 0:
        raise InputError(
            f"labels has shape {wanted.shape}; expected (batch, columns, {config.num_codebooks} codebooks)"
        )
    if ((wanted < 0) & (wanted != -100)).any() or wanted.max() > config.vocab_size:
        raise InputError(
            f"labels must be codes 0 to {config.vocab_size - 1}; -100 or {config.vocab_size} where none counts"
        )
    return Tensor(wanted.transpose(0, 2, 1).astype(np.int32))


def past(value, config, rows):
    """`past_key_values` of an earlier call, checked against the model and the batch; None for an empty one."""
    if value is None or len(value) == 0:
        return None
    heads = config.num_attention_heads
    size = config.hidden_size // heads
    if len(value) != config.num_hidden_layers or not all(
        isinstance(layer, (tuple, list))
        and len(layer) in (2, 4)
        and all(isinstance(part, Tensor) and part.ndim == 4 for part in layer)
        and all(part.shape[:2] == (rows, heads) and part.shape[3] == size for part in layer)
        for layer in value
    ):
        raise InputError(
            f"past_key_values does not fit this call; expected what a call with {rows} prompts returned: for each of "
            f"{config.num_hidden_layers} layers 2 or 4 tensors of shape ({rows}, {heads}, length, {size})"
        )
    return tuple(tuple(layer) for layer in value)
