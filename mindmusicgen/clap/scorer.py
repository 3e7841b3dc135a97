"""How well recordings fit texts, by CLAP: the cosine of their vectors. It judges whoever made them."""

import math
import os

import numpy as np
from mindspore import Tensor

from ..checkpoint.config_file import check_weights, config_errors
from ..checkpoint.source import DIFFUSERS_LAYOUT, as_folder, open_weights, resolve
from ..errors import InputError, clip
from ..runtime import device as devices
from ..runtime.callers import Single, serialised
from ..runtime.compiled import compiled, fingerprint
from ..sound.samples import fit_clip
from . import folder as folders
from .audio import AudioEncoder
from .config import read_config
from .features import log_mel, pieces, read_features
from .prompts import PromptTokenizer
from .text import TextEncoder

EXTRACTOR = "preprocessor_config.json"


class Scorer(Single):
    """Compares recordings with texts.

    Args:
        text_encoder (TextEncoder): texts to vectors.
        audio_encoder (AudioEncoder): spectrograms to vectors.
        tokenizer (PromptTokenizer): texts to tokens.
        features (FeatureConfig): recordings to spectrograms.

    Supported Platforms:
        ``Ascend`` ``CPU``
    """

    def __init__(self, text_encoder, audio_encoder, tokenizer, features):
        self.text_encoder, self.audio_encoder = text_encoder, audio_encoder
        self.tokenizer, self.features = tokenizer, features
        self._text = compiled(text_encoder.construct, fingerprint(text_encoder.config))
        self._audio = compiled(audio_encoder.construct, fingerprint(audio_encoder.config, features))

    @classmethod
    def from_pretrained(cls, model, revision=None, cache_dir=None, local_files_only=False, device=None):
        """Open a CLAP with both sides: a folder or hub id of a ClapModel, or of a MusicLDM, which has one inside.

        Args:
            model (str): folder or hub id.
            revision (str): branch, tag or commit on the hub.
            cache_dir (str): where downloads are kept.
            local_files_only (bool): do not ask the hub.
            device (str): as in the models' `from_pretrained`.

        Raises:
            InputError: if there is no such model, it has no audio side, or its files are damaged.
        """
        devices.use(device)
        folder = as_folder(resolve(model, revision, cache_dir, local_files_only))
        whole = folder.layout == DIFFUSERS_LAYOUT
        inside, beside = (
            os.path.join(folder, "text_encoder") if whole else str(folder),
            {"tokenizer": "tokenizer", "extractor": "feature_extractor"} if whole else {},
        )
        return open_scorer(
            inside, os.path.join(folder, beside.get("tokenizer", "")), os.path.join(folder, beside.get("extractor", ""))
        )

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


def open_scorer(folder, tokenizer, extractor, text_encoder=None):
    """A scorer from the folders of its parts.

    Args:
        folder (str): of the ClapModel: config.json and weights.
        tokenizer (str): of the tokenizer's files.
        extractor (str): of preprocessor_config.json.
        text_encoder (TextEncoder): which is opened already.

    Raises:
        InputError: if a file is missing or damaged, or there is no audio side.
    """
    folder, path = as_folder(folder), os.path.join(folder, "config.json")
    config = read_config(folder.json("config.json"), path)
    if config.audio is None:
        raise InputError(f"{clip(folder)} is the text side alone of a CLAP, which compares nothing; give one with both")
    extractor = as_folder(extractor)
    if not extractor.has(EXTRACTOR):
        raise InputError(f"{clip(extractor)} has no {EXTRACTOR}, which says how recordings are read; download it again")
    features = read_features(extractor.json(EXTRACTOR), extractor.file(EXTRACTOR))
    if features.bins != config.audio.num_mel_bins:
        raise InputError(
            f"{extractor.file(EXTRACTOR)} makes {features.bins} bins; the model reads {config.audio.num_mel_bins}"
        )
    width = config.audio.spec_size**2 // config.audio.num_mel_bins
    if not 2 <= features.frames <= width:
        raise InputError(f"{extractor.file(EXTRACTOR)} makes {features.frames} frames; the model reads 2 to {width}")
    words = PromptTokenizer(tokenizer, config.text.longest, config.text.pad_token_id)
    tensors = open_weights(folder)
    sides = [(lambda: AudioEncoder(config.audio, features.frames), folders.AUDIO_NAMES, folders.AUDIO)]
    if text_encoder is None:
        sides.append((lambda: TextEncoder(config.text), folders.TEXT_NAMES, folders.TEXT))
    made = [_filled(path, make, names, own, tensors) for make, names, own in sides]
    return Scorer(text_encoder or made[1], made[0], words, features)


def _filled(path, make, names, own, tensors):
    with config_errors(path):
        network = make()
        wanted = {name: tensor for name, tensor in tensors.items() if name.startswith(own)}
        check_weights(path, sum(math.prod(one.shape) for one in network.get_parameters()), wanted)
    folders.fill(network, tensors, os.path.dirname(path), names, own)
    network.set_train(False)
    return network


def ranked(scores):
    """The order of scores, the best first; of equal ones the earlier first: [n] int."""
    return np.argsort(-np.asarray(scores), kind="stable")
