"""The codec's compiled graphs: few, of fixed shapes, for clips of any length.

A graph for each length would take seconds to compile and tens of megabytes for good. So clips are coded in windows that
overlap by as much as the convolutions look aside, the LSTM's state is carried from piece to piece, and a window that a
clip does not fill is told where the clip ends: the convolutions reflect there. What comes out is what one graph for the
whole clip would give, to float32 rounding.
"""

import sys

import numpy as np
from mindspore import Tensor

from ..runtime.compiled import compiled, fingerprint
from .incremental_decoder import LONG_STEP, IncrementalDecoder

PIECES = (0.2, 1.0, 5.0)  # seconds of the windows' middles; the shortest is for streams of short chunks
ENCODER_STEP = 50  # frames that the encoder's LSTM advances by in one call
PARTS = (
    "decode_recurrent",
    "decode_convolutions_until",
    "encode_convolutions_until",
    "encode_recurrent",
    "encode_last",
)
WHOLE = ("to_codes", "to_audio")  # of a codec whose pieces cannot be joined
SHORTEST = 8  # frames; shorter clips do not reach beyond the padding of every convolution, and are coded uncompiled


class CodecGraphs:
    """`encode` and `decode` of a codec, and the parts of `decode` that a stream runs.

    Args:
        codec (Encodec): the network.
        key (str): fingerprint of its config, for the cache of compiled graphs; None: not cached.
    """

    def __init__(self, codec, key=None):
        self.key = key
        self.codec, self.pieces = codec, IncrementalDecoder.supports(codec.config)
        names = PARTS if self.pieces else WHOLE
        if "mindnlp" in sys.modules:  # tensors have torch's methods then, which uncompiled networks cannot use
            names = PARTS + WHOLE
        self.graphs = {name: compiled(getattr(codec, name), key) for name in names}
        self.eager = frozenset()  # of "encode", "decode" and "pieces": what runs operation by operation
        self.sizes = [max(round(seconds * codec.config.frame_rate), codec.reach) for seconds in PIECES]

    def round_lstm(self, rough):
        """Let the decoder's LSTM read its recurrent weights in 16 bits, which a model of 8 bits can bear, or not."""
        lstm = self.codec.decoder.layers[1].lstm
        if rough == lstm.rough:
            return
        lstm.rough = rough
        for graph in self.graphs.values():
            graph.release()
            graph.key = graph.key and fingerprint(self.key, "rough" if rough else "")

    def decode(self, codes):
        """Codes [B, K, T] int32 to audio [B, 1, T * hop]; if eager clip by clip, as a batch takes gigabytes."""
        if "decode" in self.eager:
            clips = [self.codec.to_audio(Tensor(row[None])).asnumpy() for row in codes.asnumpy()]
            return Tensor.from_numpy(np.concatenate(clips))
        frames = codes.shape[2]
        if not self.pieces or frames < SHORTEST:
            return self._whole("to_audio")(codes)
        # Each piece is computed with what is around it; of the sizes, the one with the least to compute.
        piece = min(self.sizes[1:], key=lambda size: -(-frames // size) * (size + 2 * self.codec.reach))
        decoder = IncrementalDecoder(self.codec, self.decode, self.recurrent, self.convolutions, piece, LONG_STEP)
        values, made = codes.asnumpy(), []
        for start in range(0, frames, piece):
            made += decoder.push(values[:, :, start : start + piece], last=start + piece >= frames)
        return Tensor.from_numpy(np.concatenate(made, axis=2))

    def _whole(self, name):
        """A method of the codec for a clip that is not cut: its graph if there is one."""
        return self.graphs.get(name, getattr(self.codec, name))

    def recurrent(self, codes, h, c):
        """`Encodec.decode_recurrent`."""
        if "pieces" in self.eager:
            return self.codec.decode_recurrent(codes, h, c)
        return self.graphs["decode_recurrent"](codes, h, c)

    def convolutions(self, x):
        """`Encodec.decode_convolutions` of [B, n, D'], for any n, clip by clip."""
        if "pieces" in self.eager:
            return self.codec.decode_convolutions(x)
        frames, reach = x.shape[1], self.codec.reach
        room = next((size + 2 * reach for size in self.sizes if frames <= size + 2 * reach), frames)
        made = self._windows(
            "decode_convolutions_until", np.pad(x.asnumpy(), ((0, 0), (0, room - frames), (0, 0))), frames
        )
        return Tensor.from_numpy(np.ascontiguousarray(made[:, :, : made.shape[2] // room * frames]))

    def _windows(self, name, values, end):
        """A graph's output for each clip of a window alone, of whose time `end` entries are real."""
        end = Tensor(np.array([end], np.int32))
        return np.concatenate([self.graphs[name](Tensor(row[None]), end).asnumpy() for row in values])

    def encode(self, audio, num_quantizers):
        """Audio [B, 1, N] to codes [B, K, T] int32, and the loudness [B, 1] that was divided out."""
        config = self.codec.config
        if "encode" in self.eager:
            return self.codec.to_codes(audio, num_quantizers)
        if not self.pieces or config.normalize:
            return self._whole("to_codes")(audio, num_quantizers)
        values, hop = audio.asnumpy(), config.hop_length
        frames = -(-values.shape[2] // hop)
        if frames < SHORTEST:
            return self._whole("to_codes")(audio, num_quantizers)
        hidden = self._encoder_windows(values, frames, hop)
        hidden = self._encoder_recurrent(hidden, frames)
        return Tensor(self._encoder_codes(hidden, num_quantizers)), Tensor(np.ones((len(values), 1), np.float32))

    def _encoder_windows(self, values, frames, hop):
        """The convolutions up to the LSTM: hidden frames [B, T, D']."""
        reach = self.codec.encoder_reach
        piece = min(self.sizes[1:], key=lambda size: -(-frames // size) * (size + 2 * reach))
        room, made, done = piece + 2 * reach, [], 0
        while done < frames:
            start = max(done - reach, 0)
            window = values[:, :, start * hop : (start + room) * hop]
            filled = np.pad(window, ((0, 0), (0, 0), (0, room * hop - window.shape[2])))
            x = self._windows("encode_convolutions_until", filled, window.shape[2])
            end = frames if start + room >= frames else start + room - reach
            made.append(x[:, done - start : end - start])
            done = end
        return np.concatenate(made, axis=1)

    def _encoder_recurrent(self, hidden, frames):
        """The LSTM and what follows it, [B, T, D']."""
        lstm = self.codec.encoder.layers[-3].lstm
        state = [Tensor(np.zeros((lstm.num_layers, len(hidden), lstm.hidden_size), np.float32))] * 2
        made = []
        for start in range(0, frames, ENCODER_STEP):
            part = _filled(hidden[:, start : start + ENCODER_STEP], ENCODER_STEP)
            y, *state = self.graphs["encode_recurrent"](Tensor(part), *state)
            made.append(y.asnumpy())
        return np.concatenate(made, axis=1)[:, :frames]

    def _encoder_codes(self, hidden, num_quantizers):
        """The last convolution and the quantiser: codes [B, K, T]."""
        left, right = self.codec.encoder.layers[-1].padding
        padded = np.pad(hidden, ((0, 0), (left, right), (0, 0)), mode="reflect")
        made = []
        for start in range(0, hidden.shape[1], ENCODER_STEP):
            part = _filled(padded[:, start : start + ENCODER_STEP + left + right], ENCODER_STEP + left + right)
            made.append(self.graphs["encode_last"](Tensor(part), num_quantizers).asnumpy())
        return np.concatenate(made, axis=2)[:, :, : hidden.shape[1]]


def _filled(values, length):
    """[B, n, D] with zeros behind up to [B, length, D]."""
    return np.ascontiguousarray(np.pad(values, ((0, 0), (0, length - values.shape[1]), (0, 0))))
