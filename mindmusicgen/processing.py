"""From a prompt to model inputs: the T5 tokenizer of the transformers library behind the processor's names."""

import os
import warnings

import numpy as np

from .checkpoint.source import resolve
from .errors import InputError

MAX_TOKENS = 512  # what T5 was trained on


class MusicgenProcessor:
    """Turns prompts into `input_ids` and `attention_mask`.

    Args:
        tokenizer (transformers.PreTrainedTokenizerBase): a T5 tokenizer.
    """

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer

    @classmethod
    def from_pretrained(cls, model, revision=None, cache_dir=None, local_files_only=False):
        """Open the processor of a model folder or hub id.

        Raises:
            InputError: if the folder has no usable tokenizer.
        """
        folder = resolve(model, revision, cache_dir, local_files_only)
        wanted = ("tokenizer.json", "spiece.model")
        if not any(os.path.isfile(os.path.join(folder, name)) for name in wanted):
            raise InputError(f"{folder} has no tokenizer: expected {' or '.join(wanted)} beside config.json")
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
        from transformers import AutoTokenizer

        try:
            return cls(AutoTokenizer.from_pretrained(folder, local_files_only=True))
        except Exception as error:  # each tokenizer library raises its own errors for damaged files
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise InputError(f"the tokenizer in {folder} cannot be used ({reason}); download it again") from error

    def save_pretrained(self, folder):
        """Write the tokenizer's files into a folder."""
        self.tokenizer.save_pretrained(folder)

    def __call__(self, text=None, audio=None, padding=True, return_tensors="ms"):
        """Tokenise prompts.

        Args:
            text (str | Sequence[str]): one prompt or several.
            audio: audio prompts are not supported yet.
            padding (bool): pad to the longest prompt, on the right.
            return_tensors (str): "ms" for mindspore.Tensor, "np" for NumPy arrays.

        Returns:
            transformers.BatchEncoding with input_ids and attention_mask, both [B, S].

        Raises:
            InputError: for an empty prompt, or anything that is not text.
        """
        if audio is not None:
            raise InputError("audio prompts are not supported in this version; give text")
        if return_tensors not in ("ms", "np"):
            raise InputError(f'return_tensors is {return_tensors!r}; expected "ms" or "np"')
        prompts = list(text) if isinstance(text, (list, tuple)) else [text]
        if not prompts:
            raise InputError("text is an empty list; give a prompt such as '80s pop track with bassy drums and synth'")
        for prompt in prompts:
            if not isinstance(prompt, str) or not prompt.strip():
                raise InputError(f"a prompt is {prompt!r}; expected some words that describe the music")
            self._warn_if_long(prompt)
        encoded = self.tokenizer(prompts, padding=padding, truncation=True, max_length=MAX_TOKENS)
        lengths = {len(ids) for ids in encoded["input_ids"]}
        if len(lengths) > 1:
            raise InputError("the prompts differ in length; call the processor with padding=True")
        for name in ("input_ids", "attention_mask"):
            encoded[name] = _tensor(np.asarray(encoded[name], np.int32), return_tensors)
        return encoded

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

    def batch_decode(self, audio):
        """Audio of `generate` as a list of NumPy arrays, one [channels, samples] per prompt."""
        values = audio.asnumpy() if hasattr(audio, "asnumpy") else np.asarray(audio)
        return list(values)


AutoProcessor = MusicgenProcessor


def _tensor(array, kind):
    if kind == "np":
        return array
    from mindspore import Tensor

    return Tensor(array)
