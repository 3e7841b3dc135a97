"""The networks of a folder in diffusers' layout, each from its subfolder."""

import math
import os

import mindspore as ms

from ...checkpoint import huggingface
from ...checkpoint.config_file import check_weights, config_errors
from ...checkpoint.json_file import read_json
from ...checkpoint.source import open_weights
from ...clap import folder as clap_folder
from ...clap.config import read_config
from ...clap.text import TextEncoder
from ...ops.bfloat16 import weights_only
from .. import config as configs
from ..unet import UNet
from ..vae import VaeDecoder
from ..vocoder import Vocoder
from . import names


def config_path(folder, part):
    """The config of a part."""
    return os.path.join(folder, part, "config.json")


def read_part(folder, part):
    """The config of a part: "text_encoder", "unet", "vae" or "vocoder".

    Raises:
        InputError: if the file is missing or damaged, or asks for what is not built here.
    """
    read = {"text_encoder": read_config, "unet": configs.read_unet, "vae": configs.read_vae}
    path = config_path(folder, part)
    return read.get(part, configs.read_vocoder)(read_json(path), path)


def make_unet(folder, dtype):
    """The UNet of a folder.

    Args:
        folder (str): of the whole model.
        dtype (mindspore.dtype): of weights and pictures.

    Raises:
        InputError: if the config asks for what is not built, or the weights do not fit it.
    """
    config = read_part(folder, "unet")
    return _filled(folder, "unet", lambda: UNet(config, dtype), names.UNET, None)


def _float32_or_bfloat16(dtype):
    """bfloat16 on a CPU, and else float32, which autoencoder and vocoder have everywhere."""
    return dtype if weights_only(dtype) else ms.float32


def make_vae(folder, dtype=ms.float32):
    """The autoencoder's decoder of a folder; as `make_unet`."""
    config, dtype = read_part(folder, "vae"), _float32_or_bfloat16(dtype)
    return _filled(folder, "vae", lambda: VaeDecoder(config, dtype), names.VAE, names.VAE_UNUSED)


def make_vocoder(folder, dtype=ms.float32):
    """The vocoder of a folder; as `make_unet`."""
    config, dtype = read_part(folder, "vocoder"), _float32_or_bfloat16(dtype)
    return _filled(folder, "vocoder", lambda: Vocoder(config, dtype), names.VOCODER, names.VOCODER_UNUSED)


def make_text_encoder(folder):
    """The text encoder of a folder; as `make_unet`.

    Returns:
        ClapConfig of both sides, TextEncoder
    """
    path, config = config_path(folder, "text_encoder"), read_part(folder, "text_encoder")
    tensors = open_weights(os.path.join(folder, "text_encoder"))
    own = {name: tensor for name, tensor in tensors.items() if name.startswith(clap_folder.TEXT)}
    made = _made(path, lambda: TextEncoder(config.text), own)
    clap_folder.fill(made, tensors, os.path.join(folder, "text_encoder"), clap_folder.TEXT_NAMES, clap_folder.TEXT)
    return config, made


def _made(path, make, tensors):
    """A network whose parameters, which take no memory before they are filled, are about as many as its weights."""
    with config_errors(path):
        network = make()
        check_weights(path, sum(math.prod(one.shape) for one in network.get_parameters()), tensors)
    return network


def _filled(folder, part, make, renames, unused):
    source = os.path.join(folder, part)
    tensors = open_weights(source)
    network = _made(config_path(folder, part), make, tensors)
    plan = names.plan(network, renames)
    huggingface.load(network, tensors, source, plan, lambda name, tensor: bool(unused and unused.match(name)))
    return network
