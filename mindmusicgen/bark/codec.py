"""Bark's codec alone, where codes are all that is wanted: EnCodec, of whose codebooks Bark uses the first eight."""

import numpy as np
from mindspore import Tensor

from ..checkpoint import huggingface, names
from ..generation.codec_graphs import CodecGraphs
from ..models.encodec import Encodec
from ..sound.samples import as_batch
from .checkpoint.folder import open_folder
from .config import CODEC


class BarkCodec:
    """Audio to codes and back.

    Args:
        config (BarkConfig): of the whole model.
        network (Encodec): the codec's network.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    channels = 1

    def __init__(self, config, network):
        self.config, self.network, self.graphs = config, network, CodecGraphs(network)
        self.graphs.eager = frozenset({"encode", "decode"})

    @property
    def sampling_rate(self):
        """Samples per second of the audio."""
        return self.config.codec_config.sampling_rate

    @property
    def frame_rate(self):
        """Frames of codes per second of audio."""
        return self.config.codec_config.frame_rate

    def encode(self, audio):
        """Audio [B, 1, samples] to codes [B, K, frames]."""
        books = self.config.fine_acoustics_config.n_codes_total
        return self.graphs.encode(Tensor(as_batch("audio", audio, 1)), books)[0]

    def decode(self, codes):
        """Codes [B, K, frames] to audio [B, 1, samples]."""
        return self.graphs.decode(Tensor(np.asarray(codes, np.int32)))


def open_codec(folder, cache_dir=None, local_files_only=False):
    """The codec of a model folder alone, to be used once: operation by operation.

    Args:
        folder (ModelFolder | str): of a whole model.
        cache_dir, local_files_only: as in `from_pretrained`.

    Returns:
        BarkCodec

    Raises:
        InputError: if it cannot be opened.
    """
    config, _, tensors = open_folder(folder, cache_dir, local_files_only)
    network = Encodec(config.codec_config)
    wanted = {name: tensor for name, tensor in tensors.items() if name.startswith(f"{CODEC}.")}
    plan = names.plan(network, ((r"^", f"{CODEC}."),))
    huggingface.load(network, wanted, folder, plan, lambda name, tensor: bool(names.BUFFERS.match(name)))
    return BarkCodec(config, network)
