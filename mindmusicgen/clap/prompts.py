"""Prompts as tokens: RoBERTa's byte-level BPE, from the tokenizer's files in a model folder."""

import os

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from ..checkpoint.json_file import read_json
from ..errors import InputError, shown
from ..runtime.telling import tell
from ..tokenizer import JSON, MAX_BYTES, SETTINGS, usable

BEGIN, END = "<s>", "</s>"
SHORTEST, LONGEST = 16, 512  # tokens; texts are padded to powers of two from the first, so that few graphs serve all
LIMIT_OF_ALL = 1 << 20  # what a tokenizer that knows no limit writes is far more


class PromptTokenizer:
    """Texts to tokens.

    Args:
        folder (str): with tokenizer.json, or vocab.json and merges.txt.
        room (int): tokens that the text encoder has positions for.
        pad (int): the id that fills up.

    Raises:
        InputError: if files are missing or damaged.
    """

    def __init__(self, folder, room=LONGEST, pad=1):
        self.folder, self.pad = str(folder), pad
        settings = os.path.join(self.folder, SETTINGS)
        stated = read_json(settings).get("model_max_length") if os.path.isfile(settings) else None
        self.longest = min(stated, room) if type(stated) is int and 2 < stated < LIMIT_OF_ALL else room
        with usable(self.folder):
            self.backend = _backend(self.folder)
            self.backend.no_padding()
            self.backend.no_truncation()
            empty = self.backend.encode("").ids
        if len(empty) != 2:
            raise InputError(
                f"the tokenizer in {self.folder} does not put a text between <s> and </s>; expected RoBERTa's"
            )

    def __call__(self, text):
        """The tokens of a text, cut to the longest that the model takes, of which a line tells.

        Args:
            text (str): any.

        Returns:
            numpy.ndarray, numpy.ndarray: ids and their mask, [1, T] int32 each, T a bucket.
        """
        with usable(self.folder):
            ids = self.backend.encode(text).ids
        if len(ids) > self.longest:
            tell(f"the prompt {shown(text)} has {len(ids)} tokens; the first {self.longest} count", error=True)
            ids = ids[: self.longest - 1] + ids[-1:]
        room = SHORTEST
        while room < len(ids):
            room *= 2
        room = max(min(room, self.longest), len(ids))
        padded = np.full((1, room), self.pad, np.int32)
        padded[0, : len(ids)] = ids
        return padded, (np.arange(room) < len(ids)).astype(np.int32)[None]


def _backend(folder):
    path = os.path.join(folder, JSON)
    if os.path.isfile(path):
        if os.path.getsize(path) > MAX_BYTES:
            raise ValueError(f"larger than {MAX_BYTES} bytes")
        return Tokenizer.from_file(path)
    files = [os.path.join(folder, name) for name in ("vocab.json", "merges.txt")]
    if not all(map(os.path.isfile, files)):
        raise InputError(f"{folder} has no tokenizer: expected {JSON}, or vocab.json and merges.txt")
    made = Tokenizer(models.BPE.from_file(*files))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    begin, end = (made.token_to_id(token) for token in (BEGIN, END))
    if begin is None or end is None:
        raise ValueError(f"it has no {BEGIN} or no {END}")
    made.post_processor = processors.RobertaProcessing((END, end), (BEGIN, begin), add_prefix_space=False)
    return made
