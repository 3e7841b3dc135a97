"""Bark's compiled pieces as MindIR files, for `conformance.py`: made as on an NPU, with random weights."""

import os

import mindspore as ms
import numpy as np
from mindir_operations import operations
from mindspore import Tensor, nn

from mindmusicgen import BarkCoarseConfig, BarkConfig, BarkFineConfig, BarkModel, BarkSemanticConfig, EncodecConfig
from mindmusicgen.bark.codec import Window
from mindmusicgen.bark.decode_loop import CHUNK, SemanticGraphs, StageGraphs
from mindmusicgen.bark.stages import FineGraphs

ROWS, IDS, CODES = 2, 128, 64
SIZES = {"num_layers": 2, "hidden_size": 64, "num_heads": 2, "block_size": 128, "bias": False}
CODEC = {"num_filters": 4, "hidden_size": 16, "codebook_dim": 16, "codebook_size": CODES, "upsampling_ratios": [4, 2]}


class Piece(nn.Cell):
    """A method of a cell as a cell that can be exported."""

    def __init__(self, cell, method):
        super().__init__()
        self.cell = cell
        self.method = getattr(cell, method)

    def construct(self, *inputs):
        return self.method(*inputs)


class Filtered(Piece):
    """One whose last argument is a tuple of three."""

    def construct(self, *inputs):
        return self.method(*inputs[:-3], inputs[-3:])


def tiny_bark(dtype):
    """A Bark of few weights; operations do not depend on sizes."""
    fine = BarkFineConfig(**SIZES, input_vocab_size=CODES + 8, output_vocab_size=CODES + 8)
    stages = [
        kind(**SIZES, input_vocab_size=IDS, output_vocab_size=IDS) for kind in (BarkSemanticConfig, BarkCoarseConfig)
    ]
    config = BarkConfig.from_sub_model_configs(*stages, fine, EncodecConfig(**CODEC))
    return BarkModel(config, dtype=dtype)


def pieces(model):
    """(name, cell, inputs) of each compiled piece."""

    def ints(*shape):
        return Tensor(np.zeros(shape, np.int32))

    def floats(*shape):
        return Tensor(np.zeros(shape, np.float32))

    filters = (floats(1) + 1, ints(1) + 1, floats(1) + 2)
    for name, kind, network, end, length in (
        ("semantic", SemanticGraphs, model.semantic, 90, 33),
        ("coarse", StageGraphs, model.coarse_acoustics, None, 40),
    ):
        graphs = kind(network, ROWS, 91, end)
        known = (ints(ROWS, length), ints(1) + 9, ints(), floats(ROWS), floats(1), *filters)
        yield f"{name} prefill", Filtered(graphs, "_prefill"), known
        step = (ints(ROWS), ints(1) + 9, ints() + 1, ints(CHUNK), floats(CHUNK, ROWS), floats(1), *filters)
        yield f"{name} chunk", Filtered(graphs, "_chunk"), step
    window = (ints(1, 64, 8), ints() + 2, floats(1), floats(64))
    yield "fine pass", Piece(FineGraphs(model.fine_acoustics, CODES), "_predict"), window
    codec = model.codec_model
    (left, _), size = codec.decoder.layers[0].padding, codec.decoder.layers[1].lstm.hidden_size
    before = (floats(2, 1, size), floats(2, 1, size), floats(1, codec.reach, size), ints())
    yield "codec of Bark", Piece(Window(codec), "decode"), (ints(1, 8, left + 40), *before)


def walk(folder, dtype):
    """The operations of every piece: dict of its name to a Counter of `Operation`."""
    found = {}
    for name, cell, inputs in pieces(tiny_bark(getattr(ms, dtype))):
        path = os.path.join(folder, f"bark-{dtype}-{name.replace(' ', '-')}")
        ms.export(cell.set_train(False), *inputs, file_name=path, file_format="MINDIR")
        found[name] = operations(f"{path}.mindir")
    return found
