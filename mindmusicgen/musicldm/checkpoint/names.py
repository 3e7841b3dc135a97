"""Which tensors of diffusers' checkpoints make up which parameter of the UNet, the autoencoder and the vocoder."""

import re
from dataclasses import replace

import mindspore as ms

from ...checkpoint.huggingface import Piece
from ...ops.bfloat16 import from_bits, to_bits
from ..layers import Conv1x1, Conv3x3
from ..vocoder import Conv, ConvTranspose

UNET = (
    (r"^linear_", "time_embedding.linear_"),
    (r"\.block\.", ".transformer_blocks.0."),
    (r"\.ff\.proj\.", ".ff.net.0.proj."),
    (r"\.ff\.out\.", ".ff.net.2."),
    (r"\.(down|up)sampler\.", r".\1samplers.0."),
)
VAE = ((r"\.attention\.", "."), (r"\.upsampler\.", ".upsamplers.0."))
VOCODER = ((r"\.conv\.", "."),)
QKV = (("to_q", "query"), ("to_k", "key"), ("to_v", "value"))  # the second as early versions named them
OUT = ("to_out.0", "proj_attn")
VAE_UNUSED = re.compile(r"encoder\.|quant_conv\.")  # spectrograms to latents
VOCODER_UNUSED = re.compile(r"(mean|scale)$")  # where the config does not ask for them


def plan(network, renames):
    """The pieces of every parameter.

    Args:
        network (nn.Cell): the network.
        renames (Sequence[tuple[str, str]]): `UNET`, `VAE` or `VOCODER`.

    Returns:
        dict[str, list[Piece]] by parameter name.
    """
    cells, made = dict(network.cells_and_names()), {}
    for name, parameter in network.parameters_and_names():
        stored = name
        for pattern, replacement in renames:
            stored = re.sub(pattern, replacement, stored)
        pieces = _pieces(name, stored, parameter.shape, cells)
        made[name] = [_of_bits(piece) for piece in pieces] if parameter.dtype == ms.uint16 else pieces
    return made


def _of_bits(piece):
    """A piece of a parameter that holds the bits of bfloat16."""
    return replace(piece, pack=lambda w: to_bits(piece.pack(w)), unpack=lambda bits: piece.unpack(from_bits(bits)))


def _pieces(name, stored, shape, cells):
    owner, leaf = name.rpartition(".")[::2]
    cell = cells.get(owner)
    if ".to_qkv." in stored:
        rows = shape[0] // 3
        return [
            Piece(tuple(stored.replace("to_qkv", part) for part in parts), slice(i * rows, (i + 1) * rows))
            for i, parts in enumerate(QKV)
        ]
    if ".to_out." in stored:
        return [Piece(tuple(stored.replace("to_out", part) for part in OUT))]
    if leaf == "weight" and isinstance(cell, Conv3x3):
        return [Piece((stored,), pack=cell.pack, unpack=cell.unpack)]
    if leaf == "weight" and isinstance(cell, Conv1x1):
        return [Piece((stored,), pack=lambda w: w[:, :, 0, 0], unpack=lambda w: w[:, :, None, None])]
    convolution = cells.get(owner.removesuffix(".conv"))
    if leaf == "weight" and isinstance(convolution, (Conv, ConvTranspose)):
        return [Piece((stored,), pack=convolution.pack, unpack=convolution.unpack, weight_norm=True)]
    return [Piece((stored,))]
