"""The T5 tokenizer of a model folder, the same in every version of transformers.

Where there is a tokenizer.json, it alone decides how a text is split; version 5 of transformers would build another one
from its vocabulary. Nothing here asks for, or runs, code that a folder names.
"""

import contextlib
import os

from tokenizers import Tokenizer

from .checkpoint.config_file import quiet_transformers
from .checkpoint.json_file import read_json
from .errors import InputError, clip
from .runtime.quiet import unadvised

with unadvised():
    from transformers import PreTrainedTokenizerFast

JSON, SENTENCEPIECE, SETTINGS = "tokenizer.json", "spiece.model", "tokenizer_config.json"
SPECIAL = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
MAX_BYTES = 64_000_000  # T5's have 2.4 MB


class T5TokenizerFast(PreTrainedTokenizerFast):
    """transformers' tokenizer around a tokenizer.json, saved under the name of T5's."""

    model_input_names = ["input_ids", "attention_mask"]
    folder = ""  # where it was opened

    def __call__(self, *arguments, **options):
        with usable(self.folder):  # a damaged vocabulary may show at some text only
            return super().__call__(*arguments, **options)


def open_tokenizer(folder):
    """The tokenizer of a folder.

    Args:
        folder (str): with tokenizer.json, or spiece.model.

    Returns:
        transformers.PreTrainedTokenizerFast

    Raises:
        InputError: if there is neither, or what is there is damaged.
    """
    name = next((name for name in (JSON, SENTENCEPIECE) if os.path.isfile(os.path.join(folder, name))), None)
    if name is None:
        raise InputError(f"{folder} has no tokenizer: expected {JSON} or {SENTENCEPIECE} beside config.json")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    path, settings = os.path.join(folder, name), os.path.join(folder, SETTINGS)
    found = read_json(settings) if os.path.isfile(settings) else {}
    with usable(folder):
        if os.path.getsize(path) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        return _from_json(path, found) if name == JSON else _from_sentencepiece(folder)


@contextlib.contextmanager
def usable(folder):
    """Put into a sentence what a damaged tokenizer raises, when it is opened or used."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit, InputError):
        raise
    except BaseException as error:  # the library in Rust panics, which is no Exception
        reason = clip(f"{type(error).__name__}: {error}".splitlines()[0], 100)
        raise InputError(f"the tokenizer in {folder} cannot be used ({reason}); download it again") from error


def _from_json(path, settings):
    backend, special = Tokenizer.from_file(path), {}
    for name, usual in SPECIAL.items():
        token = settings.get(name) or usual
        token = token.get("content") if isinstance(token, dict) else token
        if not isinstance(token, str) or backend.token_to_id(token) is None:
            raise ValueError(f"it has no {name} {token!r}")
        special[name] = token
    backend.no_padding()
    backend.no_truncation()
    made = T5TokenizerFast(tokenizer_object=backend, padding_side="right", extra_ids=0, **special)
    made.folder = os.path.dirname(path)
    made.vocab_file = os.path.join(os.path.dirname(path), SENTENCEPIECE)  # kept beside it when saved, if it is there
    return made


def _from_sentencepiece(folder):
    from transformers import T5TokenizerFast as FromSentencePiece

    with quiet_transformers():
        return FromSentencePiece.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
