"""Which tensors of a Hugging Face checkpoint make up which parameter, for networks that several families use.

The cells use a fused layout: q, k and v are one matrix, weight norm is folded, and convolutions are matrices. A family
puts its own rules before these.
"""

import re

import numpy as np

from ..models.convolutions import Conv1d, ConvTranspose1d
from .huggingface import Piece

# Training statistics of the codec's codebooks: present in checkpoints, without a meaning for inference.
BUFFERS = re.compile(r"(.*\.)?quantizer\.layers\.\d+\.codebook\.(inited|cluster_size|embed_avg)$")
FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "kv_proj": ("k_proj", "v_proj"), "qkv": ("q", "k", "v")}


def plan(network, renames=(), stacked=None, shapes=None):
    """The pieces of every parameter of a network that holds T5, EnCodec, or whatever has its attention fused.

    Args:
        network (nn.Cell): the network.
        renames (Sequence[tuple[str, str]]): regular expressions and what takes their place, in the name of a parameter
            as a checkpoint would have it if nothing were fused.
        stacked (dict[str, int]): last names of cells whose parameters are so many tensors, one below the other.
        shapes (dict[str, tuple]): shapes of matrices that the network keeps in another form, by name.

    Returns:
        dict[str, list[Piece]] by parameter name.
    """
    cells, made = dict(network.cells_and_names()), {}
    found = {name: parameter.shape for name, parameter in network.parameters_and_names()}
    for name, shape in (found | (shapes or {})).items():
        stored = name
        for pattern, replacement in renames:
            stored = re.sub(pattern, replacement, stored)
        made[name] = _pieces(name, stored, shape, cells, stacked or {})
    return made


def _pieces(name, stored, shape, cells, stacked):
    owner, leaf = stored.rsplit(".", 1)
    last = owner.rsplit(".", 1)[-1]
    if last in FUSED:
        rows = shape[0] // len(FUSED[last])
        parts = enumerate(FUSED[last])
        return [Piece((f"{owner[: -len(last)]}{part}.{leaf}",), slice(i * rows, (i + 1) * rows)) for i, part in parts]
    if last in stacked:
        rows = shape[0] // stacked[last]
        return [Piece((f"{owner}.{i}.{leaf}",), slice(i * rows, (i + 1) * rows)) for i in range(stacked[last])]
    if stored.endswith("quantizer.embed"):
        embed = f"{owner}.layers.{{}}.codebook.embed"
        return [Piece((embed.format(i),), i, beside=codebook_statistics) for i in range(shape[0])]
    if stored.endswith("text_encoder.shared.weight"):
        return [Piece((stored, stored.replace("shared", "encoder.embed_tokens")))]
    convolution = cells.get(name[: -len(".conv.weight")]) if name.endswith(".conv.weight") else None
    if isinstance(convolution, (Conv1d, ConvTranspose1d)):
        normed = convolution.norm is None
        return [Piece((stored,), pack=convolution.pack, unpack=convolution.unpack, weight_norm=normed)]
    return [Piece((stored,))]


def codebook_statistics(values):
    """What transformers stores beside a codebook [codes, D]: dict of the tensor's last name to its values."""
    ones = np.ones(values.shape[0], np.float32)
    return {"embed_avg": values, "inited": np.ones(1, np.float32), "cluster_size": ones}
