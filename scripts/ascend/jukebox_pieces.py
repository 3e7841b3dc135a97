"""Jukebox's compiled pieces as MindIR files, for `conformance.py`: made as on an NPU, with random weights.

The networks are the doctor's: few weights, and between them every kind of attention.
"""

import os

import mindspore as ms
import numpy as np
from bark_pieces import Filtered, Piece
from mindir_operations import operations
from mindspore import Tensor

from mindmusicgen.jukebox.decode_loop import CHUNK, PriorGraphs
from mindmusicgen.jukebox.doctor.tiny import TOP, UPPER, VQVAE
from mindmusicgen.jukebox.prior import JukeboxPrior
from mindmusicgen.jukebox.vqvae import JukeboxVQVAE

ROWS = 2


def pieces(dtype):
    """(name, cell, inputs) of each compiled piece, and of the VQ-VAE's networks, which run operation by operation."""

    def ints(*shape):
        return Tensor(np.zeros(shape, np.int32))

    def floats(*shape):
        return Tensor(np.zeros(shape, np.float32))

    filters = (floats(1) + 1, ints(1) + 1, floats(1) + 2)
    for level, (name, config) in enumerate((("top", TOP), ("upper", UPPER))):
        prior = JukeboxPrior(config, level, 2, dtype=dtype)
        graphs, window = PriorGraphs(prior, ROWS), (ROWS, config.n_ctx)
        told = (ints(ROWS), ints(ROWS, 1), ints(ROWS, prior.lyrics), ints(ROWS, config.n_ctx // 2))
        timing = (ints(ROWS, 1), ints(*window), ints(*window)) if level == 0 else (ints(ROWS, 1),) * 3
        yield f"{name} prior labels", Piece(graphs, "_prepare"), (*told, *timing)
        yield f"{name} prior prefill", Piece(graphs, "_prefill"), (ints(ROWS, 2 * graphs.row), ints(1) + 9)
        step = (ints(ROWS), ints(1) + 9, ints() + 1, floats(CHUNK, ROWS), *filters)
        yield f"{name} prior chunk", Filtered(graphs, "_chunk"), step
    vqvae = JukeboxVQVAE(VQVAE)
    yield "VQ-VAE encoder", vqvae.encoders[1], (floats(1, 64, 1),)
    yield "VQ-VAE decoder", vqvae.decoders[1], (floats(1, 8, VQVAE.embed_dim),)


def walk(folder, dtype):
    """The operations of every piece: dict of its name to a Counter of `Operation`."""
    found = {}
    for name, cell, inputs in pieces(getattr(ms, dtype)):
        path = os.path.join(folder, f"jukebox-{dtype}-{name.replace(' ', '-')}")
        ms.export(cell.set_train(False), *inputs, file_name=path, file_format="MINDIR")
        found[name] = operations(f"{path}.mindir")
    return found
