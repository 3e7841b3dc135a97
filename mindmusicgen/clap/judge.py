"""Texts and recordings compared by their vectors, however these are computed: what a judge does."""

import math

import numpy as np
from mindspore import Tensor

from ..runtime.callers import serialised
from ..sound.samples import fit_clip
from .features import log_mel, pieces


class Judge:
    """A mixin of what has `tokenizer`, `features`, `_text` (ids, mask -> vector) and `_audio` (spectrogram -> vector).

    `scorer.Scorer` has networks for the last two, others have graphs out of files.
    """

    @serialised
    def text_vectors(self, texts):
        """[texts, size] float32, each of length 1, of a list of texts."""
        return np.stack([self._text(*map(Tensor, self.tokenizer(text))).asnumpy()[0] for text in texts])

    @serialised
    def audio_vectors(self, clips, sampling_rate):
        """The vectors of recordings.

        Of a recording longer than the encoder hears, ten seconds mostly, the vectors of its beginning and its end count
        alike, so that the same recording always has the same vector.

        Args:
            clips (Sequence[numpy.ndarray]): [samples] or [channels, samples] each.
            sampling_rate (int): samples per second.

        Returns:
            numpy.ndarray: [clips, size] float32, each of length 1.

        Raises:
            InputError: if one of them is no recording.
        """
        made = []
        for number, one in enumerate(clips):
            values = np.atleast_2d(np.asarray(one, np.float32))
            samples = fit_clip(f"recording {number}", values, sampling_rate, self.features.sampling_rate, 1)[0]
            both = [self.vector(log_mel(piece, self.features)) for piece in pieces(samples, self.features)]
            mean = np.mean(both, 0)
            made.append(mean / math.sqrt((mean * mean).sum()))
        return np.stack(made).astype(np.float32)

    def vector(self, features):
        """[frames, bins] -> [size]"""
        return self._audio(Tensor(np.ascontiguousarray(features[None], np.float32))).asnumpy()[0]

    def scores(self, text, clips, sampling_rate):
        """How well each recording fits a text.

        Args:
            text (str): what should be heard.
            clips, sampling_rate: as in `audio_vectors`.

        Returns:
            numpy.ndarray: [clips] float32, -1 to 1, the larger the better.
        """
        return self.audio_vectors(clips, sampling_rate) @ self.text_vectors([text])[0]


def ranked(scores):
    """The order of scores, the best first; of equal ones the earlier first: [n] int."""
    return np.argsort(-np.asarray(scores), kind="stable")
