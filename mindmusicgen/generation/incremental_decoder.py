"""Codes to audio piece by piece, equal to decoding everything at once.

EnCodec's decoder is a convolution, an LSTM, and convolutions that look a few frames to either side. The LSTM's state is
carried from piece to piece, and the convolutions run over windows that overlap by as much as they look aside, so the
pieces join without a seam, and memory does not grow with the clip.
"""

import numpy as np
from mindspore import Tensor

STEP = 5  # frames the LSTM advances by in one call of a stream: what is ready is at most so much behind the codes
LONG_STEP = 25  # the same where all codes are there: fewer calls
PIECE_SECONDS = 5.0  # of more than 30 s that are decoded at a time
SMALL_PIECE_SECONDS = 1.0  # the same of a quantised model, which is there to be small: at any length


class IncrementalDecoder:
    """Takes codes as they come and gives audio as it becomes final.

    Args:
        codec (Encodec): one that reflects at its ends and has no norm over time; see `supports`.
        whole, recurrent, convolutions (callable): its `decode`, `decode_recurrent` and `decode_convolutions`, compiled
            or not.
        piece (int): frames of audio handed out at a time.
        step (int): frames the LSTM advances by in one call.
    """

    def __init__(self, codec, whole, recurrent, convolutions, piece, step=STEP):
        self.codec, self.piece, self.step = codec, piece, step
        self.whole, self.recurrent, self.convolutions = whole, recurrent, convolutions
        self.reach = codec.reach
        self.left, self.right = codec.decoder.layers[0].padding
        self.codes, self.hidden = None, None  # not yet used [B, K, n]; the last hidden frames [B, n, D]
        self.state, self.received, self.advanced, self.given = None, 0, 0, 0

    @staticmethod
    def supports(config):
        """Whether a codec's pieces can be joined exactly."""
        return config.pad_mode == "reflect" and config.norm_type == "weight_norm" and config.num_lstm_layers > 0

    def push(self, codes, last=False):
        """Take codes and decode what has become possible.

        Args:
            codes (numpy.ndarray): [B, K, n] int32.
            last (bool): nothing follows.

        Returns:
            list[numpy.ndarray]: pieces of audio, [B, C, piece * hop] each; the very last may be of another length.
        """
        self._receive(codes, last)
        if self.state is None:  # too short for a reflection, so there is no state to carry on
            return [self.whole(Tensor(self.codes)).asnumpy()] if last and self.received else []
        pieces = []
        while self._advance(last):
            while self.advanced >= (start := max(self.given - self.reach, 0)) + self.piece + 2 * self.reach:
                pieces.append(self._audio(start, self.given, self.given + self.piece))
        if last and self.given < self.received:
            start = max(self.received - self.piece - 2 * self.reach, 0)
            pieces.append(self._audio(start, self.given, self.received))
        return pieces

    def _receive(self, codes, last):
        """Add codes, and at the clip's ends the reflection that the first convolution pads with."""
        self.received += codes.shape[2]
        joined = codes if self.codes is None else np.concatenate([self.codes, codes], axis=2)
        if self.state is None and joined.shape[2] > max(self.left, self.right):
            joined = np.concatenate([reflection(joined, self.left)[:, :, ::-1], joined], axis=2)
            layers, size = self.codec.config.num_lstm_layers, self.codec.decoder.layers[1].lstm.hidden_size
            zeros = Tensor(np.zeros((layers, codes.shape[0], size), np.float32))
            self.state = (zeros, zeros)
        if last and self.state is not None:
            joined = np.concatenate([joined, reflection(joined[:, :, ::-1], self.right)], axis=2)
        self.codes = joined

    def _advance(self, last):
        """Run the LSTM over the next `step` frames, at the end over what is left; whether there was anything."""
        around = self.left + self.right
        if self.advanced >= self.received:
            return False
        if self.codes.shape[2] < self.step + around:
            if not last:
                return False
            missing = self.step + around - self.codes.shape[2]
            self.codes = np.pad(self.codes, ((0, 0), (0, 0), (0, missing)))  # comes after the end: changes nothing
        hidden, *self.state = self.recurrent(Tensor(self.codes[:, :, : self.step + around]), *self.state)
        self.codes = self.codes[:, :, self.step :]
        real = min(self.step, self.received - self.advanced)
        hidden = hidden.asnumpy()[:, :real]
        self.hidden = hidden if self.hidden is None else np.concatenate([self.hidden, hidden], axis=1)
        self.hidden = self.hidden[:, -(2 * self.piece + 3 * self.reach + self.step) :]
        self.advanced += real
        return True

    def _audio(self, start, first, end):
        """Audio of the frames from `first` to `end`, decoded in a window that begins at the frame `start`."""
        origin = self.advanced - self.hidden.shape[1]
        window = self.hidden[:, start - origin : start - origin + self.piece + 2 * self.reach]
        audio = self.convolutions(Tensor(np.ascontiguousarray(window))).asnumpy()
        hop = audio.shape[2] // window.shape[1]
        self.given = end
        return audio[:, :, (first - start) * hop : (end - start) * hop]


def reflection(codes, count):
    """The `count` frames after the first: what a reflection repeats, in the order of the clip."""
    return codes[:, :, 1 : 1 + count]
