"""Jukebox's compiled pieces as MindIR files, for `conformance.py`: made as on an NPU, with random weights.

The networks are like the doctor's, of few weights; the prior has every kind of attention, the lyrics' network, and the
conditions of a finer level, which no published one has together.
"""

import os

import mindspore as ms
import numpy as np
from bark_pieces import Filtered, Piece
from mindir_operations import operations
from mindspore import Tensor

from mindmusicgen.jukebox.decode_loop import CHUNK, PriorGraphs
from mindmusicgen.jukebox.doctor.kinds import KINDS
from mindmusicgen.jukebox.doctor.tiny import UPPER, VQVAE, Separate
from mindmusicgen.jukebox.prior import JukeboxPrior
from mindmusicgen.jukebox.vqvae import JukeboxVQVAE

ROWS = 2


class Every(Separate):
    """A prior with a layer of each kind."""

    kinds = KINDS


EVERY = Every(**{name: getattr(UPPER, name) for name in Every.fields} | {"num_layers": len(KINDS)})


def pieces(dtype):
    """(name, cell, inputs) of each compiled piece, and of what runs operation by operation."""

    def ints(*shape):
        return Tensor(np.zeros(shape, np.int32))

    def floats(*shape):
        return Tensor(np.zeros(shape, np.float32))

    prior = JukeboxPrior(EVERY, 1, 2, dtype=dtype)
    graphs, whole = PriorGraphs(prior, ROWS), (ROWS, EVERY.n_ctx)
    yield "song conditions", Piece(prior, "condition"), (ints(ROWS, EVERY.n_ctx // 2), *(ints(ROWS, 1),) * 3)
    told = (ints(ROWS), ints(ROWS, 1), ints(ROWS, prior.lyrics), floats(*whole, prior.width).astype(dtype))
    yield "song labels", Piece(graphs, "_prepare"), told
    yield "song prefill", Piece(graphs, "_prefill"), (ints(ROWS, 2 * graphs.row), ints(1) + 9)
    filters = (floats(1) + 1, ints(1) + 1, floats(1) + 2)
    step = (ints(ROWS), ints(1) + 9, ints() + 1, floats(CHUNK, ROWS), *filters)
    yield "song chunk", Filtered(graphs, "_chunk"), step
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
