"""How well recordings fit texts, by CLAP: the cosine of their vectors. It judges whoever made them."""

import math
import os

from ..checkpoint.config_file import check_weights, config_errors
from ..checkpoint.source import DIFFUSERS_LAYOUT, as_folder, open_weights, resolve
from ..errors import InputError, clip
from ..runtime import device as devices
from ..runtime.callers import Single
from ..runtime.compiled import compiled, fingerprint
from . import folder as folders
from .audio import AudioEncoder
from .config import read_config
from .features import read_features
from .judge import Judge
from .prompts import PromptTokenizer
from .text import TextEncoder

EXTRACTOR = "preprocessor_config.json"


class Scorer(Judge, Single):
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
