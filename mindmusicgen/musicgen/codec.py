"""MusicGen's codec: EnCodec is mono, and stereo models have the codebooks of left and right in turn.

It opens without the rest of the model, where codes are all that is wanted.
"""

import numpy as np
from mindspore import Tensor

from ..arguments import checked_codes
from ..errors import InputError, shown
from ..generation.codec_graphs import CodecGraphs
from ..generation.incremental_decoder import LONG_STEP, PIECE_SECONDS, SMALL_PIECE_SECONDS, STEP, IncrementalDecoder
from ..ops.memory import release_free_memory
from ..sound.samples import as_batch
from . import settings

SHORTEST_CHUNK = 0.2  # seconds


class MusicgenCodec:
    """Audio to codes and back.

    Args:
        config (transformers.MusicgenConfig): of the whole model.
        network (Encodec): the codec's network.
        key (str): fingerprint of its config, for the cache of compiled graphs; None: not cached.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, config, network, key=None):
        self.config, self.network, self.graphs = config, network, CodecGraphs(network, key)

    @property
    def sampling_rate(self):
        """Samples per second of the audio."""
        return self.config.audio_encoder.sampling_rate

    @property
    def frame_rate(self):
        """Frames of codes per second of audio."""
        return self.config.audio_encoder.frame_rate

    @property
    def channels(self):
        """1, or 2 for stereo models."""
        return self.config.decoder.audio_channels

    def encode(self, audio):
        """Audio [B, channels, samples] to codes [B, K, frames]; see `MusicgenForConditionalGeneration.encode`."""
        values = as_batch("audio", audio, self.channels)
        sides = np.concatenate([values[:, side : side + 1] for side in range(self.channels)], axis=0)
        quantizers = self.config.decoder.num_codebooks // self.channels
        codes, _ = self.graphs.encode(Tensor(sides), quantizers)
        sides = np.split(codes.asnumpy(), self.channels, axis=0)  # [B, K / channels, frames] each
        return Tensor(np.stack(sides, axis=2).reshape(values.shape[0], quantizers * self.channels, -1))

    def decode(self, codes, small=False):
        """Codes [B, K, frames] to audio [B, channels, samples]; see `MusicgenForConditionalGeneration.decode`.

        Args:
            codes (numpy.ndarray | Tensor): [B, K, frames].
            small (bool): take little memory, in short pieces whatever the length.
        """
        codes = checked_codes(self.config.decoder, "codes", codes)
        release_free_memory()
        small = small and IncrementalDecoder.supports(self.config.audio_encoder)
        piece, whole = (SMALL_PIECE_SECONDS,) * 2 if small else (PIECE_SECONDS, settings.TRAINED_SECONDS)
        if codes.shape[2] <= whole * self.frame_rate:
            return Tensor(self._joined(self.graphs.decode(Tensor(self._sides(codes))).asnumpy()))
        decoder, length = self.in_pieces(piece, LONG_STEP), codes.shape[2]
        hop = self.config.audio_encoder.hop_length
        audio, done = np.empty((len(codes), self.channels, length * hop), np.float32), 0
        for start in range(0, length, decoder.piece):
            end = start + decoder.piece
            for piece in self.push(decoder, codes[:, :, start:end], last=end >= length):
                audio[:, :, done : done + piece.shape[2]] = piece.asnumpy()
                done += piece.shape[2]
        return Tensor.from_numpy(audio)

    def in_pieces(self, seconds, step=STEP):
        """A decoder that hands out pieces of some seconds, its LSTM `step` frames at a time.

        Raises:
            InputError: for another length than 0.2 to 30 s, or a codec that cannot.
        """
        number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not number or not SHORTEST_CHUNK <= seconds <= settings.TRAINED_SECONDS:
            raise InputError(
                f"chunk_seconds is {shown(seconds)}; expected {SHORTEST_CHUNK} to {settings.TRAINED_SECONDS} seconds"
            )
        if not IncrementalDecoder.supports(self.network.config):
            raise InputError("this model's codec cannot decode in pieces; use generate, for at most 30 s")
        piece, graphs = max(round(seconds * self.frame_rate), self.network.reach), self.graphs
        return IncrementalDecoder(self.network, graphs.decode, graphs.recurrent, graphs.convolutions, piece, step)

    def push(self, decoder, codes, last=False):
        """Audio that codes [B, K, n] make ready, as tensors [B, channels, samples]."""
        return [Tensor(self._joined(audio)) for audio in decoder.push(self._sides(codes), last)]

    def _sides(self, codes):
        """[B, K, T] -> [channels * B, K / channels, T]: the network is mono."""
        return np.concatenate([codes[:, side :: self.channels] for side in range(self.channels)]).astype(np.int32)

    def _joined(self, audio):
        """The inverse for audio: [channels * B, 1, N] -> [B, channels, N]."""
        return np.concatenate(np.split(audio, self.channels, axis=0), axis=1)


def open_codec(folder, cache_dir=None, local_files_only=False):
    """The codec of a model folder alone, to be used once: operation by operation.

    Args:
        folder (ModelFolder | str): of a whole model, in any layout.
        cache_dir, local_files_only: as in `from_pretrained`.

    Returns:
        MusicgenCodec

    Raises:
        InputError: if it cannot be opened.
    """
    from ..submodels.codec import EncodecModel
    from .checkpoint.folder import load_config

    where = {"cache_dir": cache_dir, "local_files_only": local_files_only}
    codec = MusicgenCodec(load_config(folder, **where), EncodecModel.from_pretrained(folder, **where).whole)
    codec.graphs.eager = frozenset({"encode", "decode"})
    return codec
