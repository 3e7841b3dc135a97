"""Which tensors of a Hugging Face checkpoint make up which parameter of MusicGen: reading and writing follow it."""

import re

from ...checkpoint import huggingface
from ...checkpoint.huggingface import Piece
from ...checkpoint.names import BUFFERS, shared_pieces
from ...errors import InputError

POSITIONS = re.compile(r"(.*\.)?decoder\.embed_positions\.weights$")  # which the decoder computes itself


def pieces(network):
    """The pieces of every parameter of a `MusicgenForConditionalGeneration`, or of a cell that holds a part of one.

    Returns:
        dict[str, list[Piece]] by parameter name.
    """
    cells = dict(network.cells_and_names())
    return {name: _pieces(name, parameter.shape, cells) for name, parameter in network.parameters_and_names()}


def _pieces(name, shape, cells):
    stored = re.sub(r"^decoder\.(?!lm_heads)", "decoder.model.decoder.", name).replace("conditioner.", "", 1)
    owner, leaf = stored.rsplit(".", 1)
    if owner.rsplit(".", 1)[-1] in ("embed_tokens", "lm_heads"):  # the codebooks' tables and heads, one below the other
        rows = shape[0] // cells["decoder"].num_codebooks
        return [Piece((f"{owner}.{i}.{leaf}",), slice(i * rows, (i + 1) * rows)) for i in range(shape[0] // rows)]
    return shared_pieces(name, stored, shape, cells)


def load(network, tensors, source, plan=None, width=None):
    """Fill a network's parameters from a Hugging Face checkpoint.

    Args:
        network (nn.Cell): a composite, or a cell that holds a part of one under the composite's name.
        tensors (dict[str, LazyTensor]): the checkpoint's tensors.
        source (str): what to call the checkpoint in errors.
        plan (dict[str, list[Piece]]): where parameters come from; None for `pieces(network)`.
        width (int): hidden size of the decoder; None takes it from a composite's config.

    Raises:
        InputError: for a missing, left-over or misshapen tensor, by name.
    """
    width = network.config.decoder.hidden_size if width is None else width
    huggingface.load(network, tensors, source, plan or pieces(network), without_meaning(source, width))


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
