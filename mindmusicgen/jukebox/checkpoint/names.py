"""Which tensors of a checkpoint make up which parameter, for Jukebox's networks.

Names are those of Hugging Face's tensors but for `RENAMES`; linear layers are stored (in, out) and kept (out, in).
"""

import re

import numpy as np

from ...checkpoint.huggingface import Piece
from ...models.convolutions import Conv1d, ConvTranspose1d

RENAMES = ((r"\.layers\.(\d+)\.", r".transformer._attn_mods.\1."), (r"\.pos_emb$", ".pos_emb.pos_emb"))
TRANSPOSED = re.compile(r"\.(c_attn|c_enc_kv|c_proj|c_fc|proj_in)\.weight$")


def transposed(values):
    """(in, out) to (out, in), and back."""
    return np.swapaxes(values, 0, 1)


def plan(network, prefix):
    """Of which tensors each parameter is made.

    Args:
        network (nn.Cell): a prior or the VQ-VAE.
        prefix (str): what its tensors' names begin with, such as "priors.0.".

    Returns:
        dict[str, list[Piece]] by parameter name.
    """
    cells, made = dict(network.cells_and_names()), {}
    for name, _ in network.parameters_and_names():
        stored = name
        for pattern, replacement in RENAMES:
            stored = re.sub(pattern, replacement, stored)
        convolution = cells.get(name.rpartition(".conv.")[0]) if ".conv." in name else None
        if isinstance(convolution, (Conv1d, ConvTranspose1d)):
            stored = stored.replace(".conv.", ".")
            if name.endswith("weight"):
                made[name] = [Piece((prefix + stored,), pack=convolution.pack, unpack=convolution.unpack)]
                continue
        if TRANSPOSED.search(stored):
            made[name] = [Piece((prefix + stored,), pack=transposed, unpack=transposed)]
            continue
        made[name] = [Piece((prefix + stored,))]
    return made
