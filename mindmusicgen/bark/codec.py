"""Bark's codec alone, where codes are all that is wanted: EnCodec, of whose codebooks Bark uses the first eight."""

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn, ops

from ..checkpoint import huggingface, names
from ..generation.codec_graphs import CodecGraphs
from ..generation.incremental_decoder import IncrementalDecoder
from ..models.encodec import Encodec
from ..ops.indices import indices
from ..runtime.compiled import compiled
from ..sound.samples import as_batch
from .checkpoint.folder import open_folder
from .codec_windows import SHORTEST, in_windows, looks_back
from .config import CODEC


class Window(nn.Cell):
    """One window of `CodecWindows`."""

    def __init__(self, codec):
        super().__init__()
        self.codec = codec

    def decode(self, codes, h, c, before, skip, used=None):
        """A window after others.

        Args:
            codes (Tensor): [1, K, left + WINDOW] int32, left: those before it, or the clip's reflection.
            h, c (Tensor): state of the LSTM before it, [layers, 1, D'].
            before (Tensor): the hidden frames before it, [1, reach, D'].
            skip (Tensor): [] int32, how many of them there are not: none or all.
            used (Tensor): 0 for codes that there are not, [1, K, left + WINDOW] float32; None: all are there.

        Returns:
            audio [1, 1, (reach + WINDOW) * hop], of the frames before it and it, or of it and others; the state after
            it; its last hidden frames.
        """
        x, h, c = self.codec.decode_recurrent(codes, h, c, used)
        x = ops.concat((before, x), 1)
        frames, reach = x.shape[1], before.shape[1]
        there = ops.minimum(indices(0, frames).astype(ms.int32) + skip, frames - 1)
        return self.codec.decode_convolutions(ops.gather(x, there, 1)), h, c, x[:, frames - reach :]


class CodecWindows:
    """The decoder of a codec in windows of one graph, where it can be cut into them.

    Args:
        codec (Encodec): the network.
        key (str): fingerprint of its config, for the cache of compiled graphs; None: not cached.
    """

    def __init__(self, codec, key=None):
        self.codec, self.run = codec, compiled(Window(codec).decode, key)

    def serves(self, frames):
        """Whether so many frames can be cut: not a codec that looks ahead, nor a clip that no padding can reflect."""
        known = looks_back(self.codec.config) and IncrementalDecoder.supports(self.codec.config)
        return known and frames > max(self.codec.decoder.layers[0].padding[0], SHORTEST - 1)

    def decode(self, codes):
        """Codes [K, frames] int32 to audio [samples] float32."""
        codec, frames = self.codec, codes.shape[1]
        if not self.serves(frames):
            return codec.to_audio(Tensor(codes[None])).asnumpy()[0, 0]
        (left, _), size = codec.decoder.layers[0].padding, codec.decoder.layers[1].lstm.hidden_size
        return in_windows(self.run, codes, left, codec.reach, codec.config.num_lstm_layers, size)


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
