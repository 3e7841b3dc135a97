"""Which tensors of a Hugging Face checkpoint make up which parameter of MusicGen: reading and writing follow it."""

import re

from ...checkpoint import huggingface
from ...checkpoint.names import BUFFERS, plan
from ...errors import InputError

RENAMES = ((r"^decoder\.(?!lm_heads)", "decoder.model.decoder."), (r"conditioner\.", ""))
STACKED = ("embed_tokens", "lm_heads")  # the codebooks' tables and heads
POSITIONS = re.compile(r"(.*\.)?decoder\.embed_positions\.weights$")  # which the decoder computes itself


def pieces(network, shapes=None):
    """The pieces of every parameter of a `MusicgenForConditionalGeneration`, or of a cell that holds a part of one.

    Args:
        network (nn.Cell): the network.
        shapes (dict[str, tuple]): as in `plan`.

    Returns:
        dict[str, list[Piece]] by parameter name.
    """
    decoder = getattr(network, "decoder", None)
    stacked = {} if decoder is None else dict.fromkeys(STACKED, decoder.num_codebooks)
    return plan(network, RENAMES, stacked, shapes)


def load(network, tensors, source, width=None, stores=None):
    """Fill a network's parameters from a Hugging Face checkpoint.

    Args:
        network (nn.Cell): a composite, or a cell that holds a part of one under the composite's name.
        tensors (dict[str, LazyTensor]): the checkpoint's tensors.
        source (str): what to call the checkpoint in errors.
        width (int): hidden size of the decoder; None takes it from a composite's config.
        stores (dict): as in `huggingface.load`.

    Raises:
        InputError: for a missing, left-over or misshapen tensor, by name.
    """
    width = network.config.decoder.hidden_size if width is None else width
    shapes = {name: store[0] for name, store in (stores or {}).items() if store}
    huggingface.load(network, tensors, source, pieces(network, shapes), without_meaning(source, width), stores)


def without_meaning(source, width):
    """A function that says whether a tensor (name, LazyTensor) that no parameter is made of may be in a checkpoint.

    Args:
        source (str): what to call the checkpoint in errors.
        width (int): hidden size of the decoder, which a stored table of positions must have.
    """

    def known(name, tensor):
        if not POSITIONS.match(name):
            return bool(BUFFERS.match(name))
        shape = tuple(tensor.shape)
        if len(shape) != 2 or shape[1] != width:
            raise InputError(f"{source} does not fit its config: {name} has shape {shape}, expected (*, {width})")
        return True

    return known


def stored_tensors(network):
    """The tensors that transformers expects for a network; see `huggingface.stored_tensors`."""
    return huggingface.stored_tensors(network, pieces(network))
