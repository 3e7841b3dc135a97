"""The compiled pieces of MusicLDM and CLAP as MindIR files, for `conformance.py`: as on an NPU, with random weights."""

import os

import mindspore as ms
import numpy as np
from mindir_operations import operations
from mindspore import Tensor

from mindmusicgen.clap.audio import AudioEncoder
from mindmusicgen.clap.config import AudioConfig, TextConfig
from mindmusicgen.clap.text import TextEncoder
from mindmusicgen.musicldm.config import UNetConfig, VaeConfig, VocoderConfig
from mindmusicgen.musicldm.model import Step
from mindmusicgen.musicldm.schedulers import READ, STATE
from mindmusicgen.musicldm.unet import UNet
from mindmusicgen.musicldm.vae import VaeDecoder
from mindmusicgen.musicldm.vocoder import Vocoder

LINES, COLUMNS, CHANNELS, SIZE, FRAMES = 13, 16, 4, 16, 250  # lines that are no multiple of the UNet's strides
UNET = UNetConfig(32, CHANNELS, CHANNELS, (8, 16), (1, 1), (0, 2), (2, 0), 2, 4, class_size=SIZE)
VAE = VaeConfig(CHANNELS, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4)
VOCODER = VocoderConfig(64, upsample_initial_channel=16, upsample_rates=(5, 4), upsample_kernel_sizes=(16, 8))
TEXT = TextConfig(64, 16, 1, 2, 32, 40, projection_dim=SIZE)
AUDIO = AudioConfig(4, 16, 64, 4, 8, (2, 2), (2, 4), hidden_size=16, projection_dim=SIZE)


def pieces(dtype):
    """(name, cell, inputs) of each compiled piece."""

    def floats(*shape):
        return Tensor(np.zeros(shape, np.float32))

    ids = Tensor(np.ones((1, 16), np.int32))
    state, fresh = floats(len(STATE), 1, LINES, COLUMNS, CHANNELS), floats(1, LINES, COLUMNS, CHANNELS)
    told = (floats(1), floats(1), floats(len(STATE), len(READ)), floats(1))
    yield "CLAP text", TextEncoder(TEXT), (ids, ids)
    yield "CLAP audio", AudioEncoder(AUDIO, FRAMES), (floats(1, FRAMES, AUDIO.num_mel_bins),)
    unet = UNet(UNET, dtype)
    yield "diffusion step", Step(unet, True), (state, fresh, floats(2, SIZE), *told)
    yield "diffusion step without guidance", Step(unet, False), (state, fresh, floats(1, SIZE), *told)
    yield "VAE", VaeDecoder(VAE), (floats(1, LINES, COLUMNS, CHANNELS),)
    yield "vocoder", Vocoder(VOCODER), (floats(1, 20, 64),)


def walk(folder, dtype):
    """The operations of every piece: dict of its name to a Counter of `Operation`."""
    found = {}
    for name, cell, inputs in pieces(getattr(ms, dtype)):
        path = os.path.join(folder, f"musicldm-{dtype}-{name.replace(' ', '-')}")
        ms.export(cell.set_train(False), *inputs, file_name=path, file_format="MINDIR")
        found[name] = operations(f"{path}.mindir")
    return found
