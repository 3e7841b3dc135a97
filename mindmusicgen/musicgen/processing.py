"""From prompts, text and audio, to model inputs: the T5 tokenizer of the transformers library, resampling, padding."""

import json
import os
import shutil
import warnings

import numpy as np

from ..audio import read_audio
from ..checkpoint.source import AUDIOCRAFT_LAYOUT, resolve
from ..checkpoint.writing import whole_folder
from ..errors import InputError, shown
from ..habits import nearest, opening, saving
from ..sound.samples import LONGEST, as_clip, fit_clip, is_path, recordings
from ..words import check_words

MAX_TOKENS = 512  # what T5 was trained on
LAYOUT = "preprocessor_config.json"


class MusicgenProcessor:
    """Turns prompts into `input_ids` and `attention_mask`, and audio prompts into `input_values` and `padding_mask`.

    Args:
        feature_extractor (EncodecFeatureExtractor): knows the model's sampling rate and channels; None: 32 kHz, mono.
        tokenizer (transformers.PreTrainedTokenizerBase): a T5 tokenizer.
    """

    def __init__(self, feature_extractor=None, tokenizer=None):
        if feature_extractor is None:
            feature_extractor = self._extractor()(sampling_rate=32000)
        if not hasattr(feature_extractor, "sampling_rate"):
            kind, wanted = type(feature_extractor).__name__, self._extractor().__name__
            raise InputError(f"feature_extractor is {shown(kind)}; expected {wanted}, and the tokenizer behind it")
        self.feature_extractor, self.tokenizer = feature_extractor, tokenizer

    @staticmethod
    def _extractor():
        """The class of the feature extractor."""
        from .feature_extractors import EncodecFeatureExtractor

        return EncodecFeatureExtractor

    @property
    def sampling_rate(self):
        """Samples per second of the model's audio."""
        return self.feature_extractor.sampling_rate

    @property
    def channels(self):
        """1, or 2 for stereo models."""
        return getattr(self.feature_extractor, "audio_channels", self.feature_extractor.feature_size)

    @property
    def model_input_names(self):
        """What a call may return."""
        return ["input_ids", "attention_mask", "input_values", "padding_mask"]

    @classmethod
    def from_pretrained(cls, model=None, revision=None, cache_dir=None, local_files_only=False, **habits):
        """Open the processor of a model folder or hub id, or of "demo".

        Args:
            model (str): folder, hub id, or "demo".
            revision, cache_dir, local_files_only: as in the model's `from_pretrained`.
            **habits: fields of the feature extractor to change, and what else transformers takes here: see
                docs/migration.md.

        Raises:
            InputError: if the folder has no usable tokenizer.
        """
        model, _, _, changes = opening(model, None, None, habits)
        folder = resolve(model, revision, cache_dir, local_files_only, weights=False)
        extractor = cls._extractor().of_folder(folder)
        for name, value in changes.items():
            if not hasattr(extractor, name):
                raise InputError(f"from_pretrained does not take {shown(name)}{nearest(name, vars(extractor))}")
            setattr(extractor, name, value)
        from ..tokenizer import open_tokenizer

        if folder.layout == AUDIOCRAFT_LAYOUT:
            from .checkpoint.audiocraft import tokenizer_folder

            folder = tokenizer_folder(folder, cache_dir, local_files_only)

        return cls(extractor, open_tokenizer(folder))

    def save_pretrained(self, save_directory, **habits):
        """Write the tokenizer's files and the audio layout into a folder, as transformers' processor does.

        Args:
            save_directory (str): where to write.
            **habits: what else transformers takes here: see docs/migration.md.
        """
        saving(habits)
        with whole_folder(save_directory) as partial:
            self.tokenizer.save_pretrained(partial)
            vocabulary = getattr(self.tokenizer, "vocab_file", None)  # for other readers, if it was there
            if vocabulary and os.path.isfile(vocabulary):
                shutil.copy(vocabulary, os.path.join(partial, "spiece.model"))
            with open(os.path.join(partial, LAYOUT), "w", encoding="utf-8") as file:
                json.dump(self._stored_layout(), file, indent=2)

    def _stored_layout(self):
        return audio_settings(self.sampling_rate, self.channels)

    def __call__(
        self,
        *text_or_audio,
        text=None,
        audio=None,
        sampling_rate=None,
        negative_text=None,
        padding=True,
        return_tensors="ms",
        **others,
    ):
        """Model inputs for prompts: text, audio to continue, or both.

        Args:
            text_or_audio: `text` or `audio` without its name; samples and a second argument are audio, words text.
            text (str | Sequence[str]): one prompt or several.
            audio (str | numpy.ndarray | Sequence): a file, or samples as floats in -1 to 1, [N], [channels, N] or
                [N, channels], or (rate, samples); or a list of these, one for each prompt, or [B, channels, N]. Of 1 or
                2 channels and at most 10 minutes; mixed to the model's channels and resampled.
            sampling_rate (int): samples per second of arrays; files know their own.
            negative_text (str | Sequence[str]): what the music should not be, for all prompts or one each.
            padding (bool): pad to the longest prompt: text on the right, audio on the left.
            return_tensors (str): "ms" for mindspore.Tensor, "np" for NumPy arrays.
            **others: truncation=True, as is done in any case.

        Returns:
            transformers.BatchEncoding with input_ids and attention_mask, both [B, S], of text; negative_input_ids and
            negative_attention_mask of negative text; input_values [B, channels, N] and padding_mask [B, N] of audio.

        Raises:
            InputError: naming the prompt, what is wrong and what would be right.
        """
        text, audio = placed(text_or_audio, text, audio)
        if others.pop("truncation", True) is False:
            raise InputError(f"truncation=False is not taken here; a prompt is cut to {MAX_TOKENS} tokens")
        refuse_others(others)
        check_tensors(return_tensors)
        if text is None and audio is None:
            raise InputError("the processor needs text, audio or both; get_unconditional_inputs makes music of nothing")
        if negative_text is not None and text is None:
            raise InputError("a negative prompt needs a prompt beside it; give text")
        from transformers import BatchEncoding

        made = {}
        if text is not None:
            made |= self._tokens(text, padding)
        if negative_text is not None:
            made |= {f"negative_{name}": values for name, values in self._tokens(negative_text, padding).items()}
        if audio is not None:
            made |= self._audio(audio, sampling_rate, padding, _count(text))
        return BatchEncoding({name: as_tensor(values, return_tensors) for name, values in made.items()})

    def _tokens(self, text, padding):
        """input_ids and attention_mask, [B, S] int32 each."""
        prompts = list(text) if isinstance(text, (list, tuple)) else [text]
        if not prompts:
            raise InputError("text is an empty list; give a prompt such as '80s pop track with bassy drums and synth'")
        for prompt in prompts:
            check_words("a prompt", prompt)
            self._warn_if_long(prompt)
        encoded = self.tokenizer(prompts, padding=padding, truncation=True, max_length=MAX_TOKENS)
        lengths = {len(ids) for ids in encoded["input_ids"]}
        if len(lengths) > 1:
            raise InputError("the prompts differ in length; call the processor with padding=True")
        return {name: np.asarray(encoded[name], np.int32) for name in ("input_ids", "attention_mask")}

    def _audio(self, audio, sampling_rate, padding, prompts):
        """input_values [B, channels, N] float32 and padding_mask [B, N] int32, padded on the left."""
        given = recordings(audio, sampling_rate, prompts)
        clips = [self._clip(one, rate, self.channels) for one, rate in given]
        longest = max(clip.shape[1] for clip in clips)
        if not padding and any(clip.shape[1] != longest for clip in clips):
            raise InputError("the audio prompts differ in length; call the processor with padding=True")
        values = np.zeros((len(clips), self.channels, longest), np.float32)
        mask = np.zeros((len(clips), longest), np.int32)
        for row, one in enumerate(clips):
            values[row, :, longest - one.shape[1] :] = one
            mask[row, longest - one.shape[1] :] = 1
        return {"input_values": values, "padding_mask": mask}

    def _clip(self, audio, rate, channels, longest=LONGEST):
        """One recording, a file or an array, as [channels, N]."""
        if is_path(audio):
            return read_audio(os.fspath(audio), self.sampling_rate, channels, longest)
        return fit_clip("audio", as_clip("audio", audio), rate, self.sampling_rate, channels, longest)

    def _warn_if_long(self, prompt):
        """Say what is lost of a prompt that exceeds what T5 was trained on."""
        ids = self.tokenizer(prompt, verbose=False)["input_ids"]
        if len(ids) > MAX_TOKENS:
            lost = self.tokenizer.decode(ids[MAX_TOKENS - 1 : -1])
            warnings.warn(
                f"the prompt has {len(ids)} tokens and the text encoder takes {MAX_TOKENS}: its end is cut off, "
                f"from {lost if len(lost) <= 60 else lost[:57] + '...'!r} on",
                stacklevel=3,
            )

    def decode(self, token_ids, **options):
        """The text of token ids; options are those of the tokenizer's `decode`."""
        return self.tokenizer.decode(_as_list(token_ids), **options)

    def batch_decode(self, audio=None, padding_mask=None, attention_mask=None, sequences=None, **options):
        """Audio of `generate` as a list, without the padding of audio prompts; or the text of token ids.

        Args:
            audio (Tensor): [B, channels, samples]; or token ids, [B, S].
            padding_mask (Tensor): as the processor returned it, [B, N]; None if nothing was padded.
            attention_mask (Tensor): the same under the name that transformers' melody processor has for it.
            sequences (Tensor): token ids, [B, S].
            **options: those of the tokenizer's `batch_decode`, such as skip_special_tokens.

        Returns:
            list[numpy.ndarray]: one [channels, samples] for each piece; or list[str].

        Raises:
            InputError: if the mask does not fit the audio.
        """
        padding_mask = attention_mask if padding_mask is None else padding_mask
        ids = audio if sequences is None else sequences
        if ids is None:
            raise InputError("batch_decode needs audio of generate, or token ids")
        if sequences is not None or np.ndim(_as_list(ids)[0]) < 2:
            return self.tokenizer.batch_decode(_as_list(ids), **options)
        values = audio.asnumpy() if hasattr(audio, "asnumpy") else np.asarray(audio)
        if padding_mask is None:
            return list(values)
        mask = padding_mask.asnumpy() if hasattr(padding_mask, "asnumpy") else np.asarray(padding_mask)
        if mask.ndim != 2 or len(values) % len(mask) or mask.shape[1] > values.shape[2]:
            wanted = f"({len(values)}, at most {values.shape[2]})"
            raise InputError(f"padding_mask has shape {mask.shape}; for this audio expected {wanted}")
        mask = np.repeat(mask != 0, len(values) // len(mask), axis=0)
        return [
            np.concatenate([clip[:, : mask.shape[1]][:, row], clip[:, mask.shape[1] :]], axis=1)
            for clip, row in zip(values, mask, strict=True)
        ]


def audio_settings(sampling_rate, channels):
    """What transformers' processor of text models keeps in preprocessor_config.json."""
    return {
        "feature_extractor_type": "EncodecFeatureExtractor",
        "feature_size": channels,
        "padding_side": "left",
        "padding_value": 0.0,
        "processor_class": "MusicgenProcessor",
        "return_attention_mask": True,
        "sampling_rate": sampling_rate,
    }


def config_layout(folder):
    """Sampling rate and channels that a folder's config.json tells; 32 kHz mono if there is none."""
    found = folder.json("config.json") if folder.has("config.json") else {}
    parts = (found.get(name) for name in ("audio_encoder", "decoder"))
    codec, decoder = (part if isinstance(part, dict) else {} for part in parts)
    return checked_layout(folder, codec.get("sampling_rate", 32000), decoder.get("audio_channels", 1))


def checked_layout(folder, rate, channels):
    """Refuse a sampling rate or a number of channels that no model has."""
    if type(rate) is not int or not 1000 <= rate <= 1_000_000 or channels not in (1, 2):
        asked = f"{shown(channels)} channels at {shown(rate)} Hz"
        raise InputError(f"{folder} asks for {asked}; expected 1 or 2, such as at 32000 Hz")
    return rate, channels


def is_melody(folder):
    """Whether a folder holds a melody model, or the processor of one."""
    extractor = folder.json(LAYOUT).get("feature_extractor_type") if folder.has(LAYOUT) else None
    if extractor is not None:
        return extractor == "MusicgenMelodyFeatureExtractor"
    return folder.has("config.json") and folder.json("config.json").get("model_type") == "musicgen_melody"


def _count(text):
    """How many prompts a processor was given."""
    return len(text) if isinstance(text, (list, tuple)) else 1


def as_tensor(array, kind):
    if kind == "np":
        return array
    from mindspore import Tensor

    return Tensor(array)


def check_tensors(kind, *others):
    """Refuse a return_tensors that there is not.

    Raises:
        InputError: saying which there are.
    """
    if str(kind) not in ("ms", "np", *map(str, others)):
        raise InputError(f'return_tensors is {shown(kind)}; expected "ms", as when it is left out, or "np"')


def placed(given, text, audio):
    """Text and audio of a call, of which one or two may have been given without their names.

    Raises:
        InputError: if something is given twice, or there are more.
    """
    if len(given) > 2:
        raise InputError(f"the processor was given {len(given)} arguments without names; write text= and audio=")
    for place, value in enumerate(given):
        words = place == 0 and (isinstance(value, str) or isinstance(value, (list, tuple)) and _all_words(value))
        if (text if words else audio) is not None:
            raise InputError(f"the processor was given {'text' if words else 'audio'} twice; give it once")
        text, audio = (value, audio) if words else (text, value)
    return text, audio


def _all_words(values):
    return all(isinstance(value, str) for value in values)


def refuse_others(others):
    """Refuse arguments of a processor's call that there are not.

    Raises:
        InputError: naming one, and what it may have meant.
    """
    known = ("text", "audio", "sampling_rate", "negative_text", "padding", "return_tensors", "truncation")
    for name in others:
        raise InputError(f"the processor does not take {shown(name)}{nearest(name, known)}")


def _as_list(values):
    """Nested lists of a Tensor, an array or such lists."""
    values = values.asnumpy() if hasattr(values, "asnumpy") else values
    return values.tolist() if isinstance(values, np.ndarray) else list(values)
