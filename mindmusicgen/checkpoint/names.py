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


def shared_pieces(name, stored, shape, cells):
    """The pieces of one parameter of T5, EnCodec, or any network whose attention is fused.

    Args:
        name (str): the parameter's.
        stored (str): what a checkpoint would call it if nothing were fused.
        shape (tuple): the parameter's.
        cells (dict[str, nn.Cell]): of the network, by name.

    Returns:
        list[Piece]
    """
    owner, leaf = stored.rsplit(".", 1)
    last = owner.rsplit(".", 1)[-1]
    if last in FUSED:
        rows = shape[0] // len(FUSED[last])
        parts = enumerate(FUSED[last])
        return [Piece((f"{owner[: -len(last)]}{part}.{leaf}",), slice(i * rows, (i + 1) * rows)) for i, part in parts]
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
