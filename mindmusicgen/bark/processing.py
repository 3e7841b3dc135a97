"""From text, and the name of a voice, to model inputs: the BERT tokenizer of the transformers library, and presets."""

import json
import os
import warnings
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from ..checkpoint.json_file import read_json
from ..checkpoint.source import resolve
from ..checkpoint.writing import whole_folder
from ..errors import InputError, clip, shown, whole_number
from ..habits import nearest, opening, saving
from ..runtime.files import whole_file
from ..runtime.quiet import unadvised
from ..tokenizer import usable
from ..words import check_words
from . import presets

with unadvised():
    from transformers import BatchEncoding, PreTrainedTokenizerFast

MAX_LENGTH = 256  # tokens of a text that the semantic stage reads
VOICES, VOICES_FOLDER = "speaker_embeddings_path.json", "speaker_embeddings"
MAX_BYTES = 64_000_000  # of a tokenizer; the published one has 3 MB
SPECIAL = {
    name: f"[{name[:-6].upper()}]" for name in ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
}


class BertTokenizerFast(PreTrainedTokenizerFast):
    """transformers' tokenizer around a tokenizer.json, saved under the name of BERT's."""

    model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    folder = ""  # where it was opened

    def __call__(self, *arguments, **options):
        with usable(self.folder):  # a damaged vocabulary may show at some text only
            return super().__call__(*arguments, **options)


def open_tokenizer(folder):
    """The BERT tokenizer of a folder: by tokenizer.json alone where there is one, else by vocab.txt.

    Args:
        folder (str): with one of the two.

    Returns:
        transformers.BertTokenizerFast

    Raises:
        InputError: if there is neither, or what is there is damaged.
    """
    paths = [os.path.join(folder, name) for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json")]
    whole, words, settings = paths
    if not os.path.isfile(whole) and not os.path.isfile(words):
        names = "tokenizer.json", "vocab.txt"
        raise InputError(f"{folder} has no tokenizer: expected {names[0]} or {names[1]} beside config.json")
    found = read_json(settings) if os.path.isfile(settings) else {}
    lower = bool(found.get("do_lower_case", False))
    path = whole if os.path.isfile(whole) else words
    with usable(folder):
        if os.path.getsize(path) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        backend = Tokenizer.from_file(whole) if path == whole else _of_words(words, lower)
        ids = backend.get_vocab(with_added_tokens=True).values()
        if set(ids) != set(range(len(ids))):  # the library would print every number that is missing
            raise ValueError(f"the numbers of its {len(ids)} words have holes")
        backend.no_padding()
        backend.no_truncation()
        for name, token in SPECIAL.items():
            if backend.token_to_id(token) is None:
                raise ValueError(f"it has no {name} {token}")
        made = BertTokenizerFast(tokenizer_object=backend, padding_side="right", do_lower_case=lower, **SPECIAL)
        made.folder = folder
        return made


def _of_words(path, lower):
    """BERT's way to split text, with the words of a file."""
    made = Tokenizer(models.WordPiece.from_file(path, unk_token=SPECIAL["unk_token"]))
    made.normalizer = normalizers.BertNormalizer(lowercase=lower)
    made.pre_tokenizer, made.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
    ends = [(SPECIAL[name], made.token_to_id(SPECIAL[name])) for name in ("sep_token", "cls_token")]
    if all(number is not None for _, number in ends):
        made.post_processor = processors.BertProcessing(*ends)
        made.add_special_tokens(list(SPECIAL.values()))
    return made


class BarkProcessor:
    """Turns texts into `input_ids` and `attention_mask`, and a voice's name into `history_prompt`.

    Args:
        tokenizer (transformers.PreTrainedTokenizerBase): a BERT tokenizer.
        speaker_embeddings (dict): for each voice a dict of the paths of its three arrays; and `repo_or_path`, the
            folder or hub id where they lie. None: no voices by name.
    """

    def __init__(self, tokenizer, speaker_embeddings=None):
        self.tokenizer, self.speaker_embeddings = tokenizer, speaker_embeddings
        self._hub = None  # where the voices' files are that are not here

    @classmethod
    def from_pretrained(
        cls,
        model=None,
        speaker_embeddings_dict_path=VOICES,
        revision=None,
        cache_dir=None,
        local_files_only=False,
        **habits,
    ):
        """Open the processor of a model folder or hub id.

        Args:
            model (str): folder or hub id, such as suno/bark-small.
            speaker_embeddings_dict_path (str): the file that lists the voices; None opens none. A voice's arrays are
                fetched when it is asked for.
            revision, cache_dir, local_files_only: as in the model's `from_pretrained`.
            **habits: what else transformers takes here: see docs/migration.md.

        Raises:
            InputError: if the folder has no usable tokenizer, or its list of voices is damaged.
        """
        model, _, _, left = opening(model, None, None, habits)
        for name in left:
            raise InputError(f"from_pretrained does not take {shown(name)}{nearest(name, ('revision', 'cache_dir'))}")
        folder = resolve(model, revision, cache_dir, local_files_only, weights=False)
        voices = None
        if speaker_embeddings_dict_path is not None:
            path = os.path.join(folder, speaker_embeddings_dict_path)
            if os.path.isfile(path):
                voices = check_voices(read_json(path), path) | {"repo_or_path": folder}
        made = cls(open_tokenizer(folder), voices)
        made._hub = folder.hub
        return made

    def save_pretrained(
        self,
        save_directory,
        speaker_embeddings_dict_path=VOICES,
        speaker_embeddings_directory=VOICES_FOLDER,
        **habits,
    ):
        """Write the tokenizer's files, and the voices, into a folder that transformers opens and that may be moved.

        Args:
            save_directory (str): where to write.
            speaker_embeddings_dict_path (str): the file that lists the voices.
            speaker_embeddings_directory (str): the folder of their arrays.
            **habits: what else transformers takes here: see docs/migration.md.

        Raises:
            InputError: if the folder cannot be written, or a voice cannot be had.
        """
        saving(habits)
        found = {name: self._load_voice_preset(name) for name in self.available_voice_presets}
        with whole_folder(save_directory) as partial:
            self.tokenizer.save_pretrained(partial)
        if self.speaker_embeddings is None:
            return
        # `whole_folder` moves files, not folders: the arrays are written where they stay, and the list of them last.
        listed = {"repo_or_path": "."}
        for name, preset in found.items():
            listed[name] = {}
            for key, values in preset.items():
                place = f"{speaker_embeddings_directory}/{name}_{key}.npy"
                path = os.path.join(save_directory, place)
                os.makedirs(os.path.dirname(path), exist_ok=True)
                np.save(path, values, allow_pickle=False)
                listed[name][key] = place
        with whole_file(os.path.join(save_directory, speaker_embeddings_dict_path)) as partial:
            Path(partial).write_text(json.dumps(listed), encoding="utf-8")

    @property
    def available_voice_presets(self):
        """The names of the voices: list of str."""
        return [name for name in self.speaker_embeddings or {} if name != "repo_or_path"]

    def __call__(
        self,
        text=None,
        voice_preset=None,
        return_tensors="ms",
        max_length=MAX_LENGTH,
        add_special_tokens=False,
        return_attention_mask=True,
        return_token_type_ids=False,
        is_split_into_words=False,
        **others,
    ):
        """Model inputs for texts.

        Args:
            text (str | Sequence[str]): what to say, in any of Bark's languages; or lists of words, with
                is_split_into_words=True. [laughs], [sighs], ♪, ... and CAPITALS are understood.
            voice_preset (str | dict | Sequence): a voice's name, such as v2/en_speaker_6, the path of an .npz file, or
                its three arrays; a list of these or None has one for each text.
            return_tensors (str): "ms" for mindspore.Tensor, "np" for NumPy arrays.
            max_length (int): texts are padded, or cut, to so many tokens.
            add_special_tokens (bool): put [CLS] and [SEP] around; Bark was trained without.
            return_attention_mask, return_token_type_ids (bool): what to return beside input_ids.
            is_split_into_words (bool): whether texts are lists of words.
            **others: padding and truncation, as is done in any case.

        Returns:
            transformers.BatchEncoding with input_ids and attention_mask, [B, max_length] int32 each, and, with a voice,
            history_prompt: a dict of semantic_prompt, coarse_prompt and fine_prompt, or a list of them.

        Raises:
            InputError: naming the text or voice, what is wrong and what would be right.
        """
        for name, value in others.items():
            if name not in ("padding", "truncation") or value is False:
                raise InputError(f"the processor does not take {shown(name)}{nearest(name, ('voice_preset', 'text'))}")
        if str(return_tensors) not in ("ms", "np"):
            raise InputError(
                f'return_tensors is {shown(return_tensors)}; expected "ms", as when it is left out, or "np"'
            )
        whole_number("max_length", max_length, 1)
        texts = as_texts(text, is_split_into_words)
        for one in texts:
            self._warn_if_long(one, max_length, add_special_tokens, is_split_into_words)
        found = self.tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=max_length,
            add_special_tokens=add_special_tokens,
            return_token_type_ids=return_token_type_ids,
            is_split_into_words=is_split_into_words,
        )
        names = ["input_ids"] + ["attention_mask"] * return_attention_mask + ["token_type_ids"] * return_token_type_ids
        made = {name: np.asarray(found[name], np.int32) for name in names}
        if voice_preset is not None:
            made["history_prompt"] = self._presets(voice_preset, len(texts))
        return BatchEncoding({name: _as_tensors(values, return_tensors) for name, values in made.items()})

    def _warn_if_long(self, text, max_length, special, split):
        """Say what is lost of a text that exceeds what the model reads."""
        ids = self.tokenizer(text, add_special_tokens=special, is_split_into_words=split, verbose=False)["input_ids"]
        if len(ids) > max_length:
            lost = self.tokenizer.decode(ids[max_length:])
            warnings.warn(
                f"the text has {len(ids)} tokens and Bark reads {max_length}: its end is cut off, "
                f"from {lost if len(lost) <= 60 else lost[:57] + '...'!r} on; longer texts are spoken in parts",
                stacklevel=3,
            )

    def _presets(self, voice, rows):
        """One preset, or a list of them with one for each text."""
        if not isinstance(voice, (list, tuple)):
            return self.preset(voice)
        if len(voice) != rows:
            raise InputError(f"voice_preset has {len(voice)} entries for {rows} texts; give one, or one for each text")
        return [None if one is None else self.preset(one) for one in voice]

    def preset(self, voice):
        """The three arrays of a voice.

        Args:
            voice (str | dict): its name, the path of an .npz file, or the arrays.

        Returns:
            dict of numpy.ndarray, int32.

        Raises:
            InputError: if there is no such voice, or what is there is no preset.
        """
        if hasattr(voice, "keys"):
            return presets.checked(voice, "voice_preset")
        if not isinstance(voice, (str, os.PathLike)):
            raise InputError(f"voice_preset is {shown(voice)}; expected a name, the path of an .npz file, or a dict")
        name = os.fspath(voice)
        if name in self.available_voice_presets:
            return self._load_voice_preset(name)
        if os.path.isfile(name) or os.path.isfile(f"{name}.npz") or name.endswith(".npz"):
            return presets.open_preset(name)
        known = self.available_voice_presets
        some = f"this model has {len(known)}, such as {_best(known)}" if known else "this model has none by name"
        raise InputError(f"voice preset {shown(name)} is not known; {some}; or give an .npz file{nearest(name, known)}")

    def _load_voice_preset(self, name):
        """The arrays of a voice of the list, fetched if they are not here."""
        arrays = {}
        for key, place in self.speaker_embeddings[name].items():
            path = os.path.join(self.speaker_embeddings.get("repo_or_path", ""), place)
            if not os.path.isfile(path) and self._hub:
                path = self._fetch(name, place)
            arrays[key] = presets.read_arrays(path)
        return presets.checked(arrays, f"voice preset {name}")

    def _fetch(self, name, place):
        """One file of a voice from the hub."""
        from huggingface_hub import hf_hub_download

        try:
            return hf_hub_download(filename=place, **self._hub)
        except Exception as error:  # each version of the hub library raises its own network errors
            raise InputError(
                f"voice preset {shown(name)} cannot be fetched ({type(error).__name__}); give an .npz file, or a local "
                "folder that has it"
            ) from error

    def decode(self, token_ids, **options):
        """The text of token ids; options are those of the tokenizer's `decode`."""
        ids = token_ids.asnumpy() if hasattr(token_ids, "asnumpy") else token_ids
        return self.tokenizer.decode(np.asarray(ids).tolist(), **options)

    def batch_decode(self, sequences, **options):
        """The texts of token ids [B, n]; options are those of the tokenizer's `batch_decode`."""
        ids = sequences.asnumpy() if hasattr(sequences, "asnumpy") else sequences
        return self.tokenizer.batch_decode(np.asarray(ids).tolist(), **options)


def as_texts(text, is_split_into_words=False):
    """A call's texts as a list.

    Raises:
        InputError: if one is empty or no text.
    """
    if text is None:
        raise InputError("the processor needs a text; give what is to be said, such as 'Hello, my dog is cute'")
    if isinstance(text, str) or is_split_into_words and isinstance(text, (list, tuple)) and _all_words(text):
        text = [text]
    if not isinstance(text, (list, tuple)) or not text:
        raise InputError(f"text is {shown(text)}; expected a text, or a list of texts")
    for one in text:
        if is_split_into_words:
            if not isinstance(one, (list, tuple)) or not one or not _all_words(one):
                raise InputError(f"a text is {shown(one)}; with is_split_into_words expected a list of words")
        elif not isinstance(one, str):
            raise InputError(f"a text is {shown(one)}; expected a string; for words give is_split_into_words=True")
        words = " ".join(one) if is_split_into_words else one
        if not words.strip():
            raise InputError("the text is empty; give at least one word")
        check_words("the text", words)
    return list(text)


def _all_words(values):
    return all(isinstance(value, str) for value in values)


def _best(known):
    return "v2/en_speaker_6" if "v2/en_speaker_6" in known else known[0]


def _as_tensors(values, kind):
    if isinstance(values, dict):
        return {name: _as_tensors(one, kind) for name, one in values.items()}
    if isinstance(values, list):
        return [_as_tensors(one, kind) for one in values]
    if values is None or kind == "np":
        return values
    from mindspore import Tensor

    return Tensor(values)


def check_voices(values, path):
    """A folder's list of voices, with paths that stay inside the folder.

    Raises:
        InputError: naming the voice.
    """
    for name, places in values.items():
        if name == "repo_or_path":
            continue
        if not isinstance(places, dict) or set(places) != set(presets.KEYS) or ".." in name.split("/"):
            raise InputError(f"{path} lists the voice {clip(name)!r} without {', '.join(presets.KEYS)}; fetch it again")
        for place in places.values():
            inside = isinstance(place, str) and not os.path.isabs(place) and ".." not in place.split("/")
            if not inside or "\0" in place or "\\" in place:
                raise InputError(f"{path} lists the voice {clip(name)!r} at a place outside the folder; fetch it again")
    return values
